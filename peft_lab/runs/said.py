"""What was said of runs' seconds before they started, beside what they took: kept, and shown over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from peft_lab.core import machine, units

EVENT = "expected"
#: Runs on this machine before a band is said, and the latest that are looked at.
ENOUGH, LATEST_FORECASTS = 5, 50


@dataclass(frozen=True)
class Kept:
    """What was said of a run before it started, beside what it took.

    Attributes:
        where: the processor it was said for. took: ``None`` of a run that has not ended as it was meant to.
    """

    seconds: float
    plain: float
    where: str
    took: float | None = None

    @property
    def ratio(self) -> float | None:
        """Seconds measured over those said."""
        return self.took / self.seconds if self.took else None


def forecasts_file() -> str:
    """The processor, as runs note it."""
    return f"{machine.processor()}, {machine.cores()}"


def kept_forecasts(events: Iterable[Mapping[str, Any]], took: float | None) -> Kept | None:
    """What was said of a run, of its events; ``took``: its seconds where it is done. One that went on after it had
    ended too early took other seconds."""
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
    """Seconds measured over those said, of the latest runs on this machine."""
    ratios = [one.ratio for one in past if one is not None and one.where == forecasts_file()]
    return [ratio for ratio in ratios if ratio is not None][:LATEST_FORECASTS]


def typical_error(ratios: Sequence[float]) -> float:
    """Median of how far those said were off, as a share of what was measured."""
    return median(abs(1 / ratio - 1) for ratio in ratios)


def forecast_made_of(like: int) -> str:
    """What an expectation was made of. ``like``: runs of before that corrected it."""
    if not like:
        return "Simulated at this machine's measured speed."
    runs = "a run" if like == 1 else f"{like} runs"
    return f"Simulated, and corrected by {runs} like it."


def beside_forecasts(seconds: float, took: float | None) -> str:
    """What a run ``took`` beside the ``seconds`` that were said of it, as a sentence; empty as long as it goes.

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
    """What a button says: ``about 50 s``, or what the errors of enough runs make of it.

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
