"""What the Train button offers: a checked run, whether it may start now, and how long it will take."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from peft_lab.core.errors import PeftLabError
from peft_lab.runs import allowance, forecast, kept, store
from peft_lab.runs.forecast import Forecast, RunWork
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.view import RunSummary


@dataclass(frozen=True)
class Offer:
    """A run that the learner can start.

    Attributes:
        refusal: why a limit of the class forbids it now, in one sentence; ``None`` if it may start.
        limits: the limits of the class and how much of them is used, in words; empty without limits.
        forecast: how long it will take; ``None`` before this machine was measured and for runs that are not predicted.
        duration: the forecast in words, with the spread of earlier forecasts here; empty without one.
        predictable: whether there is a forecast once this machine is measured.
    """

    spec: RunSpec
    refusal: str | None
    limits: str
    forecast: Forecast | None
    duration: str
    predictable: bool

    def start(self, starter: str) -> str:
        """Queue the run with its forecast; return its id. ``starter``: the mark of the browser that starts it."""
        run = get_queue().admit(self.spec)
        store.note_starter(run, starter)
        if self.forecast is not None:
            with suppress(OSError):  # a run trains no worse without its forecast
                forecast.note(run, self.forecast)
        return run.id


def make_offer(request: RunRequest, work: RunWork | None, past: Sequence[RunSummary]) -> Offer:
    """Check a request and return it as an offer. ``work``: ``None`` while unknown. ``past``: earlier runs, newest
    first."""
    spec = request.complete()
    refusal = allowance.limit_refusal(spec)
    expected, words = None, ""
    if work is not None:
        with suppress(PeftLabError):  # the headline says why a step cannot be simulated
            expected = forecast.forecast(work, spec, past)
            words = kept.told_forecast(expected.seconds, kept.forecast_errors(line.kept for line in past))
    predictable = forecast.predicts(spec.entry.kind, spec.task)
    return Offer(spec, refusal, refusal or allowance.limits_said(), expected, words, predictable)
