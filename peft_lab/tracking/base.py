"""What every tracker is asked for, in the words that both have: parameters, metrics by step, a folder, an ending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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
