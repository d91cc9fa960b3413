"""Match experiments with existing runs: each arm's run, its figures, and the conclusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from peft_lab.runs.record import stands_for
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import RunSummary, Status
from peft_lab.studies.experiments.base import Expectation, Experiment, ExperimentOutcome

_ORDER = (Status.DONE, Status.EVALUATING, Status.RUNNING, Status.STARTING, Status.QUEUED, Status.FAILED)
_SEEN = {"above": "higher", "below": "lower", "near": "no clear difference"}
_WANTED = {"above": "higher", "below": "lower", "near": "about the same"}


@dataclass(frozen=True)
class PlannedRun:
    """A run that is wanted, and the one that stands for it so far; ``None`` if there is none."""

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


def planned(specs: Mapping[str, RunSpec], lines: Sequence[RunSummary]) -> list[PlannedRun]:
    """Return the wanted runs, given by their labels, as they stand."""
    return [PlannedRun(label, spec, run_of(spec, lines)) for label, spec in specs.items()]


@dataclass(frozen=True)
class Reading:
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


def read(experiment: Experiment, label: str, outcome: ExperimentOutcome) -> Reading:
    """Return all quantities of one arm's finished run."""
    try:
        return Reading(label, tuple(quantity.read(outcome) for quantity in experiment.quantities))
    except (KeyError, TypeError, IndexError, ZeroDivisionError):
        return Reading(label, problem="the run ended without this figure")


def conclude(
    experiment: Experiment, readings: Sequence[Reading], outcomes: Sequence[ExperimentOutcome | None]
) -> Conclusion:
    """Compare the two arms that the expectation names, whatever the outcome.

    Args:
        readings: by arm. outcomes: the finished runs by arm, ``None`` if missing; they tell what chance can do.
    """
    expect, quantity = experiment.expect, experiment.quantity
    found = {reading.label: (reading, outcome) for reading, outcome in zip(readings, outcomes, strict=True)}
    (first, one), (second, two) = found[expect.first], found[expect.second]
    for reading in (first, second):
        if reading.problem:
            return Conclusion(f"{_start(reading.label)} gave no figure: {reading.problem}.", None)
    chance = quantity.chance(one, two) if quantity.chance and one and two else 0.0
    reseeded = _between_seeds(expect, {label: reading for label, (reading, _) in found.items()})
    if reseeded is None:
        return Conclusion(
            "A run with another seed gave no figure, so the size of chance differences is not known.", None
        )
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
        reasons = {
            expect.margin: "too small to count",
            chance: "chance on so few rows",
            reseeded: "the effect of another seed",
        }
        reason = reasons[margin]
        seen += f" (a difference of up to {quantity.show_difference(margin)} is {reason})"
    wanted = f"{expect.first} was expected to come out {_WANTED[expect.relation]}"
    verdict = "As expected" if holds else f"Not as expected: {wanted}"
    return Conclusion(f"{figures}: {seen}. {verdict}.", holds)


def _between_seeds(expect: Expectation, readings: Mapping[str, Reading]) -> float | None:
    """Return the largest difference that a seed alone made; ``None`` if one of those runs has no figure."""
    pairs = [(readings[one], readings[other]) for one, other in expect.reseeded]
    if any(reading.problem for pair in pairs for reading in pair):
        return None
    return max((abs(one.values[0] - other.values[0]) for one, other in pairs), default=0.0)


def _start(text: str) -> str:
    return text[:1].upper() + text[1:]
