"""Hold a model's shape as plain data: its modules, grouped over the layers, each parameter's size, each matrix's role.

It holds everything a closed formula or a drawing needs, without torch. A shape is read once from a model on the meta
device (:mod:`peft_lab.models.meta`), stored beside the model's config, and rebuilt here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from peft_lab.core.content import read_entry

# latent: the compressing maps of multi-head latent attention, before q and kv.
Role = Literal["q", "k", "v", "qkv", "kv", "latent", "o", "gate", "up", "down"]

# By last path segments. The longest suffix wins, so that BERT's two `output.dense` are told apart.
_ROLE_SUFFIXES: dict[str, Role] = {
    suffix: role
    for role, suffixes in read_entry(
        Path(__file__).with_name("roles.yaml"), dict[Role, tuple[str, ...]]
    ).items()
    for suffix in suffixes
}
MATRIX_TYPES = ("Linear", "Conv1D")
PARAMETER = "Parameter"  # type of a bare parameter that forms a group of its own


@dataclass(frozen=True)
class ModuleGroup:
    """Modules that differ only in their layer index.

    Attributes:
        path: dotted path with ``{}`` for the layer index, or a plain path if there is only one.
        type: class name, such as ``Linear``, ``Conv1D``, ``Embedding``, ``LayerNorm``.
        layers: the indices of the layers that have it; empty for a module outside the layers.
        parameters: own parameters by name, each with its shape in torch's order.
        tied: names of parameters that another module shares and that are counted there.
        linear: whether the class is a linear map despite its name (Falcon's, Llama 4's router).

    GPT-2 stores its matrices transposed, (in, out):

    >>> up = ModuleGroup("h.{}.mlp.c_fc", "Conv1D", (0, 1), {"weight": (768, 3072), "bias": (3072,)})
    >>> up.in_features, up.out_features, up.bias, up.count
    (768, 3072, 3072, 2)
    >>> up.paths
    ('h.0.mlp.c_fc', 'h.1.mlp.c_fc')
    """

    path: str
    type: str
    layers: tuple[int, ...]
    parameters: Mapping[str, tuple[int, ...]]
    tied: tuple[str, ...] = ()
    linear: bool = False

    @property
    def is_matrix(self) -> bool:
        """Return whether it is a linear map, which PEFT adapts by the module's name."""
        return self.type in MATRIX_TYPES or self.linear

    @property
    def stacked(self) -> int:
        """Return the number of matrices of this size in one parameter: the experts of a stack, else 1."""
        weight = self.parameters.get("weight", ())
        return weight[0] if self.type == PARAMETER and len(weight) == 3 else 1

    @property
    def count(self) -> int:
        """Return the number of modules in the group."""
        return len(self.layers) or 1

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the modules' paths, with the layer index filled in."""
        return tuple(self.path.replace("{}", str(index)) for index in self.layers) or (self.path,)

    def ends(self, name: str) -> bool:
        """Return whether any of the modules' paths equals this name, or ends in it after a dot.

        Pages call this thousands of times per drawing, so layers that all answer alike are not checked one by one:

        >>> up = ModuleGroup("h.{}.mlp.c_fc", "Conv1D", tuple(range(80)), {"weight": (768, 3072)})
        >>> up.ends("c_fc"), up.ends("fc"), up.ends("79.mlp.c_fc"), up.ends("80.mlp.c_fc")
        (True, False, True, False)
        """
        last = self.path.rpartition(".")[2]
        if "{}" not in last and not name.endswith(last):
            return False
        tail, ending = self.path.rpartition("{}")[2], "." + name
        if len(ending) <= len(tail):
            return tail.endswith(ending)
        return any(path == name or path.endswith(ending) for path in self.paths)

    @property
    def in_features(self) -> int:
        """Return the number of inputs. ``Conv1D`` (GPT-2) stores (in, out), ``Linear`` (out, in), ``Embedding`` (rows,
        dim); ``Conv2d``, which reads an image's patches, (out, channels, height, width)."""
        weight = self.parameters["weight"]
        if self.type == "Conv2d":
            return math.prod(weight[1:])
        return weight[0] if self.type in ("Conv1D", "Embedding") else weight[-1]

    @property
    def out_features(self) -> int:
        """Return the number of outputs of a map, or the width of an embedding."""
        weight = self.parameters["weight"]
        if self.type == "Conv2d":
            return weight[0]
        return weight[1] if self.type in ("Conv1D", "Embedding") else weight[-2]

    @property
    def bias(self) -> int:
        """Return the number of entries of the bias, 0 without one."""
        return math.prod(self.parameters.get("bias", (0,)))

    @property
    def each(self) -> int:
        """Return the number of parameters of one of the modules, without tied ones."""
        return sum(math.prod(shape) for name, shape in self.parameters.items() if name not in self.tied)

    @cached_property
    def role(self) -> Role | None:
        """Return the matrix's role in its block, from its name; ``None`` outside blocks and for other modules."""
        if not self.layers or not (self.is_matrix or self.type == PARAMETER):
            return None
        hits = [suffix for suffix in _ROLE_SUFFIXES if self.path.endswith("." + suffix)]
        return _ROLE_SUFFIXES[max(hits, key=len)] if hits else None

    @property
    def is_norm(self) -> bool:
        """Return whether the name of its type contains "norm"."""
        return "norm" in self.type.lower()


def is_bias(parameter: str) -> bool:
    """Return whether a parameter is a bias by its own name: ``bias``, or ``down_proj_bias`` of stacked experts. T5's
    ``relative_attention_bias`` is a module, not a bias."""
    own = parameter.rpartition(".")[2]
    return own == "bias" or own.endswith("_bias")


# ----------------------------------------
# Mixtures of experts: feed-forward parts of which a router picks a few for every token.
#
# transformers stores the experts of a layer in stacked parameters, one slice per expert. These are not linear maps
# (``nn.Linear``), so methods that adapt linear maps by name do not find them.


_ONE_OF_A_LIST = re.compile(r"^(?P<block>.+)\.experts\.(?:expert_)?(?P<number>\d+)\.")


@dataclass(frozen=True)
class Mixture:
    """The experts of all layers that store them in the same form.

    Attributes:
        path: of the feed-forward part that holds router and experts, with ``{}`` for the layer index.
        layers: the indices of the layers that have it; other layers have a plain feed-forward part.
        experts: how many the router chooses from.
        per_token: how many it chooses; ``None`` if the config does not state it.
        stacks: modules that hold the stacked parameters; empty if each expert is a module of its own.
        router: module that holds the router's matrix; ``None`` if it is not known by name.
        shared: linear maps of the expert that every token passes through.
        transposed: whether a stack stores (expert, in, out) rather than (expert, out, in).
    """

    path: str
    layers: tuple[int, ...]
    experts: int
    per_token: int | None
    stacks: tuple[str, ...]
    router: str | None = None
    shared: tuple[str, ...] = ()
    transposed: bool = False

    def holds(self, path: str, layers: Iterable[int]) -> bool:
        """Return whether modules of that path and layers belong to it; other layers may have plain ones there."""
        return path.startswith(f"{self.path}.") and set(layers) <= set(self.layers)

    @property
    def chosen(self) -> str:
        """Return the router's choice as text: ``8 experts, 2 used per token``."""
        used = f", {self.per_token} used per token" if self.per_token else ""
        return f"{self.experts} experts{used}"


def is_expert_stack(type_: str, parameters: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether a module stacks matrices, one per expert. A convolution's weight has three axes too."""
    return not type_.startswith("Conv") and any(len(shape) == 3 for shape in parameters.values())


def listed_experts(path: str) -> tuple[str, int] | None:
    """Return mixture and number of an expert that is a module of its own, from the path of one of its modules."""
    found = _ONE_OF_A_LIST.match(path)
    return (found["block"], int(found["number"])) if found else None


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
        """Return the width of a token's keys, and of its values: heads times head size."""
        return self.kv_heads * self.head_dim

    @cached_property
    def total(self) -> int:
        """Return the number of parameters, tied ones counted once."""
        return sum(group.each * group.count for group in self.groups)

    @cached_property
    def biases(self) -> tuple[tuple[ModuleGroup, str], ...]:
        """Return all parameters whose name marks them as a bias (:func:`is_bias`), each with its group."""
        return tuple((group, name) for group in self.groups for name in group.parameters if is_bias(name))

    @cached_property
    def block(self) -> dict[Role, ModuleGroup]:
        """Return the matrices of the repeated block, by role; in encoder-decoder models those of the encoder."""
        found: dict[Role, ModuleGroup] = {}
        for group in self.groups:
            if group.role and group.role not in found:
                found[group.role] = group
        return found

    @cached_property
    def matrices(self) -> tuple[ModuleGroup, ...]:
        """Return the linear maps that PEFT's ``all-linear`` adapts: all but the output layer."""
        return tuple(group for group in self.groups if group.is_matrix and not _is_output(group))

    @cached_property
    def bare(self) -> tuple[ModuleGroup, ...]:
        """Return the matrices of routers and expert stacks that are not linear maps, as groups: (expert, out, in)."""
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
        """Return the names offered as targets: the block's matrices, in reading order."""
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

    def made(kind: Any, row: Mapping[str, Any]) -> Any:
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
        if kind is ModuleGroup:
            layers = row["layers"]
            given["layers"] = tuple(range(layers)) if isinstance(layers, int) else tuple(layers)
            given["parameters"] = {name: tuple(sides) for name, sides in row["parameters"].items()}
        return kind(**given)

    groups = tuple(made(ModuleGroup, row) for row in data["groups"])
    mixtures = tuple(made(Mixture, row) for row in data.get("mixtures", ()))
    return ModelShape(**{**data, "groups": groups, "mixtures": mixtures})


def to_dict(shape: ModelShape) -> dict[str, Any]:
    """Return the stored form; layer indices 0..n-1 are written as n, and what is empty in most models is left out."""
    stored = asdict(shape)
    for row in stored["groups"]:
        if row["layers"] and row["layers"] == tuple(range(len(row["layers"]))):
            row["layers"] = len(row["layers"])
        for name in ("tied", "linear"):
            if not row[name]:
                del row[name]
    return {name: value for name, value in stored.items() if value or name not in ("mixtures", "renamed")}


@dataclass(frozen=True)
class ModelEntry:
    """One model that can be named.

    Attributes:
        live: whether ``python -m peft_lab fetch`` fetches its weights, so that it can be trained here; for a model
            outside the catalogue, whether its weights were on this machine or could be fetched at look-up time.
        config: the transformers config as a dictionary, ``model_type`` included.
        source: Hugging Face id, and for live models the package that ships the weights.
        revision: the package version of a live model's weights; ``None`` for models known by shape only.
        fused_attention: whether transformers supports torch's fused attention for it; true for all live models.
        config_source: where the config was read, if not on the hub or in a folder.
        lacking: why it cannot be trained here, in one sentence; ``None`` if nothing is known to be missing.
    """

    name: str
    title: str
    kind: ModelKind
    live: bool
    config: Mapping[str, Any]
    shape: ModelShape
    source: str
    revision: str | None
    license: str
    fused_attention: bool = True
    config_source: str = ""
    lacking: str | None = None

    @property
    def parameters(self) -> int:
        """The number of parameters, shared ones counted once."""
        return self.shape.total


# ----------------------------------------
# Recognise the parameters of a task head that transformers adds to a model.


HEADS = ("classifier", "score")


def in_head(name: str) -> bool:
    """Return whether a parameter or module belongs to a task head that transformers puts on a model. By the ending, as
    PEFT decides what to save whole: DistilBERT's ``pre_classifier`` is part of its head."""
    return any(part.endswith(HEADS) for part in name.split("."))
