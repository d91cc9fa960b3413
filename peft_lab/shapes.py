"""The shape of a model as plain data: which modules it has, how large each parameter is, what role each plays.

Everything a closed formula or a drawing needs, without torch. A shape is read off a model on the meta device once
(:mod:`peft_lab.meta`), stored beside the model's config, and expanded here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

ModelKind = Literal["causal-lm", "encoder", "seq2seq"]
Role = Literal["q", "k", "v", "qkv", "o", "gate", "up", "down"]

# Last path segments by which the public architectures name the matrices of a block. Longest suffix wins, so that
# BERT's two `output.dense` are told apart.
_ROLE_SUFFIXES: dict[str, Role] = {
    "q_proj": "q", "query": "q", "SelfAttention.q": "q", "EncDecAttention.q": "q", "q_lin": "q",
    "query_proj": "q",
    "k_proj": "k", "key": "k", "SelfAttention.k": "k", "EncDecAttention.k": "k", "k_lin": "k",
    "key_proj": "k",
    "v_proj": "v", "value": "v", "SelfAttention.v": "v", "EncDecAttention.v": "v", "v_lin": "v",
    "value_proj": "v",
    "c_attn": "qkv", "query_key_value": "qkv", "qkv_proj": "qkv", "Wqkv": "qkv",
    "o_proj": "o", "attention.output.dense": "o", "attn.c_proj": "o", "self_attention.dense": "o",
    "SelfAttention.o": "o", "EncDecAttention.o": "o", "out_proj": "o", "out_lin": "o",
    "attention.dense": "o", "self_attn.dense": "o",
    "gate_proj": "gate", "wi_0": "gate",
    "up_proj": "up", "intermediate.dense": "up", "mlp.c_fc": "up", "dense_h_to_4h": "up", "DenseReluDense.wi": "up",
    "wi_1": "up", "fc1": "up", "fc_in": "up", "gate_up_proj": "up", "lin1": "up", "ffn": "up",
    "down_proj": "down", "output.dense": "down", "mlp.c_proj": "down", "dense_4h_to_h": "down",
    "DenseReluDense.wo": "down", "fc2": "down", "fc_out": "down", "lin2": "down", "ffn_output": "down",
}  # fmt: skip
MATRIX_TYPES = ("Linear", "Conv1D")


@dataclass(frozen=True)
class ModuleGroup:
    """Modules that differ only in their layer index.

    Attributes:
        path: dotted path with ``{}`` for the layer index, or a plain path when there is only one.
        type: class name, such as ``Linear``, ``Conv1D``, ``Embedding``, ``LayerNorm``.
        layers: the layer indices that have it; empty for a module outside the layers.
        parameters: own parameters by name, each with its shape as torch stores it.
        tied: names of parameters that are shared with another module and so count once, there.
    """

    path: str
    type: str
    layers: tuple[int, ...]
    parameters: Mapping[str, tuple[int, ...]]
    tied: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(self.layers) or 1

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self.path.replace("{}", str(index)) for index in self.layers) or (self.path,)

    @property
    def in_features(self) -> int:
        """Inputs of a matrix. ``Conv1D`` (GPT-2) stores (in, out), ``Linear`` (out, in), ``Embedding`` (rows, dim)."""
        weight = self.parameters["weight"]
        return weight[0] if self.type in ("Conv1D", "Embedding") else weight[1]

    @property
    def out_features(self) -> int:
        weight = self.parameters["weight"]
        return weight[1] if self.type in ("Conv1D", "Embedding") else weight[0]

    @property
    def bias(self) -> int:
        """Entries of the bias, 0 without one."""
        return math.prod(self.parameters.get("bias", (0,)))

    @property
    def each(self) -> int:
        """Parameters of one of the modules, tied ones left out."""
        return sum(math.prod(shape) for name, shape in self.parameters.items() if name not in self.tied)

    @cached_property
    def role(self) -> Role | None:
        """What the matrix does in its block, from its name; ``None`` outside blocks and for other modules."""
        if not self.layers or self.type not in MATRIX_TYPES:
            return None
        hits = [suffix for suffix in _ROLE_SUFFIXES if self.path.endswith("." + suffix)]
        return _ROLE_SUFFIXES[max(hits, key=len)] if hits else None

    @property
    def is_norm(self) -> bool:
        return "norm" in self.type.lower()


@dataclass(frozen=True)
class Match:
    """What a list of target names hits. ``unmatched`` holds the names that hit nothing."""

    groups: tuple[ModuleGroup, ...]
    unmatched: tuple[str, ...]


@dataclass(frozen=True)
class ModelShape:
    """One model as data. Sizes are in entries, never bytes.

    Attributes:
        hidden: width of the residual stream (``hidden_size``).
        heads, kv_heads, head_dim: of the attention; 0 where a model carries a state instead (Mamba, RWKV).
        kv_width: width of one token's keys (or values): kv_heads x head_dim.
        max_positions: the longest sequence the model has positions for; ``None`` without a fixed limit (T5).
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

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @cached_property
    def total(self) -> int:
        """All parameters, tied ones once."""
        return sum(group.each * group.count for group in self.groups)

    @cached_property
    def biases(self) -> tuple[tuple[ModuleGroup, str], ...]:
        """Every parameter whose name contains ``bias``, with its group (BitFit's own criterion, section 3)."""
        return tuple((group, name) for group in self.groups for name in group.parameters if is_bias(name))

    @cached_property
    def block(self) -> dict[Role, ModuleGroup]:
        """The matrices of the repeated block, by role. On encoder-decoder models: those of the encoder."""
        found: dict[Role, ModuleGroup] = {}
        for group in self.groups:
            if group.role and group.role not in found:
                found[group.role] = group
        return found

    @cached_property
    def matrices(self) -> tuple[ModuleGroup, ...]:
        """Every linear map that PEFT's ``all-linear`` adapts: all of them but the output layer."""
        return tuple(group for group in self.groups if group.type in MATRIX_TYPES and not _is_output(group))

    def target_name(self, group: ModuleGroup) -> str:
        """The shortest suffix of a group's path that names it alone, or the longest one there is.

        PEFT compares path endings, so BERT's ``output.dense`` also hits ``attention.output.dense``; no suffix
        avoids that, and the caller sees it in :meth:`match`.
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
        """Names to offer as targets: the block's matrices, in reading order."""
        order = ("q", "k", "v", "qkv", "o", "gate", "up", "down")
        inside = sorted((g for g in self.matrices if g.role), key=lambda g: order.index(str(g.role)))
        names = [self.target_name(group) for group in inside]
        names += [self.target_name(group) for group in self.matrices if group.layers and not group.role]
        return tuple(dict.fromkeys(names))

    def _ending(self, name: str) -> tuple[ModuleGroup, ...]:
        return tuple(g for g in self.groups if any(p == name or p.endswith("." + name) for p in g.paths))

    def match(self, targets: Iterable[str] | str, layers: Iterable[int] | None = None) -> Match:
        """Which modules PEFT adapts for these names: equal to the path or its ending after a dot.

        ``"all-linear"`` stands for every linear map but the output layer. A string is a regular expression over the
        whole path, as in PEFT. ``layers`` restricts the hits to those layer indices (``layers_to_transform``).
        """
        if targets == "all-linear" or list(targets) == ["all-linear"]:
            return Match(self._restrict(self.matrices, layers), ())
        if isinstance(targets, str):
            hits = [g for g in self.groups if any(re.fullmatch(targets, path) for path in g.paths)]
            return Match(self._restrict(hits, layers), () if hits else (targets,))
        found: list[ModuleGroup] = []
        missing: list[str] = []
        for name in targets:
            hits = list(self._ending(name))
            found.extend(hits)
            if not hits:
                missing.append(name)
        unique = [group for group in self.groups if group in found]
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
                kept.append(ModuleGroup(group.path, group.type, indices, group.parameters, group.tied))
        return tuple(kept)


def is_bias(parameter: str) -> bool:
    """Whether a parameter's own name makes it a bias (``bias``, ``relative_attention_bias`` is a module, not one)."""
    return parameter.rpartition(".")[2] == "bias"


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
        )
        for row in data["groups"]
    )
    return ModelShape(**{**data, "groups": groups})


def to_dict(shape: ModelShape) -> dict[str, Any]:
    """The stored form: layer indices 0..n-1 are written as n."""
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
        rows.append(row)
    plain = {name: getattr(shape, name) for name in shape.__dataclass_fields__ if name != "groups"}
    return {**plain, "groups": rows}
