"""The adapted model as a list of parameter groups: one row for the same parameter in all layers, under bare names.

Counting and drawing read this list. Nothing here imports torch at import time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from peft_lab.models import meta
from peft_lab.models.shapes import in_head

if TYPE_CHECKING:
    import torch

TreeRole = Literal["method", "head", "frozen"]
# Path segments that wrappers insert: PEFT's base layer, its copies of modules saved whole, the adapter's name, and the
# container of our own adapters.
_INSERTED = frozenset({"base_layer", "modules_to_save", "original_module", "default", "adapters"})
# Prefixes of the wrapped model: base_model.model for a tuner, one level deeper for X-LoRA, base_model for a prompt.
_WRAPPERS = ("base_model.lora_model.model.", "base_model.model.", "base_model.")
_SHORT = {
    "float64": "F64", "float32": "F32", "bfloat16": "BF16", "float16": "F16",
    "int64": "I64", "int32": "I32", "uint8": "U8", "int8": "I8", "bool": "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class GroupCount:
    """Parameters of all modules that differ only in the layer index.

    Attributes:
        module: path in the bare model with ``{}`` for the layer index.
        name: the parameter's own name in its module.
        shape: of one parameter.
        parameters: of all ``count`` modules together.
        role: ``method`` (the method's own, trained), ``head`` (task head, trained) or ``frozen``.
        added: whether the method added it, rather than the bare model having it.
        quantised: whether it is stored in 4 or 8 bit.
    """

    module: str
    type: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    parameters: int
    role: TreeRole
    added: bool
    quantised: bool = False


def read_tree(
    adapted: torch.nn.Module,
    bare: Collection[str],
    *,
    with_head: bool = False,
    quantised: Collection[str] = (),
) -> tuple[GroupCount, ...]:
    """Return one row per group of like parameters, in the model's order. Tied parameters count once.

    Args:
        bare: the names of the bare model's parameters, before the method was applied.
        with_head: whether the model has a task head, whose trained parameters get a role of their own.
        quantised: paths of the modules whose weight is stored in fewer bits (in the bare model's names).
    """
    modules = dict(adapted.named_modules())
    wrapper = _wrapper(adapted, bare)
    rows: dict[tuple[Any, ...], list[int]] = {}
    for full, parameter in adapted.named_parameters():
        owner, name = _split(full)
        path, name = _place(owner, name, wrapper)
        head = with_head and in_head(path)
        copied = ".modules_to_save." in f".{full}"
        # PEFT keeps the original head beside the copy it trains and saves; only the copy is part of the model.
        if head and ".original_module." in f".{full}":
            continue
        role: TreeRole = ("head" if head else "method") if parameter.requires_grad else "frozen"
        added = not head and (copied or _join(path, name) not in bare)
        small = not added and name == "weight" and path in quantised
        pattern, _ = meta.pattern(path)
        kind = "Parameter" if full.endswith(".default") else type(modules[owner]).__name__
        key = (pattern, kind, name, tuple(parameter.shape), dtype_name(parameter), role, added, small)
        rows.setdefault(key, []).append(parameter.numel())
    return tuple(
        GroupCount(module, kind, name, shape, dtype, len(sizes), sum(sizes), role, added, small)
        for (module, kind, name, shape, dtype, role, added, small), sizes in rows.items()
    )


def clean_path(path: str, wrapper: str | None = None) -> str:
    """Return a module path as in the bare model: without wrappers, inserted layers and the adapter's name.

    Args:
        wrapper: the prefix of the bare model's paths. By default a tuner's (LoRA, IA3 ...); on a model with a prompt it
            is ``base_model.`` alone.

    >>> clean_path("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default")
    'model.layers.0.self_attn.q_proj.lora_A'
    """
    for prefix in _WRAPPERS if wrapper is None else (wrapper,):
        if path.startswith(prefix):
            path = path.removeprefix(prefix)
            break
    return ".".join(part for part in path.split(".") if part not in _INSERTED)


def _wrapper(adapted: torch.nn.Module, bare: Collection[str]) -> str:
    """Return the prefix under which most parameters have the bare model's names."""
    names = [name for name, _ in adapted.named_parameters()]

    def hits(prefix: str) -> int:
        return sum(_join(*_place(*_split(name), prefix)) in bare for name in names if name.startswith(prefix))

    return max((*_WRAPPERS, ""), key=hits)


def _split(name: str) -> tuple[str, str]:
    owner, _, own = name.rpartition(".")
    return owner, own


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _place(owner: str, name: str, wrapper: str) -> tuple[str, str]:
    """Return module path and parameter name. A parameter filed under the adapter's name is named after its slot.

    ``...k_proj.ia3_l`` and ``default`` become ``...k_proj`` and ``ia3_l``.
    """
    path = clean_path(owner, wrapper)
    if name == "default":
        path, _, name = path.rpartition(".")
    return path, name


def dtype_name(tensor: torch.Tensor) -> str:
    """Return a tensor's type as the lab writes it, such as ``bfloat16``; the tensor may have any shape."""
    return str(tensor.dtype).removeprefix("torch.")


def safetensors_bytes(state: Mapping[str, torch.Tensor]) -> int:
    """Return the size of a safetensors file of these tensors: 8 bytes, a JSON header padded to 8, and the data.

    The tensors may have any shapes.

    Source: the safetensors format description (header length, UTF-8 JSON, data_offsets per tensor).

    Four numbers of float32 take 16 bytes, besides the header with each tensor's name, type and shape:

    >>> import torch
    >>> safetensors_bytes({"a": torch.zeros(4)}) - safetensors_bytes({"a": torch.zeros(2)})
    8
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    # safetensors sorts by decreasing alignment, then by name.
    for name, tensor in sorted(state.items(), key=lambda item: (-item[1].element_size(), item[0])):
        end = offset + tensor.numel() * tensor.element_size()
        kind = dtype_name(tensor)
        header[name] = {
            "dtype": _SHORT.get(kind, kind),
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = len(json.dumps(header, separators=(",", ":")).encode())
    return 8 + math.ceil(text / 8) * 8 + offset
