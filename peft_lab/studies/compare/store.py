"""Comparisons as studies: the stored plan of each, and how far its runs are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from peft_lab.core.errors import BadInput, UnreadableFile
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies.compare.plan import Cell, ComparisonPlan
from peft_lab.studies.store import Study, runs_of, status_of


@dataclass(frozen=True)
class Standing:
    """Progress of a comparison.

    Attributes:
        runs: by cell; cells without a run are left out.
        pending: cells without a finished run. failed: those of them whose representative run failed.
        running: whether a living process carries it out.
    """

    runs: dict[Cell, Run]
    done: tuple[Cell, ...]
    failed: tuple[Cell, ...]
    pending: tuple[Cell, ...]
    running: bool

    @property
    def status(self) -> str:
        """Return ``running``, ``done``, ``incomplete`` (all runs that are not done failed) or ``interrupted``."""
        if self.running:
            return "running"
        if not self.pending:
            return "done"
        return "incomplete" if len(self.failed) == len(self.pending) else "interrupted"


class Comparison(Study):
    """One comparison's folder."""

    NOUN: ClassVar[str] = "comparison"
    FOLDER: ClassVar[str] = "comparisons"
    FILE: ClassVar[str] = "plan.json"

    @property
    def plan(self) -> ComparisonPlan:
        """Return the plan. Raises RunError if the file is missing or cannot be read."""
        try:
            return ComparisonPlan.from_dict(self.content())
        except (BadInput, UnreadableFile, ValueError, KeyError, TypeError) as error:
            raise self.unreadable(error) from error

    @property
    def specs(self) -> Sequence[RunSpec]:
        return [cell.spec for cell in self.plan.cells]

    def standing(self, plan: ComparisonPlan | None = None) -> Standing:
        """Return its progress, read from the run store now."""
        cells = (plan or self.plan).cells
        found = runs_of([cell.spec for cell in cells])
        runs = {cell: run for cell, run in zip(cells, found, strict=True) if run}
        status = {cell: status_of(run) for cell, run in runs.items()}
        done = tuple(cell for cell in cells if status.get(cell) is Status.DONE)
        failed = tuple(cell for cell in cells if status.get(cell) is Status.FAILED)
        pending = tuple(cell for cell in cells if cell not in done)
        return Standing(runs, done, failed, pending, self.running)


get, delete, comparisons, root = Comparison.get, Comparison.delete, Comparison.stored, Comparison.root


def keep(plan: ComparisonPlan) -> Comparison:
    """Return the comparison of a plan, created if there is none. Raises RunError if the disk cannot be written."""
    return Comparison.create(plan.id, plan.to_dict())
