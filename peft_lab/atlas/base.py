"""Define what a type of the atlas declares; everything else is counted, simulated, probed or looked up.

A declaration is an entry of ``content/<family>.yaml``. It states what code cannot find out: the update as a formula,
the paper, usual settings, and when to use it. A closed form of the count is part of it if there is one, by its name in
:mod:`peft_lab.atlas.base`; tests compare it with PEFT's own count.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NewType

from peft_lab.core.content import read_entries
from peft_lab.core.errors import BadInput
from peft_lab.models.shapes import ModelShape, ModuleGroup, Role

# :data:`EACH`: parameters trained in one adapted module. :data:`ONCE`: those that exist once for the whole model.
# :data:`OF_MODEL`: a setting's value for one model. ``m`` is the module, ``c`` the type's config.


Settings = Mapping[str, Any]
Groups = tuple[ModuleGroup, ...]
Each = Callable[[ModuleGroup, Settings], int]
Once = Callable[[ModelShape, Groups, Settings], int]
OfModel = Callable[[ModelShape], Any]


def target_names(shape: ModelShape, roles: tuple[Role, ...]) -> tuple[str, ...]:
    """Return the names of the matrices with these roles; the fused one if it replaces queries, keys and values."""
    names = []
    for role in roles:
        group = shape.block.get(role) or (shape.block.get("qkv") if role in ("q", "k", "v") else None)
        if group is not None:
            short = role in ("q", "k", "v") and group.role != "qkv"
            names.append(group.path.rpartition(".")[2] if short else shape.target_name(group))
    return tuple(dict.fromkeys(names))


def _sides(m: ModuleGroup) -> int:
    return m.in_features + m.out_features


def _lokr(m: ModuleGroup, c: Settings) -> int:
    near = c.get("decompose_factor", -1)
    (out_small, out_large), (in_small, in_large) = (
        _factors(n, near) for n in (m.out_features, m.in_features)
    )
    rank = c["r"]
    second = rank * (out_large + in_large) if rank < max(out_large, in_large) / 2 else out_large * in_large
    return out_small * in_small + second


def _factors(size: int, factor: int = -1) -> tuple[int, int]:
    """Return two factors of a side, smaller first, as PEFT's LoKr chooses them: ``factor``, or near the root."""
    if factor > 0 and size % factor == 0:
        return min(factor, size // factor), max(factor, size // factor)
    limit = factor if factor != -1 else size
    best, large = 1, size
    while best < large:
        step = next((at for at in range(best + 1, large + 1) if size % at == 0), size)
        other = size // step
        if best + large < step + other or step > limit:
            break
        best, large = step, other
    return min(best, large), max(best, large)


def _osf(m: ModuleGroup, c: Settings) -> int:
    """Count the numbers of the trained singular directions: all but the preserved ones, given as a number or a share
    (half by default). The first ``rank_pattern`` that matches the module's path overrides it."""
    short = min(m.in_features, m.out_features)
    own = (rank for pattern, rank in (c.get("rank_pattern") or {}).items() if re.search(pattern, m.path))
    rank = next(own, c.get("effective_rank"))
    if rank is None:
        left = short - short // 2
    elif isinstance(rank, float) and rank <= 1:
        left = short - int(rank * short)
    else:
        left = short - min(short, int(rank))
    return left * (_sides(m) + 1)


def _randlora(m: ModuleGroup, c: Settings) -> int:
    short = min(m.in_features, m.out_features)
    return math.ceil(short / c["r"]) * (int(c["r"]) + short)


EACH: Mapping[str, Each] = {
    "adalora": lambda m, c: c["init_r"] * (_sides(m) + 1),
    "all_of_it": lambda m, c: m.each,
    "boft": lambda m, c: c["boft_n_butterfly_factor"] * m.in_features * c["boft_block_size"] + m.out_features,
    "c3a": lambda m, c: m.in_features * m.out_features // c["block_size"],
    "coefficients": lambda m, c: c["n_frequency"],
    "deft": lambda m, c: c["r"] * (m.out_features + (0 if c.get("para") else m.in_features)),
    "delora": lambda m, c: c["r"] * _sides(m) + 1,
    "dora": lambda m, c: c["r"] * _sides(m) + m.out_features,
    "ia3": lambda m, c: m.in_features if m.path.endswith(tuple(c["feedforward_modules"])) else m.out_features,
    "kasa": lambda m, c: c["r"] * (_sides(m) + 1),
    "loha": lambda m, c: 2 * c["r"] * _sides(m),
    "lokr": _lokr,
    "low_rank": lambda m, c: int(c["r"] * _sides(m)),
    "miss": lambda m, c: c["r"] * (c["mini_r"] if c.get("init_weights") == "mini" else m.out_features),
    "oft": lambda m, c: m.in_features * ((c["oft_block_size"] or m.in_features // c["r"]) - 1) // 2,
    "osf": _osf,
    "outputs": lambda m, c: m.out_features,
    "peanut": lambda m, c: 2 * c["r"] * m.out_features + 2 * c["depth"] * c["r"] ** 2,
    "poly": lambda m, c: c["n_skills"] * (c["r"] * _sides(m) + c["n_tasks"] * c["n_splits"]),
    "psoft": lambda m, c: c["r"] * (c["r"] - 1) // 2 + 2 * c["r"],
    "pvera": lambda m, c: 2 * c["r"] + m.out_features,
    "randlora": _randlora,
    "rank_inputs": lambda m, c: c["r"] * m.in_features,
    "road": lambda m, c: m.out_features * int(c["variant"][-1]),
    "supertuning": lambda m, c: int(m.in_features * m.out_features * (1 - c["sparsity"])),
    "vblora": lambda m, c: c["r"] * c["num_vectors"] * _sides(m) // c["vector_length"],
    "vera": lambda m, c: c["r"] + m.out_features,
}


def _soft_tokens(shape: ModelShape, c: Settings) -> int:
    """Count soft tokens: PEFT puts them before the encoder and the decoder of a model that has both."""
    return int(c["num_virtual_tokens"]) * (2 if shape.kind == "seq2seq" else 1)


def _multitask_prompt(shape: ModelShape, groups: Groups, c: Settings) -> int:
    tokens = _soft_tokens(shape, c)
    return tokens * shape.hidden + int(c["num_tasks"] * c["num_ranks"]) * (tokens + shape.hidden)


def _p_tuning(shape: ModelShape, groups: Groups, c: Settings) -> int:
    wide = int(c["encoder_hidden_size"])
    return _soft_tokens(shape, c) * shape.hidden + wide * (2 * shape.hidden + wide + 2) + shape.hidden


def _keys_and_values(shape: ModelShape, tokens: int) -> int:
    return 2 * shape.num_layers * shape.kv_width * tokens


def _gates(shape: ModelShape, groups: Groups, c: Settings) -> int:
    """Count a network from the last hidden state to a gate per adapter, 2,048 wide by default, as in PEFT."""
    wide = [shape.hidden, *[c.get("xlora_size", 2048)] * (c["xlora_depth"] - 1), len(c["adapters"])]
    return sum((into + 1) * out for into, out in itertools.pairwise(wide))


def _lily(shape: ModelShape, groups: Groups, c: Settings) -> int:
    """Count Lily's parameters: of matrices with one name and size, ``stride_A`` neighbours share an A, all the Bs."""
    layers: dict[tuple[str, int, int], int] = {}
    for m in groups:
        key = (m.path.rpartition(".")[2], m.in_features, m.out_features)
        layers[key] = layers.get(key, 0) + m.count
    rank, many = c["r"], c["num_B"]
    return sum(
        math.ceil(depth / c["stride_A"]) * rank * into + many * rank * (out + depth)
        for (_, into, out), depth in layers.items()
    )


def _tied_vectors(shape: ModelShape, groups: Groups, c: Settings) -> int:
    """Count the numbers in one vector per matrix, less the share of vectors tied to others'."""
    matrices = sum(group.count for group in groups)
    return max(1, round(matrices * (1.0 - c["weight_tying"]))) * int(c["u"])


ONCE: Mapping[str, Once] = {
    "adaption_prompt": lambda shape, groups, c: c["adapter_layers"] * (c["adapter_len"] * shape.hidden + 1),
    "bank": lambda shape, groups, c: c["num_vectors"] * c["vector_length"],
    "cartridge": lambda shape, groups, c: _keys_and_values(
        shape, c["num_virtual_tokens"] - c["num_frozen_tokens"]
    ),
    "context_prompt": lambda shape, groups, c: len(c["cpt_token_ids"]) * shape.hidden,
    "gates": _gates,
    "lily": _lily,
    "multitask_prompt": _multitask_prompt,
    "one_vector": lambda shape, groups, c: c["theta_d_length"],
    "p_tuning": _p_tuning,
    "prefix": lambda shape, groups, c: _keys_and_values(shape, c["num_virtual_tokens"]),
    "prompt": lambda shape, groups, c: _soft_tokens(shape, c) * shape.hidden,
    "tied_vectors": _tied_vectors,
    "token_rows": lambda shape, groups, c: len(c["token_indices"]) * shape.hidden,
}


def _bank_length(shape: ModelShape) -> int:
    """Return the largest power of two, at most 256, that divides all sides of queries' and values' matrices."""
    groups = [shape.block[role] for role in ("q", "v", "qkv") if role in shape.block]
    return math.gcd(256, *(side for group in groups for side in (group.in_features, group.out_features)))


def _blocks(shape: ModelShape) -> str:
    """Return a pattern for the repeated blocks, which ShadowPEFT wraps whole."""
    group = next(group for group in shape.groups if group.layers and "{}" in group.path)
    stem = group.path.split(".{}")[0].rpartition(".")[2]
    return rf".*\.{stem}\.\d+$"


def _common_side(shape: ModelShape) -> int:
    """Return the greatest common divisor of the adapted matrices' sides, as C3A's documentation advises."""
    groups = shape.match(target_names(shape, ("q", "v"))).groups
    return math.gcd(*(side for group in groups for side in (group.in_features, group.out_features)))


def _mixed_loras(shape: ModelShape) -> dict[str, Any]:
    """Return the settings of two LoRAs of rank 4 on queries and values; X-LoRA itself takes folders of trained ones."""
    return {str(at): {"r": 4, "target_modules": list(target_names(shape, ("q", "v")))} for at in range(2)}


def _norms(shape: ModelShape) -> list[str]:
    """Return the block's norms by the last part of their path; norms outside the block that share it come along."""
    names = [group.path.rpartition(".")[2] for group in shape.groups if group.is_norm and group.layers]
    return list(dict.fromkeys(names))


OF_MODEL: Mapping[str, OfModel] = {
    "bank_length": _bank_length,
    "blocks": _blocks,
    "common_side": _common_side,
    "feed_forward": lambda shape: list(target_names(shape, ("down",))),
    "mixed_loras": _mixed_loras,
    "norms": _norms,
    "width": lambda shape: shape.hidden,
}


#: Fields of a config as PEFT takes them: lists stay lists.
Fields = NewType("Fields", dict[str, Any])

CONTENT = Path(__file__).parent / "content"


@dataclass(frozen=True)
class Heading:
    """A name with its title, and a sentence about it."""

    name: str
    title: str
    text: str


def headings(file: str) -> dict[str, tuple[str, str]]:
    """Return titles and sentences by name, in the order of a content file. Raises ContentError."""
    return {one.name: (one.title, one.text) for one in read_entries(CONTENT / file, Heading)}


#: Families by key, in display order: title, and what their members have in common.
FAMILIES = headings("families.yaml")


@dataclass(frozen=True)
class TypePaper:
    """The source of a type.

    Attributes:
        arxiv: its arXiv number; empty for a paper elsewhere, or for none.
        checked: where name, number and update form were looked up.
        url: of a paper that is not on arXiv.
    """

    cite: str
    checked: str
    arxiv: str = ""
    url: str = ""

    @property
    def address(self) -> str:
        """Return the URL of the paper; empty if there is no paper."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.url

    def __str__(self) -> str:
        return f"{self.cite}, arXiv:{self.arxiv}" if self.arxiv else self.cite


@dataclass(frozen=True)
class Usual:
    """A field of the type's config: its usual values, the first of which is the atlas's default, and its effect."""

    name: str
    values: tuple[Any, ...]
    what: str


@dataclass(frozen=True)
class StandIn:
    """A field to count and simulate with, in place of files that must exist otherwise; ``value``: for one model."""

    name: str
    value: OfModel
    what: str


@dataclass(frozen=True)
class AtlasType:
    """One type, or a variant of one.

    Attributes:
        type: PEFT's name for it (``peft.PeftType``). variant: the variant's name; empty for the type itself.
        family: a key of :data:`FAMILIES`.
        parent: name of the type that it changes; empty for one that starts a line of its own.
        update: what the adapted map computes, as plain text.
        differs: how it differs from its parent, as a sentence. when: when to use it, as a sentence.
        of_model: further fields whose value depends on the model. settings: the others.
        targets: roles of the adapted matrices; empty if the config names none.
        form: the closed form as text, with ``each`` and ``once`` to compute it; empty: counted only.
        rate: learning rate of a short training. taught: slug of the method's own page, if any.
    """

    type: str
    title: str
    family: str
    update: str
    paper: TypePaper
    knobs: tuple[Usual, ...]
    differs: str
    when: str
    parent: str = ""
    variant: str = ""
    of_model: Mapping[str, OfModel] = field(default_factory=dict)
    settings: Fields = field(default_factory=lambda: Fields({}))
    targets: tuple[Role, ...] = ("q", "v")
    form: str = ""
    each: Each | None = None
    once: Once | None = None
    rate: float = 1e-3
    taught: str = ""
    stand_in: StandIn | None = None

    @property
    def name(self) -> str:
        """Return the name in addresses and on the command line: ``vera``, ``rslora``."""
        return (self.variant or self.type).lower()

    def chosen(self, shape: ModelShape, **changes: Any) -> dict[str, Any]:
        """Return the settings for one model: usual and declared values, overridden by ``changes``."""
        usual = {knob.name: knob.values[0] for knob in self.knobs}
        of_model = {name: value(shape) for name, value in self.of_model.items()}
        return {**usual, **of_model, **self.settings, **changes}

    def config(self, shape: ModelShape, **changes: Any) -> dict[str, Any]:
        """Return the content of an ``adapter_config.json`` for one model. Raises BadInput: the model has none of the
        matrices that the type adapts."""
        chosen = self.chosen(shape, **changes)
        if self.targets and "target_modules" not in chosen:
            chosen["target_modules"] = list(target_names(shape, self.targets))
            if not chosen["target_modules"]:
                raise BadInput(f"{self.title} adapts no matrix of {shape.title}.", "model")
        return {"peft_type": self.type, **chosen}

    def counted_config(self, shape: ModelShape, **changes: Any) -> dict[str, Any]:
        """Return :meth:`config` with the stand-in for files. Raises the same errors."""
        config, held = self.config(shape, **changes), self.stand_in
        return config if held is None else {**config, held.name: held.value(shape)}

    def formula(self, shape: ModelShape, config: Settings) -> int | None:
        """Return the closed form's count of trained parameters on one model; ``None`` without a closed form."""
        if self.each is None and self.once is None:
            return None
        named = config.get("target_modules")
        groups = shape.match(named).groups if named else ()
        total = 0 if self.once is None else self.once(shape, groups, config)
        if self.each is not None:
            total += sum(self.each(group, config) * group.count for group in groups)
        return total
