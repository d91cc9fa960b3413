"""Forecasts of runs' durations beside the measured times, and the errors over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from peft_lab.core import machine, units

EVENT = "expected"
#: Runs on this machine needed for a range, and the most that are considered, latest first.
ENOUGH, LATEST_FORECASTS = 5, 50


@dataclass(frozen=True)
class Kept:
    """The forecast of a run's duration, beside the measured one.

    Attributes:
        where: the processor it was made for. took: ``None`` if the run is not done.
    """

    seconds: float
    plain: float
    where: str
    took: float | None = None

    @property
    def ratio(self) -> float | None:
        """Return measured over predicted seconds; ``None`` if not measured."""
        return self.took / self.seconds if self.took else None


def forecasts_file() -> str:
    """Return the processor and its cores, as forecasts name them."""
    return f"{machine.processor()}, {machine.cores()}"


def kept_forecasts(events: Iterable[Mapping[str, Any]], took: float | None) -> Kept | None:
    """Return the forecast among a run's events; ``None`` without one. ``took``: its seconds if it is done;
    dropped for a resumed run, which took other seconds."""
    found = None
    for event in events:
        if event["type"] == EVENT:
            found = event
        elif event["type"] == "queued" and "continued" in event:
            took = None
    if found is None:
        return None
    return Kept(found["seconds"], found["plain"], found["where"], took)


def forecast_errors(past: Iterable[Kept | None]) -> list[float]:
    """Return measured over predicted seconds of the latest runs on this machine."""
    ratios = [one.ratio for one in past if one is not None and one.where == forecasts_file()]
    return [ratio for ratio in ratios if ratio is not None][:LATEST_FORECASTS]


def typical_error(ratios: Sequence[float]) -> float:
    """Return the median error of the forecasts, as a share of the measured time."""
    return median(abs(1 / ratio - 1) for ratio in ratios)


def forecast_made_of(like: int) -> str:
    """Return how a forecast was made, in one sentence. ``like``: earlier runs that corrected it."""
    if not like:
        return "Simulated at this machine's measured speed."
    runs = "a run" if like == 1 else f"{like} runs"
    return f"Simulated, and corrected by {runs} like it."


def beside_forecasts(seconds: float, took: float | None) -> str:
    """Return a run's measured and predicted seconds as a sentence; empty until it has ended.

    >>> beside_forecasts(60.0, 48.0)
    'Took 48 s from its start to the last score; 60 s were expected (+25%).'
    """
    if not took:
        return ""
    return (
        f"Took {units.seconds(took)} from its start to the last score; {units.roughly(seconds)} were expected "
        f"({seconds / took - 1:+.0%})."
    )


def told_forecast(seconds: float, ratios: Sequence[float]) -> str:
    """Return a button's forecast: ``about 50 s``, or a range if there are errors of enough runs.

    >>> told_forecast(48.2, []), told_forecast(48.2, [0.9, 0.95, 1.0, 1.1, 1.3])
    ('about 48 s', '43 to 63 s')
    """
    if len(ratios) < ENOUGH:
        return f"about {units.roughly(seconds)}"
    low, high = min(ratios), max(ratios)
    if len(ratios) >= 2 * ENOUGH:
        low, *_, high = quantiles(ratios, n=10)
    ends = [units.roughly(seconds * end) for end in (low, high)]
    return f"about {ends[0]}" if ends[0] == ends[1] else units.span(seconds * low, seconds * high)
