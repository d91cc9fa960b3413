"""Predict, then run: the learner commits to an option, the experiment runs, its figures decide.

The predictions are in ``content/predictions.yaml``. An experiment is either a call to the inspector process
(counts, simulations, small experiments) or a set of training runs for the queue.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from peft_lab.core import disk
from peft_lab.core.content import Citation, by_id, mistake, read_entries
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.core.units import Source
from peft_lab.interview.computed import show
from peft_lab.interview.question import CONTENT, topics
from peft_lab.methods.base import STEPS
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.studies import tiny as tiny_module
from peft_lab.studies.tiny import TINY_BERT, lora, seed, tiny, tokens, trainable


def misspelt_target() -> list[float]:
    """Return what PEFT does with one right and one misspelt target: refuse (first), warn (second) or accept (third);
    then how many modules of each name it adapted."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = lora(tiny(), targets=["q_proj", "v_porj"])
        except ValueError:
            return [1.0, 0.0, 0.0, 0.0, 0.0]
    warned = any("v_porj" in str(warning.message) for warning in caught)
    adapted = [name for name, _ in model.named_modules() if name.endswith(".lora_A")]
    counts = [float(sum(f".{target}." in name for name in adapted)) for target in ("q_proj", "v_porj")]
    return [0.0, float(warned), float(not warned), *counts]


def wrapped_twice() -> list[float]:
    """Return trainable parameters after wrapping one base for q, then v, over those of a fresh base wrapped for v."""
    import warnings

    base = tiny()
    lora(base, targets=["q_proj"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT rightly warns about it
        again = trainable(lora(base, targets=["v_proj"]))
    return [again / trainable(lora(tiny(), targets=["v_proj"]))]


def prompt_positions(virtual: int) -> list[float]:
    """Return the number of positions of logits for 12 tokens of text after a soft prompt."""
    import torch
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=virtual)
    model: Any = get_peft_model(tiny(), config)
    with torch.no_grad():
        return [float(model(tokens()[:1]).logits.shape[1])]


def pissa_disabled() -> list[float]:
    """Return by how many percent PiSSA's logits differ from the original model's: at step 0, and without adapter."""
    import torch

    with torch.no_grad():
        original = tiny().eval()(tokens()).logits
        model = lora(tiny(), start="pissa").eval()
        started = model(tokens()).logits
        with model.disable_adapter():
            disabled = model(tokens()).logits
    return [
        100 * float((started - original).norm() / original.norm()),
        100 * float((disabled - original).norm() / original.norm()),
    ]


def prefix_on_encoder() -> list[float]:
    """Try Prefix Tuning on a BERT classifier: runs (first) or is refused (second); then how many of two sentences are
    answered with a prefix, with a prompt and with LoRA."""
    from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig

    lora = LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"])
    prefix = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)
    prompt = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)
    answered = [_answered(config) for config in (prefix, prompt, lora)]
    return [float(answered[0] > 0), float(answered[0] == 0), *answered]


def _answered(config: Any) -> float:
    """Return how many sentences a small BERT classifier with this adapter answers; 0 if it takes no past keys."""
    import torch
    from peft import get_peft_model
    from transformers import BertConfig, BertForSequenceClassification

    seed()
    model: Any = get_peft_model(BertForSequenceClassification(BertConfig(**TINY_BERT)), config)
    try:
        with torch.no_grad():
            return float(len(model(tokens()).logits))
    except ValueError as error:
        if "past key values" in str(error):
            return 0.0
        raise


FILE = CONTENT / "predictions.yaml"
Rule = Literal["largest", "smallest", "bands"]
Function = Callable[..., list[float]]
Arguments = tuple[Any, ...]


@dataclass(frozen=True)
class Inquiry:
    """An experiment that the inspector answers: ``function(*arguments)`` returns one figure per label.

    ``categorical`` figures only mark the option that came true and are not shown; ``evidence`` labels further figures,
    in ``unit``, which are shown.
    """

    function: Function
    labels: tuple[str, ...]
    unit: str
    source: Source
    arguments: Arguments = ()
    categorical: bool = False
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contest:
    """An experiment that trains: one run per label, compared by a figure in their records. ``figure``: path in the
    record, such as ``("metric", "after")``."""

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
    sources: tuple[Citation, ...]
    bands: tuple[float, ...] = ()
    pages: tuple[str, ...] = field(default=())

    @property
    def trains(self) -> bool:
        """Return whether it needs training runs rather than seconds of the inspector."""
        return isinstance(self.experiment, Contest)


def submission(prediction: Prediction) -> tuple[Function, Arguments]:
    """Return function and arguments for ``inspector.submit``; its answer goes to :func:`decide`. Raises BadInput: the
    prediction trains; submit its runs and give their records to :func:`decide_records`."""
    if isinstance(prediction.experiment, Contest):
        raise BadInput(f"'{prediction.id}' is settled by training runs.")
    return prediction.experiment.function, prediction.experiment.arguments


def decide(prediction: Prediction, values: Sequence[float]) -> PredictionOutcome:
    """Return the outcome for an experiment's figures, one per label and then one per piece of evidence. Raises
    BadInput: the number of figures is wrong, as for figures stored by an earlier version."""
    experiment = prediction.experiment
    evidence = experiment.evidence if isinstance(experiment, Inquiry) else ()
    deciding, count = list(values[: len(experiment.labels)]), len(experiment.labels) + len(evidence)
    if len(values) != count:
        raise BadInput(f"'{prediction.id}' needs {count} figures, not {len(values)}. Run it again.")
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
    """Return the outcome of a contest from its runs' records, in order. Raises BadInput: the prediction needs no
    training, a run did not finish, or its record lacks the figure."""
    if not isinstance(prediction.experiment, Contest):
        raise BadInput(f"'{prediction.id}' needs no training runs.")
    values = []
    for record in records:
        value: Any = record
        for key in prediction.experiment.figure:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            name, figure = record.get("run_id", "A run"), ".".join(prediction.experiment.figure)
            raise BadInput(f"{name} has no {figure} (status: {record.get('status')}).")
        values.append(float(value))
    return decide(prediction, values)


# ----------------------------------------
# The predictions: ``content/predictions.yaml``.


@cache
def all_predictions() -> dict[str, Prediction]:
    """Return every prediction by id. Raises ContentError for a mistake in their file."""
    converters = {Function: _function, Arguments: _arguments, RunRequest: _request, Source: Source}
    entries = read_entries(FILE, Prediction, converters)
    for entry in entries:
        if entry.topic not in topics():
            raise mistake(FILE, f"there is no topic '{entry.topic}'.", f"id: {entry.id}", "topic:")
    return by_id(FILE, entries)


def _function(name: Any) -> Function:
    for names in (vars(tiny_module), globals()):
        function: Function | None = names.get(name)
        if function is not None and function.__annotations__.get("return") == "list[float]":
            return function
    raise ValueError(f"there is no experiment '{name}' in studies/tiny.py or interview/predictions.py")


def _arguments(stated: Any) -> Arguments:
    """Return arguments as the inspector is sent them: lists within the tuple of all."""

    return tuple(json.loads(json.dumps(stated)))


def _request(stated: Any) -> RunRequest:
    """Return a contest's run: of as many steps for every method, unless it states others."""
    try:
        return RunRequest.from_dict({"steps": STEPS, **stated})
    except PeftLabError as error:
        raise ValueError(str(error).rstrip(".")) from None


# ----------------------------------------
# Trainings that settle a prediction, measured elsewhere and shipped with the app: ``stored.json``, written by
# ``python -m tools.store_contests``. A learner may replay one instead of training for minutes.


STORED = Path(__file__).with_name("stored.json")


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
    complete = tuple(map(RunSpec.from_dict, kept["complete"]))
    return Stored(tuple(map(float, kept["values"])), str(kept["measured"]), complete)


def same_runs(kept: list[dict[str, Any]], contest: Contest) -> bool:
    """Return whether stored specs are those of the contest. Works without the model's weights."""
    return [RunRequest.from_dict(spec) for spec in kept] == list(contest.runs)


@cache
def _all() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = disk.read_json(STORED)
    return found
