"""Write the settings of a page as code before anything has run: what Train would do to the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft_lab.methods.base import MethodSpec, TaskType
from peft_lab.models.assets.store import ASSETS
from peft_lab.models.catalogue import ModelEntry
from peft_lab.takeaway.applied import applied
from peft_lab.takeaway.calls import TASK_TYPES, PeftCall, peft_call
from peft_lab.takeaway.generator import fill, with_imports

_CLASSES = {
    "causal-lm": "AutoModelForCausalLM",
    "encoder": "AutoModelForSequenceClassification",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "vision": "AutoModelForImageClassification",
}


@dataclass(frozen=True)
class _Page:
    """The settings of a page, as :class:`~peft_lab.takeaway.applied.Settings` names them."""

    method: MethodSpec
    entry: ModelEntry
    values: Mapping[str, Any]
    call: PeftCall | None
    task_type: TaskType


def config_code(method: MethodSpec, entry: ModelEntry, values: Mapping[str, Any]) -> str:
    """Return Python text that loads the model and applies the method; it can be run as it is.

    It uses the definitions of exported files: methods that PEFT does not have are plain torch, and what PEFT's
    configs cannot express follows them. Seeds, precision and training are left to a run's script.

    Raises:
        BadInput: settings that cannot work, with the reason; ``field`` names the knob.
        RunError: the process that makes PEFT's config died.
    """
    full = method.require(entry.shape, values)
    task_type = TASK_TYPES[entry.kind]
    page = _Page(method, entry, full, peft_call(entry, method, full, task_type), task_type)
    context = {
        "auto": _CLASSES[entry.kind],
        "hub_id": hub_id(entry),
        "rate": method.learning_rate(entry.kind, full),
    }
    return with_imports(fill("settings.py.j2", how=applied(page), **context))


def hub_id(entry: ModelEntry) -> str:
    """Return the Hugging Face id of a model, or the learner's own name for it."""
    asset = ASSETS.get(entry.name)
    return asset.hub_id if asset and asset.hub_id else entry.source
