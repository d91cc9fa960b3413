"""Counting: apply a method to the model on the meta device and read the parameters off it.

Torch is imported inside; a page calls this through the inspector process (:mod:`peft_lab.inspector`).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from peft_lab import meta
from peft_lab.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec, plain_task
from peft_lab.methods.knobs import Values
from peft_lab.models import ModelEntry, resolve

if TYPE_CHECKING:
    import torch

# Where PEFT and our own wrappers put the original model; shown paths are the original ones.
_PREFIXES = ("base_model.model.", "base_model.", "word_embeddings.")
_HEADS = ("classifier", "score")


@dataclass(frozen=True)
class GroupCount:
    """Parameters of all modules that differ only in the layer index.

    Attributes:
        module: path with ``{}`` for the layer index.
        parameters: of all ``count`` modules together.
        role: ``method`` (the method's own, trained), ``head`` (task head, trained) or ``frozen``.
        quantised: whether the stored form is 4 or 8 bit.
    """

    module: str
    type: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    parameters: int
    role: str
    added: bool
    quantised: bool = False


@dataclass(frozen=True)
class CountReport:
    """What was counted. ``trainable`` and ``total`` leave a task head out; it is reported in ``head``.

    Attributes:
        stored_bytes: the size of the saved ``adapter_model.safetensors``: header and tensors.
        formula: the closed form's trainable count, ``None`` where there is none (a bare adapter config).
        tree: every parameter group of the adapted model, frozen ones included.
    """

    model: str
    method: str
    trainable: int
    total: int
    percent: float
    stored_bytes: int
    stored_parameters: int
    formula: int | None
    head: int
    tree: tuple[GroupCount, ...] = field(repr=False)
    seconds: float = 0.0
    source: str = "counted"

    @property
    def groups(self) -> tuple[GroupCount, ...]:
        """The trained groups only."""
        return tuple(group for group in self.tree if group.role != "frozen")

    def as_dict(self) -> dict[str, Any]:
        """The command line's JSON (the contract's fields, and head and stored parameters beside them)."""
        plain = {key: value for key, value in asdict(self).items() if key != "tree"}
        rows = [
            {"module": f"{g.module}.{g.name}", "count": g.count, "parameters": g.parameters, "role": g.role}
            for g in self.groups
        ]
        return {**plain, "groups": rows}


def count(model: str, method: str, values: Values, num_labels: int | None = None) -> CountReport:
    """Count one method on one model.

    Args:
        model: catalogue name, Hugging Face id or local path.
        values: the method's knobs; missing ones at their defaults for the model.
        num_labels: adds a classification head, counted apart.

    Raises:
        BadInput: values that cannot be applied, with the reason.
    """
    start = time.perf_counter()
    entry, spec = resolve(model), get_method(method)
    full = spec.require(entry.shape, values)
    adapted, base_total = _adapt_meta(entry, spec, full, num_labels)
    quantised = spec.quantization(full) is not None
    report = _read(adapted, entry, spec.slug, spec.state(adapted), quantised, num_labels is not None)
    formula = spec.formula(entry.shape, full)
    return _with(report, formula=formula.trainable, seconds=time.perf_counter() - start)


def count_config(model: str, adapter_config: Mapping[str, Any]) -> CountReport:
    """Count any PEFT adapter config (the content of an ``adapter_config.json``) on one model.

    Raises:
        BadInput: not a PEFT config, or one that PEFT cannot apply to this model, with PEFT's reason.
    """
    from peft_lab import adapter_configs

    start = time.perf_counter()
    entry = resolve(model)
    adapted = adapter_configs.apply(entry, adapter_config)
    from peft import get_peft_model_state_dict

    state = dict(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    name = str(adapter_config.get("peft_type", "")).lower()
    return _with(_read(adapted, entry, name, state, False, False), seconds=time.perf_counter() - start)


def _with(report: CountReport, **changes: Any) -> CountReport:
    return CountReport(**{**{name: getattr(report, name) for name in report.__dataclass_fields__}, **changes})


def _adapt_meta(
    entry: ModelEntry, spec: MethodSpec, values: Values, num_labels: int | None
) -> tuple[torch.nn.Module, int]:
    if num_labels is not None and entry.kind != "encoder":
        raise BadInput("A classification head is put on encoders only; causal models train on text.", "task")
    config = meta.make_config(entry.config)
    base = meta.build(config, entry.kind, num_labels)
    total = sum(parameter.numel() for parameter in base.parameters())
    task_type = "SEQ_CLS" if num_labels is not None else plain_task(entry.kind)
    return spec.apply(base, entry.shape, values, task_type), total


def _read(
    adapted: torch.nn.Module,
    entry: ModelEntry,
    method: str,
    state: Mapping[str, torch.Tensor],
    quantised: bool,
    with_head: bool,
) -> CountReport:
    tree = _tree(adapted, entry, quantised, with_head)
    trainable = sum(group.parameters for group in tree if group.role == "method")
    head = sum(group.parameters for group in tree if group.role == "head")
    total = sum(group.parameters for group in tree) - head
    return CountReport(
        model=entry.name,
        method=method,
        trainable=trainable,
        total=total,
        percent=100 * trainable / total,
        stored_bytes=safetensors_bytes(state),
        stored_parameters=sum(tensor.numel() for tensor in state.values()),
        formula=None,
        head=head,
        tree=tree,
    )


def _tree(adapted: torch.nn.Module, entry: ModelEntry, quantised: bool, with_head: bool) -> tuple[GroupCount, ...]:
    """One row per group of like parameters, in the model's own order."""
    original = {path for group in entry.shape.groups for path in group.paths}
    modules = dict(adapted.named_modules())
    rows: dict[tuple[Any, ...], list[int]] = {}
    for full, parameter in adapted.named_parameters():
        owner, _, name = full.rpartition(".")
        path = clean_path(owner)
        head = with_head and any(part in _HEADS for part in path.split("."))
        # A head that PEFT keeps for saving has its untouched original beside it; only the trained copy is real.
        if head and ".original_module" in f".{owner}":
            continue
        role = ("head" if head else "method") if parameter.requires_grad else "frozen"
        bare = path.removeprefix(f"{_backbone(entry)}.")
        added = bare not in original and path not in original and not head
        is_quantised = quantised and not added and _quantisable(entry, bare)
        key_path, _ = meta.pattern(path)
        kind = type(modules[owner]).__name__ if owner else type(adapted).__name__
        key = (key_path, kind, name, tuple(parameter.shape), _dtype(parameter), role, added, is_quantised)
        rows.setdefault(key, []).append(parameter.numel())
    return tuple(
        GroupCount(module, kind, name, shape, dtype, len(sizes), sum(sizes), role, added, is_quantised)
        for (module, kind, name, shape, dtype, role, added, is_quantised), sizes in rows.items()
    )


def clean_path(path: str) -> str:
    """A module path as the bare model has it: without wrappers' prefixes, ``base_layer`` and adapter names."""
    for prefix in _PREFIXES[:2]:
        if path.startswith(prefix):
            path = path.removeprefix(prefix)
            break
    parts = [part for part in path.split(".") if part not in ("base_layer", "modules_to_save", "default")]
    return ".".join(parts)


def _backbone(entry: ModelEntry) -> str:
    return {"roberta": "roberta", "bert": "bert"}.get(entry.shape.model_type, "model")


def _quantisable(entry: ModelEntry, path: str) -> bool:
    """bitsandbytes replaces every linear map but the output layer."""
    return any(path in group.paths for group in entry.shape.matrices)


def _dtype(parameter: torch.Tensor) -> str:
    return str(parameter.dtype).removeprefix("torch.")


def safetensors_bytes(state: Mapping[str, torch.Tensor]) -> int:
    """The size of a safetensors file of these tensors: 8 bytes, a JSON header padded to 8, and the data.

    Source: the safetensors format description (header length, UTF-8 JSON, data_offsets per tensor).
    """
    names = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "int64": "I64", "uint8": "U8", "int8": "I8"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    # safetensors orders by falling alignment, then name.
    for name, tensor in sorted(state.items(), key=lambda item: (-item[1].element_size(), item[0])):
        end = offset + tensor.numel() * tensor.element_size()
        kind = _dtype(tensor)
        header[name] = {"dtype": names.get(kind, kind), "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = len(json.dumps(header, separators=(",", ":")).encode())
    return 8 + math.ceil(text / 8) * 8 + offset
