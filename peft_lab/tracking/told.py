"""What a tracker is told of a run: its spec as parameters, its events as figures by step. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from peft_lab.runs.events import Event
from peft_lab.runs.spec import RunSpec
from peft_lab.tracking.base import Point

_STEP = {
    "loss": "loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
    "tokens": "tokens",
    "step_seconds": "seconds",
}
_MEMORY = ("peak_bytes", "process_peak_bytes", "device_allocated_bytes", "device_reserved_bytes")
_READY = ("trainable", "head", "total", "dtype", "device")


def parameters(spec: RunSpec, events: Sequence[Event]) -> dict[str, str]:
    """The spec by field, a method's knob as ``values.NAME``, and what the run found of model and device."""
    told = spec.to_dict()
    values = told.pop("values")
    found: Mapping[str, Any] = next((e for e in reversed(events) if e["type"] == "ready"), {})
    named = {
        **told,
        **{f"values.{name}": value for name, value in values.items()},
        **{name: found[name] for name in _READY if name in found},
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in named.items()}


def points(events: Sequence[Event]) -> list[Point]:
    """All figures so far, in the order of their events; no figure twice at one step.

    Those of a run that went on are of the steps that its file has: it was cut back to where it went on from.
    """
    made: dict[tuple[str, int], Point] = {}
    begun = events[0]["time"] if events else 0.0
    step = 0
    for event in events:
        if event["type"] == "step":
            step = int(event["step"])
        for name, value in _figures(event).items():
            at = 0 if name.startswith("base/") else step
            made[name, at] = Point(name, float(value), at, event["time"], max(0.0, event["time"] - begun))
    return list(made.values())


def _figures(event: Event) -> dict[str, float]:
    kind = event["type"]
    if kind == "step":
        return {name: event[field] for name, field in _STEP.items() if _number(event.get(field))}
    if kind == "evaluated":
        named = {**event["metrics"], "loss": event["loss"], "seconds": event["seconds"]}
        return {f"{event['which']}/{name}": value for name, value in named.items() if _number(value)}
    if kind == "unrelated":
        return {f"{event['which']}/unrelated_loss": event["loss"]}
    if kind == "memory":
        sizes = {f"memory/{name}": event.get(name) for name in _MEMORY}
        parts = {f"memory/{name}_bytes": value for name, value in (event.get("parts") or {}).items()}
        return {name: value for name, value in {**sizes, **parts}.items() if _number(value)}
    return {}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
