"""What a run's folder says of its trackers (``tracking.json``): where it stands in each, how far, and what went wrong.

Written by the one process that follows the run (follow.py); read by pages and commands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from peft_lab import kinds
from peft_lab.errors import BadInput
from peft_lab.runs.store import write_json

FILE = "tracking.json"
TITLES = {"mlflow": "MLflow", "trackio": "trackio"}


@dataclass(frozen=True)
class Told:
    """How a run stands in one tracker.

    Attributes:
        tracker: ``mlflow`` or ``trackio``.
        address: where it stands, for people. identity: the tracker's own name of the run.
        sent: the last step of each figure that it has.
        complete: it has all, the ending too.
        problem: why it has not, in one sentence.
    """

    tracker: str
    address: str = ""
    identity: str = ""
    sent: Mapping[str, int] = field(default_factory=dict)
    complete: bool = False
    problem: str = ""

    def sentence(self) -> str:
        """For the run's page and the command line."""
        title = TITLES.get(self.tracker, self.tracker)
        if self.problem:
            return f"{title} was not told all of this run: {self.problem}"
        where = f"{self.address}, there as {self.identity}" if self.address else "not begun"
        return f"{title}: {where}{'' if self.complete or not self.address else ', so far'}."


def read(folder: Path) -> dict[str, Told]:
    """By tracker; ``{}`` for a run that goes to none, or whose note cannot be read: then it is told anew."""
    try:
        found = json.loads((folder / FILE).read_text("utf-8"))
        return {each["tracker"]: Told(**kinds.read(Told, each, "A tracker's note")) for each in found}
    except (OSError, ValueError, RecursionError, TypeError, KeyError, BadInput):
        return {}


def write(folder: Path, told: Told) -> None:
    """Keep one of them beside the others. Raises OSError."""
    rows: list[dict[str, Any]] = [asdict(each) for each in {**read(folder), told.tracker: told}.values()]
    write_json(folder / FILE, rows)


def failed(folder: Path, tracker: str, problem: str) -> None:
    """Keep why a tracker was not told. Raises OSError."""
    write(folder, replace(read(folder).get(tracker, Told(tracker)), complete=False, problem=problem))
