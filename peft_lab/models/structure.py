"""Groups of a model's modules that differ only in the layer index, and the role of a matrix in its block."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

# latent: the compressing maps of multi-head latent attention, before q and kv.
Role = Literal["q", "k", "v", "qkv", "kv", "latent", "o", "gate", "up", "down"]

# Last path segments that the public architectures use for a block's matrices. The longest suffix wins, so that BERT's
# two `output.dense` are told apart.
_ROLE_SUFFIXES: dict[str, Role] = {
    "q_proj": "q", "query": "q", "SelfAttention.q": "q", "EncDecAttention.q": "q", "q_lin": "q",
    "query_proj": "q",
    "k_proj": "k", "key": "k", "SelfAttention.k": "k", "EncDecAttention.k": "k", "k_lin": "k",
    "key_proj": "k",
    "v_proj": "v", "value": "v", "SelfAttention.v": "v", "EncDecAttention.v": "v", "v_lin": "v",
    "value_proj": "v",
    "q_a_proj": "latent", "kv_a_proj_with_mqa": "latent", "q_b_proj": "q", "kv_b_proj": "kv",
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
        """Whether it is a linear map, which PEFT adapts by the module's name."""
        return self.type in MATRIX_TYPES or self.linear

    @property
    def stacked(self) -> int:
        """The number of matrices of this size in one parameter: the experts of a stack, else 1."""
        weight = self.parameters.get("weight", ())
        return weight[0] if self.type == PARAMETER and len(weight) == 3 else 1

    @property
    def count(self) -> int:
        """The number of modules in the group."""
        return len(self.layers) or 1

    @property
    def paths(self) -> tuple[str, ...]:
        """The modules' paths, with the layer index filled in."""
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
        """The number of inputs. ``Conv1D`` (GPT-2) stores (in, out), ``Linear`` (out, in), ``Embedding`` (rows, dim);
        ``Conv2d``, which reads an image's patches, (out, channels, height, width)."""
        weight = self.parameters["weight"]
        if self.type == "Conv2d":
            return math.prod(weight[1:])
        return weight[0] if self.type in ("Conv1D", "Embedding") else weight[-1]

    @property
    def out_features(self) -> int:
        """The number of outputs of a map, or the width of an embedding."""
        weight = self.parameters["weight"]
        if self.type == "Conv2d":
            return weight[0]
        return weight[1] if self.type in ("Conv1D", "Embedding") else weight[-2]

    @property
    def bias(self) -> int:
        """The number of entries of the bias, 0 without one."""
        return math.prod(self.parameters.get("bias", (0,)))

    @property
    def each(self) -> int:
        """The number of parameters of one of the modules, without tied ones."""
        return sum(math.prod(shape) for name, shape in self.parameters.items() if name not in self.tied)

    @cached_property
    def role(self) -> Role | None:
        """The matrix's role in its block, from its name; ``None`` outside blocks and for other modules."""
        if not self.layers or not (self.is_matrix or self.type == PARAMETER):
            return None
        hits = [suffix for suffix in _ROLE_SUFFIXES if self.path.endswith("." + suffix)]
        return _ROLE_SUFFIXES[max(hits, key=len)] if hits else None

    @property
    def is_norm(self) -> bool:
        """Whether the name of its type contains "norm"."""
        return "norm" in self.type.lower()


def is_bias(parameter: str) -> bool:
    """Return whether a parameter is a bias by its own name: ``bias``, or ``down_proj_bias`` of stacked experts.

    T5's ``relative_attention_bias`` is a module, not a bias.
    """
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
        """The choice as text: ``8 experts, 2 used per token``."""
        used = f", {self.per_token} used per token" if self.per_token else ""
        return f"{self.experts} experts{used}"


def experts_from_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[Mixture, ...]:
    """Rebuild mixtures from their stored form (see :func:`experts_to_rows`)."""
    made = []
    for row in rows:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
        }
        made.append(Mixture(**values))
    return tuple(made)


def experts_to_rows(mixtures: Iterable[Mixture]) -> list[dict[str, Any]]:
    """Return mixtures as rows that can be stored as JSON."""
    rows = []
    for mixture in mixtures:
        row = {field.name: getattr(mixture, field.name) for field in fields(mixture)}
        rows.append({key: list(value) if isinstance(value, tuple) else value for key, value in row.items()})
    return rows


def is_expert_stack(type_: str, parameters: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether a module stacks matrices, one per expert. A convolution's weight has three axes too."""
    return not type_.startswith("Conv") and any(len(shape) == 3 for shape in parameters.values())


def listed_experts(path: str) -> tuple[str, int] | None:
    """Return mixture and number of an expert that is a module of its own, from the path of one of its modules."""
    found = _ONE_OF_A_LIST.match(path)
    return (found["block"], int(found["number"])) if found else None
