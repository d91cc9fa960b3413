"""Count parameters: apply a method to the model on the meta device and read its parameters.

Torch is imported inside; pages call this through the inspector process (:mod:`peft_lab.workers.inspector`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from peft_lab.ask.field import Values
from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.base import CLASSIFYING, Formula, classifying_task, plain_task
from peft_lab.models import meta
from peft_lab.models.catalogue import ModelEntry, resolve
from peft_lab.models.module_tree import GroupCount, clean_path, read_tree, safetensors_bytes
from peft_lab.models.shapes import CLASSIFIERS, ModelShape, in_head

if TYPE_CHECKING:
    import torch


# ----------------------------------------
# Explain a difference between the closed formula and the count: places the formula misses, and those PEFT leaves out.


_NAMED = 3  # places named in a sentence; the rest is summed


def difference(formula: Formula, tree: Iterable[GroupCount]) -> str | None:
    """Return one sentence with the places and their parameters that differ; ``None`` if formula and count agree.

    Args:
        tree: the counted model's groups; those trained by the method are compared.
    """
    groups = tuple(tree)
    trained = [group for group in groups if group.role == "method"]
    bare = {group.module for group in groups if not group.added}
    counted = sum(group.parameters for group in trained)
    if counted == formula.trainable:
        return None
    surplus: Counter[str] = Counter()
    for term in formula.terms:
        surplus[term.module] -= term.total
    for group in trained:
        path = f"{group.module}.{group.name}"
        place = (
            _longest((term.module for term in formula.terms), path) or _longest(bare, path) or group.module
        )
        surplus[place] += group.parameters
    more = {place: number for place, number in surplus.items() if number > 0}
    less = {place: -number for place, number in surplus.items() if number < 0}
    parts = []
    if more:
        parts.append(f"PEFT trains {_listed(more)} that the formula does not know")
    if less:
        parts.append(f"the formula counts {_listed(less)} that PEFT leaves out")
    sentence = ", and ".join(parts)
    return f"The formula gives {formula.trainable:,}, the count {counted:,}: {sentence}. The count is right."


def _longest(places: Iterable[str], path: str) -> str:
    """Return the longest of the places that are a prefix of a path; empty if none is."""
    return max((place for place in places if f"{path}.".startswith(f"{place}.")), key=len, default="")


def _listed(places: dict[str, int]) -> str:
    largest = sorted(places, key=lambda place: -places[place])
    shown = [f"{places[place]:,} in {place.rpartition('{}.')[2]}" for place in largest[:_NAMED]]
    if len(largest) > _NAMED:
        shown.append(f"{sum(places[place] for place in largest[_NAMED:]):,} elsewhere")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


__all__ = ["CountReport", "GroupCount", "clean_path", "count", "count_config", "safetensors_bytes"]


@dataclass(frozen=True)
class CountReport:
    """The result of a count. ``trainable`` and ``total`` exclude a task head, which is reported in ``head``.

    Attributes:
        stored_bytes: the size of the saved ``adapter_model.safetensors``: header and tensors.
        formula: the closed form's trainable count, ``None`` if there is none (a bare adapter config).
        difference: why formula and count differ, as a sentence; ``None`` if they agree.
        lora_fa: trained parameters under LoRA-FA's optimizer, which freezes A; ``None`` for methods other than LoRA.
        note: how the real count may differ, as a sentence.
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
    difference: str | None = None
    lora_fa: int | None = None
    note: str | None = None
    seconds: float = 0.0
    source: str = "counted"

    @property
    def groups(self) -> tuple[GroupCount, ...]:
        """The trained groups only."""
        return tuple(group for group in self.tree if group.role != "frozen")

    def as_dict(self) -> dict[str, Any]:
        """Return the command line's JSON (the contract's fields, head and stored parameters)."""
        plain = {key: value for key, value in asdict(self).items() if key != "tree"}
        rows = [
            {"module": f"{g.module}.{g.name}", "count": g.count, "parameters": g.parameters, "role": g.role}
            for g in self.groups
        ]
        return {**plain, "groups": rows}


@meta.uncollected()
def count(model: str, method: str, values: Values, num_labels: int | None = None) -> CountReport:
    """Count one method on one model.

    Args:
        model: catalogue name, Hugging Face id or local path.
        values: the method's knobs; missing ones get their defaults for the model.
        num_labels: adds a classification head, counted apart.

    Raises:
        BadInput: the values cannot be applied; the message gives the reason.
    """
    start = time.perf_counter()
    entry, spec = resolve(model), get_method(method)
    if num_labels is not None and entry.kind not in CLASSIFIERS:
        raise BadInput("A classification head is put on encoders only; causal models train on text.", "task")
    full = spec.require(entry.shape, values)
    base = meta.build(meta.make_config(entry.config), entry.kind, num_labels)
    shape = entry.shape if num_labels is None else _shape_under_head(base, entry)
    bare = frozenset(name for name, _ in base.named_parameters())
    small = _quantised_paths(shape) if spec.quantization(full) else frozenset()
    task = plain_task(entry.kind) if num_labels is None else classifying_task(entry.kind)
    adapted = spec.apply(base, entry.shape, full, task)
    tree = read_tree(adapted, bare, with_head=num_labels is not None, quantised=small)
    report = _report(entry, spec.slug, tree, spec.state(adapted))
    formula = spec.formula(shape, full)
    return replace(
        report,
        formula=formula.trainable,
        difference=difference(formula, tree),
        lora_fa=_under_lora_fa(tree) if spec.low_rank else None,
        seconds=time.perf_counter() - start,
    )


@meta.uncollected()
def count_config(model: str, adapter_config: Mapping[str, Any]) -> CountReport:
    """Count any PEFT adapter config (the content of an ``adapter_config.json``) on one model.

    Raises:
        BadInput: this is no PEFT config, or PEFT cannot apply it to this model; the message gives PEFT's reason.
    """
    from peft_lab.methods.counting import adapter_configs
    from peft_lab.models.meta import shapes_only

    start = time.perf_counter()
    entry = resolve(model)
    base = adapter_configs.build_base(entry, adapter_config)
    bare = frozenset(name for name, _ in base.named_parameters())
    adapted = adapter_configs.apply(entry, adapter_config, base)
    from peft import get_peft_model_state_dict

    with shapes_only():
        state = dict(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    with_head = adapter_configs.task_of(entry, adapter_config) in CLASSIFYING
    tree = read_tree(adapted, bare, with_head=with_head)
    kind = str(adapter_config["peft_type"])
    report = _report(entry, kind.lower(), tree, state)
    return replace(
        report,
        lora_fa=_under_lora_fa(tree) if kind == "LORA" else None,
        note=" ".join(filter(None, (adapter_configs.note(adapter_config), _frozen(tree)))) or None,
        seconds=time.perf_counter() - start,
    )


def _under_lora_fa(tree: Iterable[GroupCount]) -> int:
    """Count what PEFT's ``create_lorafa_optimizer`` leaves trained: it freezes parameters with lora_A in their name."""
    return sum(
        group.parameters
        for group in tree
        if group.role == "method" and "lora_A" not in f"{group.module}.{group.name}"
    )


def _frozen(tree: Iterable[GroupCount]) -> str | None:
    """Return a sentence on parameters that PEFT adds but does not train, as MiCA's B; ``None`` if there are none."""
    kept = [group for group in tree if group.role == "frozen" and group.added]
    if not kept:
        return None
    names = sorted(
        {
            group.module.rstrip(".0123456789").rpartition(".")[2] if group.name == "weight" else group.name
            for group in kept
        }
    )
    total = sum(group.parameters for group in kept)
    return f"PEFT also puts in {total:,} parameters that stay frozen ({', '.join(names)})."


def _report(
    entry: ModelEntry, method: str, tree: tuple[GroupCount, ...], state: Mapping[str, torch.Tensor]
) -> CountReport:
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


def _shape_under_head(base: torch.nn.Module, entry: ModelEntry) -> ModelShape:
    """Return a classifier's shape without its head; it may differ from the bare model's (RoBERTa's has no pooler)."""
    config: Any = base.config
    shape = meta.read_shape(base, config, entry.kind, entry.name, entry.title)
    return replace(shape, groups=tuple(group for group in shape.groups if not in_head(group.path)))


def _quantised_paths(shape: ModelShape) -> frozenset[str]:
    from peft_lab.models.quantise import quantised

    return frozenset(path for group in quantised(shape) for path in group.paths)
