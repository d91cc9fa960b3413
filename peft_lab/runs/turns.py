"""When a queued run starts: what the runs before it still have to do, at speeds that were measured. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import RunView, Status

SCORED = ("tuned", "base")  # in this order, each on all held-out rows


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


def left(seen: RunView, spec: RunSpec, known: Pace) -> float | None:
    """Seconds until a run of ``spec`` has ended, about; ``None`` where a speed that it depends on was never measured.

    Args:
        known: of an earlier run like it; what the run has measured of itself goes first.
    """
    if seen.status.final:
        return 0.0
    own = pace(seen).filled(known)
    rows = _rows_left(seen, spec)
    steps = max(0, spec.steps - seen.step) if seen.status is not Status.EVALUATING else 0
    parts = (_times(steps, own.step), _times(rows, own.row))
    return None if None in parts else sum(part for part in parts if part is not None)


def _times(amount: float, each: float | None) -> float | None:
    if amount <= 0:
        return 0.0
    return None if each is None else amount * each


def _rows_left(seen: RunView, spec: RunSpec) -> float:
    """Held-out rows still to be asked, of both models together."""
    done = {"tuned": seen.after is not None, "base": seen.before is not None}
    rows = float(sum(spec.eval_rows or 0 for which in SCORED if not done[which]))
    if seen.status is Status.EVALUATING and seen.evaluating:
        rows -= seen.progress * (spec.eval_rows or 0)
    return max(0.0, rows)


def all_left(each: Sequence[float | None]) -> float | None:
    """Of several runs one after another; ``None`` as soon as one of them is unknown."""
    if any(seconds is None for seconds in each):
        return None
    return sum(seconds for seconds in each if seconds is not None)
