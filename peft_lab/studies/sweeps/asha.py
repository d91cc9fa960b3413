"""Early stopping: Ray Tune's asynchronous successive halving decides at rungs which runs continue, on any executor.

At the first rung (``grace`` steps), then at each ``factor`` times as many, a run is compared with those that
reached the rung before; it continues if its loss is in the best 1/``factor`` of them. The loss is the training
loss, averaged over the last quarter of the steps up to the rung: held-out rows are scored after the run's end.

The decisions are stored in the runs' folders (:mod:`peft_lab.runs.checkpoints`), so a later command keeps them.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

from peft_lab.core.errors import BadInput, PeftLabError, UnknownName
from peft_lab.runs import checkpoints
from peft_lab.runs.checkpoints import Rung, Verdicts
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies.store import status_of

NAME, LOSS = "asha", "loss"
FACTOR = 4  # Ray Tune's default
WINDOW = 4  # the loss is averaged over the last 1/WINDOW of the steps up to a rung
_KEYS = ("by", "grace", "factor", "metric")
_TRAINS = (Status.STARTING, Status.RUNNING)


@dataclass(frozen=True)
class Asha:
    """The requested settings. ``grace``: steps of the first rung; ``steps``: those of a complete run."""

    grace: int
    factor: int
    steps: int

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a sweep file holds them, with the rule's name under ``by``."""
        return {"by": NAME, **asdict(self)}

    @property
    def rungs(self) -> tuple[int, ...]:
        """Return the numbers of steps at which runs are compared.

        >>> Asha(5, 3, 60).rungs
        (5, 15, 45)
        """
        found, at = [], self.grace
        while at < self.steps:
            found.append(at)
            at *= self.factor
        return tuple(found)


def parse(content: Any, steps: int) -> Asha:
    """Read ``stop`` of a sweep file: ``asha``, or its settings with ``by: asha``.

    Args:
        content: the value under ``stop``.
        steps: training steps of each run; the grace period must be shorter.

    Raises:
        BadInput: another rule or metric, or a number is out of range.
        UnknownName: ``stop`` has no such setting.
    """
    given: Mapping[Any, Any] = {"by": content} if isinstance(content, str) else content
    if not isinstance(given, dict) or given.get("by") != NAME:
        raise BadInput("'stop' takes asha, or {by: asha, grace: 15, factor: 4}.", "stop")
    for key in given:
        if key not in _KEYS:
            raise UnknownName("setting of stop", str(key), _KEYS, "stop")
    if given.get("metric", LOSS) != LOSS:
        raise BadInput(
            "Runs are ended early by their training's 'loss' alone: on held-out rows they are scored once they have "
            "ended.",
            "stop",
        )
    grace, factor = given.get("grace", max(1, steps // FACTOR)), given.get("factor", FACTOR)
    if type(grace) is not int or not 1 <= grace < steps:
        raise BadInput(f"'grace' is a number of steps from 1 to {steps - 1}; {grace} is not.", "stop")
    if type(factor) is not int or not 2 <= factor <= 100:
        raise BadInput(f"'factor' is a whole number from 2 to 100; {factor} is not.", "stop")
    return Asha(grace, factor, steps)


class Judge:
    """Decides which runs of one sweep continue."""

    def __init__(self, wanted: Asha, sweep: str) -> None:
        """Set the scheduler up. Raises BadInput if Ray Tune is not installed."""
        try:
            from ray.tune.schedulers import ASHAScheduler
        except ImportError as error:
            raise BadInput(
                f"'stop: asha' needs Ray Tune: pip install 'peft-lab[cluster]' ({error}).", "stop"
            ) from None
        self._wanted, self._sweep = wanted, sweep
        self._scheduler: Any = ASHAScheduler(
            time_attr="step",
            metric=LOSS,
            mode="min",
            max_t=wanted.steps,
            grace_period=wanted.grace,
            reduction_factor=wanted.factor,
        )
        self._known: dict[str, list[Rung]] = {}
        self._over: dict[str, int] = {}  # runs that have ended and were examined, with their stamps

    def look(self, runs: Sequence[Run]) -> None:
        """Decide about the runs that have reached a rung; decisions of an earlier command are kept."""
        for run in runs:
            if run.id not in self._known:
                self._meet(run)
        for run in runs:
            with suppress(PeftLabError):  # a run that cannot be read is reported in the sweep's rows
                self._judge(run)

    def _judge(self, run: Run) -> None:
        final, stamp = status_of(run).final, run.stamp()
        if final and self._over.get(run.id) == stamp:
            return
        known, losses = self._known[run.id], run.view().losses
        for step in self._wanted.rungs:
            if len(losses) >= step and all(rung.step != step for rung in known):
                self._decide(run, step, judged_by(losses, step))
        if final:
            self._over[run.id] = stamp

    def ended(self, run: Run) -> bool:
        """Return whether this sweep ended the run early."""
        verdicts = checkpoints.read_early(run)
        return verdicts is not None and verdicts.sweep == self._sweep and verdicts.ended_by is not None

    def _meet(self, run: Run) -> None:
        self._scheduler.on_trial_add(None, SimpleNamespace(trial_id=run.id))
        verdicts = checkpoints.read_early(run)
        kept = list(verdicts.rungs) if verdicts is not None and verdicts.sweep == self._sweep else []
        self._known[run.id] = kept
        for rung in kept:  # a rung's cutoff depends on the runs that reached it, not on their order
            self._report(run, rung.step, rung.loss)

    def _decide(self, run: Run, step: int, loss: float) -> None:
        goes_on = self._report(run, step, loss)
        # A run that has made all its steps is not ended during its evaluation.
        seen = run.view()
        goes_on = goes_on or seen.status not in _TRAINS or seen.step >= self._wanted.steps
        self._known[run.id].append(Rung(step, loss, goes_on))
        if seen.status is not Status.DONE:
            checkpoints.note_ending(run, Verdicts(self._sweep, tuple(self._known[run.id])))

    def _report(self, run: Run, step: int, loss: float) -> bool:
        """Report a loss to the scheduler; return whether the run continues."""
        trial = SimpleNamespace(trial_id=run.id)
        action = self._scheduler.on_trial_result(None, trial, {"step": step, LOSS: loss})
        return str(action) == "CONTINUE"


def judged_by(losses: Sequence[float], step: int) -> float:
    """Return the mean of the last quarter of the losses up to a step.

    >>> judged_by([9.0, 3.0, 2.0, 1.0, 0.5], 4), judged_by([9.0], 1)
    (1.0, 9.0)
    """
    return statistics.fmean(losses[step - max(1, step // WINDOW) : step])
