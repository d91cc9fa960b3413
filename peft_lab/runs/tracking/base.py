"""The interface of a tracker, in terms MLflow and trackio share: parameters, metrics, a folder, an ending."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from peft_lab.runs.events import Event, latest
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import Status

PROJECT = "peft-lab"  # MLflow's experiment, trackio's project


@dataclass(frozen=True)
class Point:
    """One figure of a run.

    Attributes:
        name: such as ``loss`` or ``tuned/accuracy``.
        step: after which it was measured; 0 for the base model.
        time: of the run's event, in seconds since 1970.
        since: seconds since the run was submitted.
    """

    name: str
    value: float
    step: int
    time: float
    since: float


class Tracker(Protocol):
    """One run in one tracker. Raises whatever the tracker's library raises."""

    @property
    def address(self) -> str:
        """Return where people find the run, without a password."""

    @property
    def identity(self) -> str:
        """Return the tracker's own id of the run, with which it can be resumed later."""

    def points(self, points: Sequence[Point]) -> None:
        """Send new figures, in order."""

    def folder(self, path: Path) -> None:
        """Upload the adapter as an artifact."""

    def end(self, status: Status, message: str) -> None:
        """Record how the run has ended."""


class Opens(Protocol):
    """Begins a run in a tracker, or resumes that of an ``identity``; ``home``: folder for a local store."""

    def __call__(self, run: str, parameters: Mapping[str, str], home: Path, identity: str) -> Tracker: ...


# ----------------------------------------
# What is sent to a tracker: a run's spec as parameters, its events as figures by step. Pure functions.


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
    """Return the spec's fields, each knob as ``values.NAME``, and what the run found of model and device."""
    told = spec.to_dict()
    values = told.pop("values")
    found = latest(events, "ready") or {}
    named = {
        **told,
        **{f"values.{name}": value for name, value in values.items()},
        **{name: found[name] for name in _READY if name in found},
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in named.items()}


def run_points(events: Sequence[Event]) -> list[Point]:
    """Return all figures so far, in the order of their events; no figure twice at one step.

    A resumed run has only the steps in its file, which was cut back to the step it resumed from.
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
