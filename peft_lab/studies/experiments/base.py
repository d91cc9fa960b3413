"""Experiments: a question, a few short runs that differ in one thing, and their expected outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import sqrt
from typing import Any, Literal

from peft_lab.core import units
from peft_lab.core.units import Source
from peft_lab.runs.spec import RunRequest

# ----------------------------------------
# The quantities that an experiment can read from a finished run.


LAST = 10  # training steps over which the final loss is averaged
SURE = 2.0  # standard errors above which a difference is not attributed to chance


@dataclass(frozen=True)
class ExperimentOutcome:
    """A finished run.

    Attributes:
        record: as :func:`peft_lab.runs.record.record_of` makes it. insight: the method's own notes, may be empty.
        stored_bytes: size of the saved adapter's tensors file; 0 if there is none.
    """

    record: Mapping[str, Any]
    insight: Mapping[str, Any]
    stored_bytes: int = 0


@dataclass(frozen=True)
class Quantity:
    """One figure of a run.

    Attributes:
        unit: ``share`` is written in percent; others as :func:`peft_lab.core.units.show` writes them.
        read: returns the figure of a run. Raises KeyError or TypeError if the run has no such figure.
        chance: returns how far apart two runs may be by chance; ``None``: every difference counts.
        tab: the tab of a method's page that shows the figure for a run.
    """

    title: str
    unit: str
    source: Source
    read: Callable[[ExperimentOutcome], float]
    chance: Callable[[ExperimentOutcome, ExperimentOutcome], float] | None = None
    tab: Literal["train", "look inside"] = "train"

    def show(self, value: float) -> str:
        """Return a value as text in the unit of the quantity; a share from 0 to 1 is written in percent."""
        return f"{100 * value:.1f}%" if self.unit == "share" else units.show(value, self.unit)

    def show_difference(self, value: float) -> str:
        """Return a difference of two values as text; shares differ by percentage points."""
        return f"{100 * value:.1f} points" if self.unit == "share" else units.show(value, self.unit)


def _metric(outcome: ExperimentOutcome) -> float:
    return float(outcome.record["metric"]["after"])


def _sampling(first: ExperimentOutcome, second: ExperimentOutcome) -> float:
    """Return twice the standard error of the difference of two shares, as if of independent rows (Wald)."""
    variance = 0.0
    for outcome in (first, second):
        share, rows = _metric(outcome), outcome.record["metric"]["rows"]
        variance += share * (1 - share) / rows
    return SURE * sqrt(variance)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _corrections(value: Callable[[Mapping[str, Any]], float]) -> Callable[[ExperimentOutcome], float]:
    """Return a reading of LoRA's notes: the mean of ``value`` over the corrections of all matrices."""
    return lambda outcome: float(_mean([value(row) for row in outcome.insight["corrections"]]))


def _prefix_share(outcome: ExperimentOutcome) -> float:
    share = outcome.insight["attention"][-1]["share"]
    return sum(map(sum, share)) / sum(map(len, share))


def _loss(when: str) -> Callable[[ExperimentOutcome], float]:
    return lambda outcome: float(outcome.record["evaluation"][when]["loss"])


_measured = partial(Quantity, source=Source.MEASURED)
_counted = partial(Quantity, source=Source.COUNTED)
_inside = partial(_measured, tab="look inside")
#: The figures by the names that the files of experiments use.
QUANTITIES = {
    "metric": _measured("Held-out score", "share", read=_metric, chance=_sampling),
    "loss": _measured("Held-out loss", "nats", read=_loss("after")),
    "base_loss": _measured("Held-out loss before training", "nats", read=_loss("before")),
    "train_loss": _measured(
        f"Training loss, mean of the last {LAST} steps",
        "nats",
        read=lambda outcome: _mean(outcome.record["loss"][-LAST:]),
    ),
    "peak": _measured(
        "Peak of one step", "bytes", read=lambda outcome: float(outcome.record["memory"]["peak_bytes"])
    ),
    "step_seconds": _measured(
        "Time of one step", "seconds", read=lambda outcome: 1 / outcome.record["steps_per_second"]
    ),
    "stored": _counted("Stored adapter", "bytes", read=lambda outcome: float(outcome.stored_bytes)),
    "trained": _counted(
        "Trained parameters", "parameters", read=lambda outcome: float(outcome.record["trainable"])
    ),
    "moved": _inside("Mean ‖ΔW‖ / ‖W‖", "share", read=_corrections(lambda row: row["ratio"])),
    "used": _inside("Mean effective rank", "", read=_corrections(lambda row: row["effective_rank"])),
    "used_share": _inside(
        "Share of r", "share", read=_corrections(lambda row: row["effective_rank"] / row["rank"])
    ),
    "apart": _inside(
        "Difference between the virtual tokens",
        "share",
        read=lambda outcome: float(outcome.insight["attention"][-1]["apart"]),
    ),
    "on_prefix": _inside("Attention on the prefix", "share", read=_prefix_share),
}


Relation = Literal["above", "below", "near"]


@dataclass(frozen=True)
class Arm:
    """One run of an experiment. Attributes that are ``None`` take the experiment's value.

    Attributes:
        label: what distinguishes the arm, as part of a sentence: ``rank 1``.
        values: the knobs that are not at their defaults.
        method: a slug, for an arm of another method.
        settings: other settings of the run (``weight_decay`` ...), by their names in :class:`RunRequest`.
    """

    label: str
    values: Mapping[str, Any] = field(default_factory=dict)
    method: str | None = None
    model: str | None = None
    task: str | None = None
    steps: int | None = None
    seed: int = 0
    learning_rate: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Expectation:
    """The expected relation between the first quantity of two arms, stated before anything runs.

    Attributes:
        first, second: labels of arms.
        relation: ``above`` and ``below`` need a difference larger than ``margin`` and than chance; ``near``
            expects one that is not larger.
        margin: in the quantity's own unit, as :meth:`Quantity.read` returns it.
        reseeded: pairs of arms that differ only in the seed. A difference has to be larger than theirs.
    """

    first: str
    relation: Relation
    second: str
    margin: float = 0.0
    reseeded: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A question that short runs settle.

    Attributes:
        id: unique among all experiments; starts with the method's slug.
        method: slug of the method on whose page it is shown.
        question: what the reader is to predict before running it.
        why: two sentences of explanation, shown afterwards; true whatever the outcome.
        quantities: the figures read from every run. The expectation is about the first one, which is drawn.
        source: where the effect is described: a paper with its section, a benchmark.
        eval_rows: held-out rows. Few make chance large, many make it slow.
    """

    id: str
    method: str
    title: str
    question: str
    why: str
    arms: tuple[Arm, ...]
    quantities: tuple[Quantity, ...]
    expect: Expectation
    source: str
    model: str
    task: str
    steps: int = 60
    eval_rows: int | None = 500

    @property
    def quantity(self) -> Quantity:
        """Return the main quantity, which the expectation is about: the first one listed."""
        return self.quantities[0]

    def requests(self) -> tuple[RunRequest, ...]:
        """Return the requests of the runs, in the order of the arms."""
        return tuple(self._request(arm) for arm in self.arms)

    def _request(self, arm: Arm) -> RunRequest:
        return RunRequest(
            model=arm.model or self.model,
            method=arm.method or self.method,
            task=arm.task or self.task,
            values=dict(arm.values),
            steps=self.steps if arm.steps is None else arm.steps,
            seed=arm.seed,
            learning_rate=arm.learning_rate,
            eval_rows=self.eval_rows,
            **arm.settings,
        )
