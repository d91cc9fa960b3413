"""Predict, then run: the learner commits to an option, the experiment runs, its figures decide.

The items are in :mod:`peft_lab.quiz.prediction_bank`. An experiment is either a question to the inspector process
(counts, simulations, small experiments) or a set of training runs for the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from peft_lab.errors import BadInput
from peft_lab.quiz.computed import show
from peft_lab.runs.spec import RunRequest
from peft_lab.units import Source
from peft_lab.workers import inspector

Rule = Literal["largest", "smallest", "bands"]
Ask = Callable[..., Any]


@dataclass(frozen=True)
class Inquiry:
    """An experiment that the inspector answers: ``function(*arguments)`` gives one figure per label.

    ``categorical`` figures only mark the option that came true and are not shown; ``evidence`` names further figures
    behind them, in ``unit``, which are.
    """

    function: Callable[..., list[float]]
    labels: tuple[str, ...]
    unit: str
    source: Source
    arguments: tuple[Any, ...] = ()
    categorical: bool = False
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contest:
    """An experiment that trains: one run per label, compared by what their records say.

    Attributes:
        figure: path in the record, such as ``("metric", "after")``.
    """

    runs: tuple[RunRequest, ...]
    labels: tuple[str, ...]
    figure: tuple[str, ...]
    unit: str
    source: Source = Source.MEASURED


@dataclass(frozen=True)
class Figure:
    """One result: what it belongs to, and its value in ``unit``."""

    label: str
    value: float
    unit: str

    @property
    def shown(self) -> str:
        return show(self.value, self.unit)


@dataclass(frozen=True)
class PredictionOutcome:
    """What an experiment said. ``right`` is the index of the option that holds."""

    right: int
    figures: tuple[Figure, ...]
    source: Source


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One thing to predict.

    Attributes:
        belief: the common belief that it tests.
        rule: ``largest`` and ``smallest`` compare one figure per option; ``bands`` puts the first figure between
            limits.
        bands: for ``bands``: the upper limit of each option but the last.
        why: two sentences for afterwards.
        pages: slugs of pages to read on.
    """

    id: str
    topic: str
    belief: str
    question: str
    options: tuple[str, ...]
    experiment: Inquiry | Contest
    rule: Rule
    why: str
    sources: tuple[str, ...]
    bands: tuple[float, ...] = ()
    pages: tuple[str, ...] = field(default=())

    @property
    def trains(self) -> bool:
        """Whether it needs training runs rather than seconds of the inspector."""
        return isinstance(self.experiment, Contest)


def run(prediction: Prediction, ask: Ask = inspector.ask) -> PredictionOutcome:
    """Run an inquiry and decide. A page that must not wait uses :func:`submission` and :func:`decide`.

    Raises:
        BadInput: a prediction that trains; submit its runs and give their records to :func:`decide_records`.
    """
    function, arguments = submission(prediction)
    return decide(prediction, ask(function, *arguments))


def submission(prediction: Prediction) -> tuple[Callable[..., list[float]], tuple[Any, ...]]:
    """Function and arguments for ``inspector.submit``. Raises as :func:`run`."""
    if isinstance(prediction.experiment, Contest):
        raise BadInput(f"'{prediction.id}' is settled by training runs.")
    return prediction.experiment.function, prediction.experiment.arguments


def decide(prediction: Prediction, values: Sequence[float]) -> PredictionOutcome:
    """The outcome of an experiment's figures, one per label and then one per piece of evidence.

    Raises:
        BadInput: another number of figures, such as those that an earlier version kept.
    """
    experiment = prediction.experiment
    evidence = experiment.evidence if isinstance(experiment, Inquiry) else ()
    deciding, count = list(values[: len(experiment.labels)]), len(experiment.labels) + len(evidence)
    if len(values) != count:
        raise BadInput(f"'{prediction.id}' has {count} figures, not {len(values)}. Run it again.")
    if prediction.rule == "bands":
        right = sum(deciding[0] > limit for limit in prediction.bands)
    else:
        right = deciding.index(max(deciding) if prediction.rule == "largest" else min(deciding))
    hidden = isinstance(experiment, Inquiry) and experiment.categorical
    named = [] if hidden else list(zip(experiment.labels, deciding, strict=True))
    named += zip(evidence, values[len(deciding) :], strict=True)
    figures = tuple(Figure(label, value, experiment.unit) for label, value in named)
    return PredictionOutcome(right, figures, experiment.source)


def decide_records(prediction: Prediction, records: Sequence[Mapping[str, Any]]) -> PredictionOutcome:
    """The outcome of a contest from its runs' records, in order.

    Raises:
        BadInput: a run that did not finish, or whose record lacks the figure.
    """
    if not isinstance(prediction.experiment, Contest):
        raise BadInput(f"'{prediction.id}' needs no training runs.")
    values = []
    for record in records:
        value: Any = record
        for key in prediction.experiment.figure:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            name = record.get("run_id", "A run")
            raise BadInput(
                f"{name} has no {'.'.join(prediction.experiment.figure)} (status: {record.get('status')})."
            )
        values.append(float(value))
    return decide(prediction, values)


def score(prediction: Prediction, outcome: PredictionOutcome, guess: int) -> tuple[bool, str]:
    """Whether a guess (an option's index) was right, and a sentence with the figures.

    Raises:
        BadInput: no such option.
    """
    if not 0 <= guess < len(prediction.options):
        raise BadInput(f"There are {len(prediction.options)} options to choose from.")
    shown = ", ".join(
        f"{figure.label}: {figure.shown}" if figure.label else figure.shown for figure in outcome.figures
    )
    found = f"{prediction.options[outcome.right]}." + (f" {shown}." if shown else "")
    return guess == outcome.right, ("As you said: " if guess == outcome.right else "It is: ") + found
