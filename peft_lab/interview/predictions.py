"""Predict, then run: the learner commits to an option, the experiment runs, its figures decide.

The items are in :mod:`peft_lab.interview.prediction_bank`. An experiment is either a call to the inspector process
(counts, simulations, small experiments) or a set of training runs for the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from peft_lab.core import disk
from peft_lab.core import references as src
from peft_lab.core.errors import BadInput
from peft_lab.core.units import Source
from peft_lab.interview.computed import show
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.studies import tiny
from peft_lab.workers import inspector

Rule = Literal["largest", "smallest", "bands"]
Ask = Callable[..., Any]


@dataclass(frozen=True)
class Inquiry:
    """An experiment that the inspector answers: ``function(*arguments)`` returns one figure per label.

    ``categorical`` figures only mark the option that came true and are not shown; ``evidence`` labels further figures,
    in ``unit``, which are shown.
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
    """An experiment that trains: one run per label, compared by a figure in their records.

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
    """One result: its label, and its value in ``unit``."""

    label: str
    value: float
    unit: str

    @property
    def shown(self) -> str:
        return show(self.value, self.unit)


@dataclass(frozen=True)
class PredictionOutcome:
    """The result of an experiment. ``right`` is the index of the option that came true."""

    right: int
    figures: tuple[Figure, ...]
    source: Source


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One thing to predict.

    Attributes:
        belief: the common belief that it tests.
        rule: ``largest`` and ``smallest`` compare one figure per option; ``bands`` compares the first figure with
            limits.
        bands: for ``bands``: the upper limit of each option but the last.
        why: two sentences shown afterwards.
        pages: slugs of pages for further reading.
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
    """Run an inquiry and return its outcome. A page that must not wait uses :func:`submission` and :func:`decide`.

    Raises:
        BadInput: the prediction trains; submit its runs and give their records to :func:`decide_records`.
    """
    function, arguments = submission(prediction)
    return decide(prediction, ask(function, *arguments))


def submission(prediction: Prediction) -> tuple[Callable[..., list[float]], tuple[Any, ...]]:
    """Return function and arguments for ``inspector.submit``. Raises as :func:`run`."""
    if isinstance(prediction.experiment, Contest):
        raise BadInput(f"'{prediction.id}' is settled by training runs.")
    return prediction.experiment.function, prediction.experiment.arguments


def decide(prediction: Prediction, values: Sequence[float]) -> PredictionOutcome:
    """Return the outcome for an experiment's figures, one per label and then one per piece of evidence.

    Raises:
        BadInput: the number of figures is wrong, as for figures stored by an earlier version.
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
    """Return the outcome of a contest from its runs' records, in order.

    Raises:
        BadInput: the prediction needs no training, a run did not finish, or its record lacks the figure.
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
    """Return whether a guess (an option's index) was right, and a sentence with the figures.

    Raises:
        BadInput: there is no such option.
    """
    if not 0 <= guess < len(prediction.options):
        raise BadInput(f"There are {len(prediction.options)} options to choose from.")
    shown = ", ".join(
        f"{figure.label}: {figure.shown}" if figure.label else figure.shown for figure in outcome.figures
    )
    found = f"{prediction.options[outcome.right]}." + (f" {shown}." if shown else "")
    return guess == outcome.right, ("As you said: " if guess == outcome.right else "It is: ") + found


# ----------------------------------------
# Predictions that a count or a simulation settles.


LLAMA = "llama-3.2-3b"
_LORA_QV: tuple[str, str, str, dict[str, Any]] = ("LoRA r=8 on q and v", LLAMA, "lora", {"r": 8})
_IA3: tuple[str, str, str, dict[str, Any]] = ("IA³", LLAMA, "ia3", {})


def _counts(quantity: str, unit: str, *contenders: tuple[str, str, str, dict[str, Any]]) -> Inquiry:
    arguments = ([list(contender[1:]) for contender in contenders], quantity)
    labels = tuple(contender[0] for contender in contenders)
    return Inquiry(tiny.counted_after_wrapping, labels, unit, Source.COUNTED, arguments)


def _peaks(
    *contenders: tuple[str, str, str, dict[str, Any], bool], batch: int = 4, seq: int = 768
) -> Inquiry:
    arguments = ([list(contender[1:]) for contender in contenders], batch, seq)
    return Inquiry(
        tiny.peaks, tuple(contender[0] for contender in contenders), "bytes", Source.SIMULATED, arguments
    )


PREDICTIONS = (
    Prediction(
        id="predict-ia3-peak",
        topic="memory",
        belief="Fewer trained parameters, less memory.",
        question="A training step of Llama 3.2 3B, 4 sequences of 768 tokens, bfloat16, AdamW. LoRA (r = 8 on q "
        "and v) trains eight times as many parameters as IA³. Which of them peaks higher?",
        options=("LoRA", "IA³"),
        experiment=_peaks((*_LORA_QV, False), (*_IA3, False)),
        rule="largest",
        why="Both train so little that gradients and optimizer states hardly count. IA³ has to keep the "
        "activations that its vectors multiply, those of the feed-forward part above all, and that costs more than "
        "it saves.",
        sources=(src.BENCH,),
        pages=("ia3", "memory"),
    ),
    Prediction(
        id="predict-checkpointing",
        topic="memory",
        belief="To save memory in LoRA, lower the rank.",
        question="LoRA on Llama 3.2 3B, 4 sequences of 768 tokens. Which change lowers the peak more?",
        options=("Rank 1 instead of 64", "Gradient checkpointing at rank 64"),
        experiment=_peaks(
            ("rank 1", LLAMA, "lora", {"r": 1}, False),
            ("rank 64, checkpointing", LLAMA, "lora", {"r": 64}, True),
        ),
        rule="smallest",
        why="The adapter and its optimizer states are a small part at any usual rank. Activations are the large "
        "part, and checkpointing keeps one input per layer instead of all of them.",
        sources=(f"{src.CHECKPOINTING}, section 4",),
        pages=("lora", "memory"),
    ),
    Prediction(
        id="predict-short-sequences",
        topic="memory",
        belief="The model decides the memory, the data does not.",
        question="LoRA on Llama 3.2 1B, rows of 768 tokens. How does the peak of a batch of 8 rows compare with "
        "that of one row?",
        options=("about the same", "up to three times", "more than three times"),
        experiment=Inquiry(
            tiny.peak_growth,
            ("8 rows over 1 row",),
            "times",
            Source.SIMULATED,
            ("llama-3.2-1b", "lora", 1, 8, 768),
        ),
        rule="bands",
        bands=(1.3, 3.0),
        why="Weights are paid once, activations and logits per token. With a large vocabulary the logits alone "
        "soon outweigh the model.",
        sources=(src.RUN,),
        pages=("memory",),
    ),
    Prediction(
        id="predict-prefix-trained",
        topic="prefix",
        belief="Prefix Tuning trains under one percent.",
        question="GPT-2, a prefix of 20 tokens with `prefix_projection=True`. How many percent of all parameters "
        "are trained?",
        options=("under 1%", "1 to 5%", "over 5%"),
        experiment=_counts(
            "percent",
            "percent",
            ("", "gpt2", "prefix", {"num_virtual_tokens": 20, "prefix_projection": True}),
        ),
        rule="bands",
        bands=(1.0, 5.0),
        why="The projection's last layer makes keys and values for all layers at once and dwarfs the prefix. It "
        "exists in training only; what is stored is the small part.",
        sources=(f"{src.PREFIX}, section 4.3",),
        pages=("prefix",),
    ),
    Prediction(
        id="predict-value-map",
        topic="lora",
        belief="LoRA costs the same on every attention map.",
        question="LoRA of rank 16 on one kind of map of Llama 3.2 3B. Which is the cheapest target?",
        options=("the query maps", "the value maps", "the output maps", "the feed-forward down maps"),
        experiment=_counts(
            "trainable",
            "parameters",
            ("q_proj", LLAMA, "lora", {"r": 16, "target_modules": ["q_proj"]}),
            ("v_proj", LLAMA, "lora", {"r": 16, "target_modules": ["v_proj"]}),
            ("o_proj", LLAMA, "lora", {"r": 16, "target_modules": ["o_proj"]}),
            ("down_proj", LLAMA, "lora", {"r": 16, "target_modules": ["down_proj"]}),
        ),
        rule="smallest",
        why="The cost is r times inputs plus outputs. Under grouped-query attention keys and values have fewer "
        "outputs than queries, so adapting them is cheaper.",
        sources=(f"{src.LORA}, section 4.1", f"{src.GQA}, section 2"),
        pages=("lora",),
    ),
    Prediction(
        id="predict-ptuning-size",
        topic="ptuning",
        belief="P-Tuning trains a few virtual tokens, so it is smaller than LoRA.",
        question="Llama 3.2 3B, PEFT's defaults with 20 virtual tokens. Which of these trains the most parameters?",
        options=("P-Tuning with its MLP", "LoRA r=16 on q and v", "a prefix of 20 tokens"),
        experiment=_counts(
            "trainable",
            "parameters",
            ("P-Tuning", LLAMA, "ptuning", {"num_virtual_tokens": 20}),
            ("LoRA", LLAMA, "lora", {"r": 16}),
            ("Prefix Tuning", LLAMA, "prefix", {"num_virtual_tokens": 20}),
        ),
        rule="largest",
        why="The encoder that makes the tokens is as wide as the model by default, and its size grows with the "
        "square of that. It is thrown away afterwards; the stored file is the smallest of the three.",
        sources=(f"{src.PTUNING}, section 2", src.PEFT),
        pages=("ptuning",),
    ),
)


# ----------------------------------------
# Trainings that settle a prediction, measured elsewhere and shipped with the app: ``stored.json``, written by
# ``python -m tools.store_contests``. A learner may replay one instead of training for minutes.


FILE = "stored.json"


@dataclass(frozen=True)
class Stored:
    """``values``: one figure per run, as in its record. ``measured``: when, where and with what, for the reader.
    ``complete``: the runs' settings, including every default at that time."""

    values: tuple[float, ...]
    measured: str
    complete: tuple[RunSpec, ...]


def stored(prediction: Prediction) -> Stored | None:
    """Return the stored figures of a contest; ``None`` if there are none for exactly its runs."""
    if not isinstance(prediction.experiment, Contest):
        return None
    kept = _all().get(prediction.id)
    if kept is None or not same_runs(kept["runs"], prediction.experiment):
        return None
    complete = tuple(RunSpec.from_dict(spec) for spec in kept["complete"])
    return Stored(tuple(float(value) for value in kept["values"]), str(kept["measured"]), complete)


def same_runs(kept: list[dict[str, Any]], contest: Contest) -> bool:
    """Return whether stored specs are those of the contest. Works without the model's weights."""
    return [RunRequest.from_dict(spec) for spec in kept] == list(contest.runs)


@cache
def _all() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = disk.read_json(Path(__file__).with_name(FILE))
    return found
