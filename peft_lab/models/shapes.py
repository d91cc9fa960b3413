"""The shape of a model as plain data: its modules, the size of each parameter, the role of each matrix.

It holds everything a closed formula or a drawing needs, without torch. A shape is read once from a model on the meta
device (:mod:`peft_lab.models.meta`), stored beside the model's config, and rebuilt here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from peft_lab.models import structure as experts
from peft_lab.models.structure import MATRIX_TYPES, PARAMETER, Mixture, ModuleGroup, Role, is_bias

__all__ = [
    "CLASSIFIERS", "KIND_NAMES", "MATRIX_TYPES", "PARAMETER", "Match", "Mixture", "ModelKind", "ModelShape",
    "ModuleGroup", "Role", "a_model", "from_dict", "is_bias", "to_dict",
]  # fmt: skip
ModelKind = Literal["causal-lm", "encoder", "seq2seq", "vision"]
#: What a sentence calls a model of each kind.
KIND_NAMES: Mapping[str, str] = {
    "causal-lm": "decoder", "encoder": "encoder", "seq2seq": "encoder-decoder",
    "vision": "model that reads images",
}  # fmt: skip
#: The kinds that are trained with a classification head: models of text and of images.
CLASSIFIERS: tuple[ModelKind, ...] = ("encoder", "vision")


def a_model(kind: str) -> str:
    """Return a kind's name with its article, such as ``an encoder``."""
    name = KIND_NAMES[kind]
    return f"{'an' if name[0] == 'e' else 'a'} {name}"


@dataclass(frozen=True)
class Match:
    """The groups that a list of target names matches. ``unmatched`` holds the names that match nothing."""

    groups: tuple[ModuleGroup, ...]
    unmatched: tuple[str, ...]


@dataclass(frozen=True)
class ModelShape:
    """One model as data. Sizes are numbers of entries, never bytes.

    Attributes:
        hidden: width of the residual stream (``hidden_size``).
        heads, kv_heads, head_dim: of the attention; 0 where a model carries a state instead (Mamba, RWKV).
        kv_width: width of one token's keys (or values): kv_heads x head_dim.
        max_positions: the longest sequence the model has positions for; ``None`` without a fixed limit (T5). An image
            always uses all of them: one per patch, and those of the class token and the like.
        vocab: size of the vocabulary; 0 for models of images.
        mixtures: its feed-forward parts that are mixtures of experts.
        renamed: names of linear maps that PEFT's LoRA treats as parameters of the router or the experts, because they
            had these names before the experts were stacked: old name to the ending of the parameter's path.

    Llama 3.2 3B has 24 query heads but only 8 key and value heads, so these maps are narrower:

    >>> from peft_lab.models.catalogue import get_model
    >>> shape = get_model("llama-3.2-3b").shape
    >>> shape.total, shape.hidden, shape.kv_width
    (3212749824, 3072, 1024)
    >>> shape.target_names
    ('q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj')
    >>> shape.match(["v_proj", "no_such_map"]).unmatched
    ('no_such_map',)
    """

    name: str
    title: str
    kind: ModelKind
    model_type: str
    hidden: int
    num_layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_positions: int | None
    activation: str
    groups: tuple[ModuleGroup, ...]
    mixtures: tuple[Mixture, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def kv_width(self) -> int:
        """The width of a token's keys, and of its values: heads times head size."""
        return self.kv_heads * self.head_dim

    @cached_property
    def total(self) -> int:
        """The number of parameters, tied ones counted once."""
        return sum(group.each * group.count for group in self.groups)

    @cached_property
    def biases(self) -> tuple[tuple[ModuleGroup, str], ...]:
        """All parameters whose name marks them as a bias (:func:`is_bias`), each with its group."""
        return tuple((group, name) for group in self.groups for name in group.parameters if is_bias(name))

    @cached_property
    def block(self) -> dict[Role, ModuleGroup]:
        """The matrices of the repeated block, by role; in encoder-decoder models those of the encoder."""
        found: dict[Role, ModuleGroup] = {}
        for group in self.groups:
            if group.role and group.role not in found:
                found[group.role] = group
        return found

    @cached_property
    def matrices(self) -> tuple[ModuleGroup, ...]:
        """The linear maps that PEFT's ``all-linear`` adapts: all but the output layer."""
        return tuple(group for group in self.groups if group.is_matrix and not _is_output(group))

    @cached_property
    def bare(self) -> tuple[ModuleGroup, ...]:
        """The matrices of routers and stacked experts that are not linear maps, each as a group: (expert, out, in)."""
        found = []
        for mixture in self.mixtures:
            for group in self.groups:
                inside = group.path in mixture.stacks or group.path == mixture.router
                if not inside or group.is_matrix or group.layers != mixture.layers:
                    continue
                for name, sides in group.parameters.items():
                    if len(sides) < 2 or name.endswith("bias"):
                        continue
                    flip = len(sides) == 3 and mixture.transposed
                    weight = (sides[0], sides[2], sides[1]) if flip else sides
                    found.append(
                        ModuleGroup(f"{group.path}.{name}", PARAMETER, group.layers, {"weight": weight})
                    )
        return tuple(found)

    def mixture_of(self, group: ModuleGroup) -> Mixture | None:
        """Return the mixture that a group is a part of, or ``None``."""
        return next((mixture for mixture in self.mixtures if mixture.holds(group.path, group.layers)), None)

    def target_name(self, group: ModuleGroup) -> str:
        """Return the shortest suffix of a group's path that names it alone, or the longest suffix if none does.

        PEFT compares path endings, so BERT's ``output.dense`` also matches ``attention.output.dense``; no suffix avoids
        that, and :meth:`match` shows it to the caller.
        """
        tail = group.path.split("{}.")[-1].split(".")
        for length in range(1, len(tail) + 1):
            name = ".".join(tail[-length:])
            hits = self._ending(name)
            if all(hit.role == group.role and hit.path.split(".")[-1] == tail[-1] for hit in hits):
                return name
        return ".".join(tail)

    @cached_property
    def target_names(self) -> tuple[str, ...]:
        """The names offered as targets: the block's matrices, in reading order."""
        order = ("latent", "q", "k", "v", "qkv", "kv", "o", "gate", "up", "down")
        inside = sorted((g for g in self.matrices if g.role), key=lambda g: order.index(str(g.role)))
        names = [self.target_name(group) for group in inside]
        names += [self.target_name(group) for group in self.matrices if group.layers and not group.role]
        return tuple(dict.fromkeys(names))

    def _ending(self, name: str) -> tuple[ModuleGroup, ...]:
        return tuple(group for group in self.groups if group.ends(name))

    def match(self, targets: Iterable[str] | str, layers: Iterable[int] | None = None) -> Match:
        """Return the modules PEFT adapts for these names: those whose path equals a name, or ends in it after a dot.

        ``"all-linear"`` stands for every linear map but the output layer. A string is a regular expression of the whole
        path, as in PEFT. ``layers`` restricts the matches to those layer indices (``layers_to_transform``).
        """
        if targets == "all-linear" or list(targets) == ["all-linear"]:
            return Match(self._restrict(self.matrices, layers), ())
        if isinstance(targets, str):
            hits = [g for g in self.groups if any(re.fullmatch(targets, path) for path in g.paths)]
            return Match(self._restrict(hits, layers), () if hits else (targets,))
        found: set[int] = set()
        missing: list[str] = []
        for name in targets:
            named = self._ending(name)
            found.update(id(group) for group in named)
            if not named:
                missing.append(name)
        unique = [group for group in self.groups if id(group) in found]
        return Match(self._restrict(unique, layers), tuple(missing))

    @staticmethod
    def _restrict(groups: Iterable[ModuleGroup], layers: Iterable[int] | None) -> tuple[ModuleGroup, ...]:
        if layers is None:
            return tuple(groups)
        wanted = set(layers)
        kept = []
        for group in groups:
            indices = tuple(index for index in group.layers if index in wanted)
            if indices:
                kept.append(replace(group, layers=indices))
        return tuple(kept)


def _is_output(group: ModuleGroup) -> bool:
    return group.path in ("lm_head", "embed_out", "head", "classifier", "score", "cls.predictions.decoder")


def from_dict(data: Mapping[str, Any]) -> ModelShape:
    """Rebuild a shape from its stored form (see :func:`to_dict`)."""
    groups = tuple(
        ModuleGroup(
            path=row["path"],
            type=row["type"],
            layers=tuple(range(row["layers"])) if isinstance(row["layers"], int) else tuple(row["layers"]),
            parameters={name: tuple(shape) for name, shape in row["parameters"].items()},
            tied=tuple(row.get("tied", ())),
            linear=row.get("linear", False),
        )
        for row in data["groups"]
    )
    mixtures = experts.experts_from_rows(data.get("mixtures", ()))
    return ModelShape(**{**data, "groups": groups, "mixtures": mixtures})


def to_dict(shape: ModelShape) -> dict[str, Any]:
    """Return the stored form; layer indices 0..n-1 are written as n."""
    rows = []
    for group in shape.groups:
        contiguous = bool(group.layers) and group.layers == tuple(range(len(group.layers)))
        row: dict[str, Any] = {
            "path": group.path,
            "type": group.type,
            "layers": len(group.layers) if contiguous else list(group.layers),
            "parameters": {name: list(dims) for name, dims in group.parameters.items()},
        }
        if group.tied:
            row["tied"] = list(group.tied)
        if group.linear:
            row["linear"] = True
        rows.append(row)
    stored: dict[str, Any] = {
        name: getattr(shape, name)
        for name in shape.__dataclass_fields__
        if name not in ("groups", "mixtures", "renamed")
    }
    stored["groups"] = rows
    if shape.mixtures:
        stored["mixtures"] = experts.experts_to_rows(shape.mixtures)
    if shape.renamed:
        stored["renamed"] = dict(shape.renamed)
    return stored


# ----------------------------------------
# Recognise the parameters of a task head that transformers adds to a model.


HEADS = ("classifier", "score")


def in_head(name: str) -> bool:
    """Whether a parameter or module belongs to a task head that transformers puts on a model.

    By the ending, as PEFT decides what to save whole: DistilBERT's ``pre_classifier`` is part of its head.
    """
    return any(part.endswith(HEADS) for part in name.split("."))
