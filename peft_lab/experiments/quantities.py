"""What an experiment can read off a run that has ended. A method's own file may define more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

from peft_lab import units
from peft_lab.units import Source

LAST = 10  # training steps whose mean loss is taken as the loss at the end
SURE = 2.0  # standard errors beyond which a difference is not put down to chance


@dataclass(frozen=True)
class ExperimentOutcome:
    """A run that has ended.

    Attributes:
        record: as :func:`peft_lab.runs.record.record_of` makes it. insight: what the method noted, may be empty.
        stored_bytes: of the saved adapter's tensors file; 0 when there is none.
    """

    record: Mapping[str, Any]
    insight: Mapping[str, Any]
    stored_bytes: int = 0


@dataclass(frozen=True)
class Quantity:
    """One figure of a run.

    Attributes:
        unit: ``share`` is written in percent; the others as :func:`peft_lab.units.show` writes them.
        read: takes it from a run. Raises KeyError or TypeError where the run has no such figure.
        chance: how far apart two runs may be by chance, from both; ``None``: every difference counts.
        tab: where a method's page shows it for a run.
    """

    title: str
    unit: str
    source: Source
    read: Callable[[ExperimentOutcome], float]
    chance: Callable[[ExperimentOutcome, ExperimentOutcome], float] | None = None
    tab: Literal["train", "look inside"] = "train"

    def show(self, value: float) -> str:
        return f"{100 * value:.1f}%" if self.unit == "share" else units.show(value, self.unit)

    def show_difference(self, value: float) -> str:
        """A distance between two values: percentages differ by points."""
        return f"{100 * value:.1f} points" if self.unit == "share" else units.show(value, self.unit)


def _metric(outcome: ExperimentOutcome) -> float:
    return float(outcome.record["metric"]["after"])


def _sampling(first: ExperimentOutcome, second: ExperimentOutcome) -> float:
    """Twice the standard error of the difference of two shares, as if they were of different rows (Wald)."""
    variance = 0.0
    for outcome in (first, second):
        share, rows = _metric(outcome), outcome.record["metric"]["rows"]
        variance += share * (1 - share) / rows
    return SURE * sqrt(variance)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


METRIC = Quantity("Held-out score", "share", Source.MEASURED, _metric, _sampling)
LOSS = Quantity(
    "Held-out loss",
    "nats",
    Source.MEASURED,
    lambda outcome: float(outcome.record["evaluation"]["after"]["loss"]),
)
BASE_LOSS = Quantity(
    "Held-out loss before training",
    "nats",
    Source.MEASURED,
    lambda outcome: float(outcome.record["evaluation"]["before"]["loss"]),
)
TRAIN_LOSS = Quantity(
    f"Training loss, mean of the last {LAST} steps",
    "nats",
    Source.MEASURED,
    lambda outcome: _mean(outcome.record["loss"][-LAST:]),
)
PEAK = Quantity(
    "Peak of one step",
    "bytes",
    Source.MEASURED,
    lambda outcome: float(outcome.record["memory"]["peak_bytes"]),
)
STORED = Quantity("Stored adapter", "bytes", Source.COUNTED, lambda outcome: float(outcome.stored_bytes))
TRAINED = Quantity(
    "Trained parameters", "parameters", Source.COUNTED, lambda outcome: float(outcome.record["trainable"])
)
STEP_SECONDS = Quantity(
    "Time of one step", "seconds", Source.MEASURED, lambda outcome: 1 / outcome.record["steps_per_second"]
)
