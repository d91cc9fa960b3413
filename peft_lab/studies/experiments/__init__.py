"""Small experiments that show what a method can and cannot do: ``studies/experiments/<slug>.yaml`` for each method; and
their match with existing runs.

A file has ``usual``, fields that hold for all of its ``experiments``, whose entries are the fields of
:class:`~peft_lab.studies.experiments.Experiment`. Nothing else lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from itertools import chain
from math import sqrt
from statistics import fmean
from typing import Any, Literal

import yaml

from peft_lab.core import content, units
from peft_lab.core.errors import BadInput
from peft_lab.core.units import Source
from peft_lab.engine.published import right
from peft_lab.methods import all_methods
from peft_lab.runs.record import stands_for
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import RunSummary, Status

# ----------------------------------------
# The quantities that an experiment can read from a finished run.


LAST = 10  # training steps over which the final loss is averaged
SURE = 2.0  # standard errors above which a difference is not attributed to chance


@dataclass(frozen=True)
class ExperimentOutcome:
    """A finished run."""

    record: Mapping[str, Any]  # as :func:`peft_lab.runs.record.record_of` makes it
    insight: Mapping[str, Any]  # the method's own notes, may be empty
    stored_bytes: int = 0  # size of the saved adapter's tensors file; 0 if there is none


@dataclass(frozen=True)
class Quantity:
    """One figure of a run."""

    title: str
    unit: str  # ``share`` is written in percent; others as :func:`peft_lab.core.units.show` writes them
    source: Source
    # returns the figure of a run. Raises KeyError or TypeError if the run has no such figure
    read: Callable[[ExperimentOutcome], float]
    # returns how far apart two runs may be by chance; ``None``: every difference counts
    chance: Callable[[ExperimentOutcome, ExperimentOutcome], float] | None = None
    tab: Literal["train", "inside"] = "train"  # the tab of a method's page that shows the figure for a run

    def show(self, value: float) -> str:
        """Return a value as text in the unit of the quantity; a share from 0 to 1 is written in percent."""
        return f"{100 * value:.1f}%" if self.unit == "share" else units.show(value, self.unit)


def _metric(outcome: ExperimentOutcome) -> float:
    return float(outcome.record["metric"]["after"])


def _sampling(first: ExperimentOutcome, second: ExperimentOutcome) -> float:
    """Return twice the standard error of the difference of two shares, as if of independent rows (Wald)."""
    shares = [(_metric(outcome), outcome.record["metric"]["rows"]) for outcome in (first, second)]
    return SURE * sqrt(sum(share * (1 - share) / rows for share, rows in shares))


def _corrections(value: Callable[[Mapping[str, Any]], float]) -> Callable[[ExperimentOutcome], float]:
    """Return a reading of LoRA's notes: the mean of ``value`` over the corrections of all matrices."""
    return lambda outcome: fmean(value(row) for row in outcome.insight["corrections"])


_measured = partial(Quantity, source=Source.MEASURED)
_counted = partial(Quantity, source=Source.COUNTED)
_inside = partial(_measured, tab="inside")
#: The figures by the names that the files of experiments use.
QUANTITIES = {
    "metric": _measured("Held-out score", "share", read=_metric, chance=_sampling),
    "loss": _measured(
        "Held-out loss", "nats", read=lambda outcome: float(outcome.record["evaluation"]["after"]["loss"])
    ),
    "base_loss": _measured(
        "Held-out loss before training",
        "nats",
        read=lambda outcome: float(outcome.record["evaluation"]["before"]["loss"]),
    ),
    "train_loss": _measured(
        f"Training loss, mean of the last {LAST} steps",
        "nats",
        read=lambda outcome: fmean(outcome.record["loss"][-LAST:]),
    ),
    "peak": _measured(
        "Peak memory", "bytes", read=lambda outcome: float(outcome.record["memory"]["peak_bytes"])
    ),
    "step_seconds": _measured(
        "Time per step", "seconds", read=lambda outcome: 1 / outcome.record["steps_per_second"]
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
    "on_prefix": _inside(
        "Attention on the prefix",
        "share",
        read=lambda outcome: fmean(chain(*outcome.insight["attention"][-1]["share"])),
    ),
}


Relation = Literal["above", "below", "near"]


@dataclass(frozen=True)
class Arm:
    """One run of an experiment. Attributes that are ``None`` take the experiment's value."""

    label: str  # what distinguishes the arm, as part of a sentence: ``rank 1``
    values: Mapping[str, Any] = field(default_factory=dict)  # the knobs that are not at their defaults
    method: str | None = None  # a slug, for an arm of another method
    model: str | None = None
    task: str | None = None
    steps: int | None = None
    seed: int = 0
    learning_rate: float | None = None
    # other settings of the run (``weight_decay`` ...), by their names in :class:`RunRequest`
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Expectation:
    """The expected relation between the first quantity of two arms, stated before anything runs."""

    first: str  # first and second: labels of arms
    # ``above`` and ``below`` need a difference larger than ``margin`` and than chance; ``near`` expects one that is not
    # larger
    relation: Relation
    second: str
    margin: float = 0.0  # in the quantity's own unit, as :meth:`Quantity.read` returns it
    # pairs of arms that differ only in the seed. A difference has to be larger than theirs
    reseeded: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A question that short runs answer."""

    id: str  # unique among all experiments; starts with the method's slug
    method: str  # slug of the method on whose page it is shown
    title: str
    question: str  # what the reader is to predict before running it
    why: str  # two sentences of explanation, shown afterwards; true whatever the outcome
    arms: tuple[Arm, ...]
    # the figures read from every run. The expectation is about the first one, which is drawn
    quantities: tuple[Quantity, ...]
    expect: Expectation
    source: str  # where the effect is described: a paper with its section, a benchmark
    model: str
    task: str
    steps: int = 60
    eval_rows: int | None = 500  # held-out rows. With few, differences by chance are large; many take long

    @property
    def quantity(self) -> Quantity:
        """Return the main quantity, which the expectation is about: the first one listed."""
        return self.quantities[0]

    def requests(self) -> tuple[RunRequest, ...]:
        """Return the requests of the runs, in the order of the arms."""
        return tuple(
            RunRequest(
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
            for arm in self.arms
        )


#: Where a sentence has the score of a row of the published comparison: ``{published lora-rank32}``.
_PUBLISHED = re.compile(r"\{published (.+?)\}")


@cache
def of_method(slug: str) -> tuple[Experiment, ...]:
    """Return the experiments of a method in display order; empty for a method without any. Raises BadInput if an entry
    of its file is invalid."""
    file = resources.files(__name__) / f"{slug}.yaml"
    if not file.is_file():
        return ()
    content = yaml.safe_load(file.read_text("utf-8"))
    return tuple(_experiment(slug, {**content["usual"], **entry}) for entry in content["experiments"])


def all_experiments() -> tuple[Experiment, ...]:
    """Return every experiment, in the order of the methods."""
    return tuple(experiment for slug in all_methods() for experiment in of_method(slug))


def _experiment(slug: str, entry: Mapping[str, Any]) -> Experiment:
    where = f"{slug}.yaml, {entry.get('id')}"
    try:
        arms = tuple(Arm(**_frozen(content.read_typed(Arm, arm, "An arm"))) for arm in entry["arms"])
        expect = Expectation(**_frozen(content.read_typed(Expectation, entry["expect"], "The expectation")))
        quantities = tuple(QUANTITIES[name] for name in entry["quantities"])
        fields: dict[str, Any] = {
            name: _PUBLISHED.sub(lambda row: right(row[1]), value) if isinstance(value, str) else value
            for name, value in entry.items()
        }
        fields |= {"arms": arms, "expect": expect, "quantities": quantities}
        return Experiment(method=slug, **fields)
    except (BadInput, KeyError, TypeError) as error:
        raise BadInput(f"{where}: {error}") from error


def _frozen(value: Any) -> Any:
    """Return JSON-like content with its lists as tuples."""
    if isinstance(value, Mapping):
        return {name: _frozen(inner) for name, inner in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


_ORDER = (Status.DONE, Status.EVALUATING, Status.RUNNING, Status.STARTING, Status.QUEUED, Status.FAILED)
_SEEN = {"above": "higher", "below": "lower", "near": "no clear difference"}
_WANTED = {"above": "higher", "below": "lower", "near": "about the same"}


@dataclass(frozen=True)
class PlannedRun:
    """A planned run's spec, and the existing run that serves as it; ``None`` if there is none."""

    label: str
    spec: RunSpec
    line: RunSummary | None

    @property
    def status(self) -> Status | None:
        """Return the run's status; ``None`` if there is none."""
        return Status(self.line.status) if self.line else None

    @property
    def done(self) -> bool:
        """Return whether the run has finished all its steps."""
        return self.status is Status.DONE

    @property
    def under_way(self) -> bool:
        """Return whether the run was begun and has not ended yet."""
        return self.status is not None and not self.status.final


def planned_runs(specs: Mapping[str, RunSpec], lines: Sequence[RunSummary]) -> list[PlannedRun]:
    """Return the planned runs, given as specs by label, with the existing runs that serve as them."""
    return [PlannedRun(label, spec, run_of(spec, lines)) for label, spec in specs.items()]


@dataclass(frozen=True)
class ArmReading:
    """The figures of an arm's run: a value for each quantity, or why there is none."""

    label: str
    values: tuple[float, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Conclusion:
    """The result as a sentence with its figures. ``holds``: whether it was as expected; ``None`` if unknown."""

    text: str
    holds: bool | None


def run_of(wanted: RunSpec, lines: Iterable[RunSummary]) -> RunSummary | None:
    """Return the run of a complete spec: a finished one before one under way, before a failed one; the first of
    several. ``None`` if there is none."""
    fitting = [
        line for line in lines if line.status in _ORDER and line.spec and stands_for(line.spec, wanted)
    ]
    return min(fitting, key=lambda line: _ORDER.index(Status(line.status)), default=None)


def outcome_of(run: Run) -> ExperimentOutcome:
    """Return a finished run's figures. Raises RunError if its folder cannot be read."""
    file = run.adapter / "adapter_model.safetensors"
    return ExperimentOutcome(run.record(), run.insight(), file.stat().st_size if file.exists() else 0)


def read_results(experiment: Experiment, label: str, outcome: ExperimentOutcome) -> ArmReading:
    """Return all quantities of one arm's finished run."""
    try:
        return ArmReading(label, tuple(quantity.read(outcome) for quantity in experiment.quantities))
    except (KeyError, TypeError, IndexError, ZeroDivisionError):
        return ArmReading(label, problem="the run ended before it was measured")


def conclude(
    experiment: Experiment, readings: Sequence[ArmReading], outcomes: Sequence[ExperimentOutcome | None]
) -> Conclusion:
    """Compare the two arms that the expectation names, whatever the outcome. ``readings``: by arm. ``outcomes``: the
    finished runs by arm, ``None`` if missing; they tell what chance can do."""
    expect, quantity = experiment.expect, experiment.quantity
    found = {reading.label: (reading, outcome) for reading, outcome in zip(readings, outcomes, strict=True)}
    (first, one), (second, two) = found[expect.first], found[expect.second]
    for reading in (first, second):
        if reading.problem:
            label = reading.label[:1].upper() + reading.label[1:]
            return Conclusion(f"{label} gave no figure: {reading.problem}.", None)
    chance = quantity.chance(one, two) if quantity.chance and one and two else 0.0
    pairs = [(found[one][0], found[other][0]) for one, other in expect.reseeded]
    if any(reading.problem for pair in pairs for reading in pair):
        return Conclusion("A run with another seed gave no figure, so the noise is unknown.", None)
    reseeded = max((abs(one.values[0] - other.values[0]) for one, other in pairs), default=0.0)
    margin = max(expect.margin, chance, reseeded)
    difference = first.values[0] - second.values[0]
    relation = "near" if abs(difference) <= margin else "above" if difference > 0 else "below"
    holds = relation == expect.relation
    figures = (
        f"{quantity.title}: {quantity.show(first.values[0])} with {expect.first}, "
        f"{quantity.show(second.values[0])} with {expect.second}"
    )
    seen = _SEEN[relation]
    if relation == "near" and margin:
        reasons = {expect.margin: "too small to count", chance: "chance on so few rows"}
        reason = {**reasons, reseeded: "the effect of another seed"}[margin]
        most = f"{100 * margin:.1f} points" if quantity.unit == "share" else quantity.show(margin)
        seen += f" (a difference of up to {most} is {reason})"
    wanted = f"Not as expected: {expect.first} was expected to be {_WANTED[expect.relation]}"
    return Conclusion(f"{figures}: {seen}. {'As expected' if holds else wanted}.", holds)
