"""What every tracker is asked for, in the words that both have: parameters, metrics by step, a folder, an ending."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from peft_lab.runs.events import Event
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import Status

PROJECT = "peft-lab"  # MLflow's experiment, trackio's project


@dataclass(frozen=True)
class Point:
    """One figure of a run.

    Attributes:
        name: such as ``loss`` or ``tuned/accuracy``.
        step: after which it was found; 0 for what is of the base model.
        time: seconds since 1970, as the run's event has it.
        since: seconds since the run was submitted.
    """

    name: str
    value: float
    step: int
    time: float
    since: float


class Tracker(Protocol):
    """One run in one tracker. What goes wrong is raised as whatever the tracker's library raises."""

    @property
    def address(self) -> str:
        """Where the run stands, for people, without a password."""

    @property
    def identity(self) -> str:
        """The tracker's own name of the run, by which it goes on later."""

    def points(self, points: Sequence[Point]) -> None:
        """Figures that it has not got yet, in order."""

    def folder(self, path: Path) -> None:
        """The adapter, as an artifact."""

    def end(self, status: Status, message: str) -> None:
        """The run has ended so."""


class Opens(Protocol):
    """Begins a run in a tracker, or goes on with that of an ``identity``; ``home`` is where it may keep a store."""

    def __call__(self, run: str, parameters: Mapping[str, str], home: Path, identity: str) -> Tracker: ...


# ----------------------------------------
# What a tracker is told of a run: its spec as parameters, its events as figures by step. Pure functions.


_STEP = {
    "loss": "loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
    "tokens": "tokens",
    "step_seconds": "seconds",
}
_MEMORY = ("peak_bytes", "process_peak_bytes", "device_allocated_bytes", "device_reserved_bytes")
_READY = ("trainable", "head", "total", "dtype", "device")


def run_parameters(spec: RunSpec, events: Sequence[Event]) -> dict[str, str]:
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


def run_points(events: Sequence[Event]) -> list[Point]:
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
