"""Which matrices the low-rank methods adapt: the same ones, so that their bars differ by method alone, or their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.models.shapes import ModelShape

OWN = "own"
TARGETS = {
    "query-value": "The same: query and value",
    "all-linear": "The same: every linear map",
    OWN: "Each method's own default",
}


def low_rank(method: MethodSpec) -> bool:
    """Whether a method puts a product of a rank beside matrices that can be chosen."""
    return {"r", "target_modules"} <= {knob.name for knob in method.knobs}


def low_rank_methods() -> tuple[str, ...]:
    return tuple(slug for slug, method in all_methods().items() if low_rank(method))


def values_for(slug: str, shape: ModelShape, targets: str) -> dict[str, Any]:
    """The knob that a method needs to adapt what ``targets`` says; none where it has no such choice."""
    if targets == OWN or not low_rank(get_method(slug)):
        return {}
    return {"target_modules": named(slug, shape, targets)}


def named(slug: str, shape: ModelShape, targets: str) -> tuple[str, ...]:
    """The names of what a method adapts. Query and value are what LoRA has by default: one map where they are fused."""
    method = get_method(slug if targets == OWN else "lora")
    return ("all-linear",) if targets == "all-linear" else tuple(method.defaults(shape)["target_modules"])


def listed(names: Sequence[str]) -> str:
    """As a sentence has them."""
    return "every linear map" if tuple(names) == ("all-linear",) else ", ".join(names)
