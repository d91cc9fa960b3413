"""When a queued run starts: what the runs before it still have to do, at speeds that were measured. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import RunView, Status


@dataclass(frozen=True)
class Pace:
    """Measured seconds: of one step, and of one held-out row of one model. ``None`` where nothing was measured."""

    step: float | None = None
    row: float | None = None

    def filled(self, other: Pace) -> Pace:
        """This pace, and the other's where this one has no figure."""
        return Pace(
            self.step if self.step is not None else other.step,
            self.row if self.row is not None else other.row,
        )


def pace(seen: RunView) -> Pace:
    """What a run has measured of itself so far."""
    scored = seen.after or seen.before
    return Pace(
        1 / seen.steps_per_second if seen.steps_per_second else None,
        scored.seconds / scored.rows if scored and scored.rows else None,
    )


@dataclass(frozen=True)
class Left:
    """About how many seconds are left. ``whole``: of everything; else of the parts whose speed was measured."""

    seconds: float
    whole: bool = True


def left(seen: RunView, spec: RunSpec, known: Pace) -> Left:
    """What a run of ``spec`` still has to do.

    Args:
        known: the pace of an earlier run like it; what the run has measured of itself goes first.
    """
    if seen.status.final:
        return Left(0.0)
    own = pace(seen).filled(known)
    steps = max(0, spec.steps - seen.step) if seen.status is not Status.EVALUATING else 0
    amounts = ((steps, own.step), (_rows_left(seen, spec), own.row))
    return Left(
        sum(amount * each for amount, each in amounts if each is not None),
        all(each is not None for amount, each in amounts if amount > 0),
    )


def _rows_left(seen: RunView, spec: RunSpec) -> float:
    """Held-out rows still to be asked, of both models together."""
    scored = (seen.after is not None) + (seen.before is not None)
    rows = float((2 - scored) * (spec.eval_rows or 0))
    if seen.status is Status.EVALUATING and seen.evaluating:
        rows -= seen.progress * (spec.eval_rows or 0)
    return max(0.0, rows)


def all_left(each: Sequence[Left]) -> Left:
    """Of several runs one after another."""
    return Left(sum(one.seconds for one in each), all(one.whole for one in each))
