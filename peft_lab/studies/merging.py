"""Measure what each way of merging a QLoRA costs in score: train briefly, merge, evaluate every merged model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peft_lab.methods.qlora import recording
from peft_lab.runs import course
from peft_lab.runs.spec import RunRequest
from peft_lab.studies.tiny import four_bit_moves, seed
from peft_lab.training.step import Masters

if TYPE_CHECKING:
    import torch

#: The training: long enough to learn, on the smallest model; other knobs have their defaults.
REQUEST = RunRequest(
    model="minilm-l6", method="qlora", task="sentiment", values={"r": 8}, steps=40, eval_rows=500
)
UNMERGED = "unmerged"
#: The ways of merging that are scored; :func:`peft_lab.methods.qlora.recording.ways` defines them.
WAYS = ("expanded", "fresh", "rounded again")


@dataclass(frozen=True)
class MergeScores:
    """The scores of merged models, and how far training and rounding moved the weights.

    Attributes:
        scores: share of right answers on ``rows`` held-out rows, by way; ``base``: the quantised base alone.
        correction: norm of all learnt corrections over that of the adapted weights. rounding: the norm of the
            quantisation error of these weights, over the same.
        lost, shift: for the model's first matrix, as :func:`peft_lab.studies.tiny.four_bit_moves` returns them.
    """

    scores: dict[str, float]
    rows: int
    correction: float
    rounding: float
    lost: float
    shift: float


def merge_scores() -> MergeScores:
    """Train, merge in every way and evaluate. Takes about a minute on an idle machine.

    Raises:
        AssetError: weights or data must be downloaded first.
    """
    spec = REQUEST.complete()
    ready = course.prepare(spec)
    masters = Masters(ready.model)
    for _ in course.steps(ready, masters, course.optimizer_of(ready, masters)):
        pass
    course.settle(ready, masters)
    examiner = course.examiner(ready)

    def score(model: torch.nn.Module) -> float:
        return examiner.evaluate(model, ready.test).metrics[ready.task.metric]

    def fresh() -> torch.nn.Module:
        return course.fresh_base(spec, ready.task, quantised=False).model

    import torch

    model = ready.model.eval()
    scores = {UNMERGED: score(model)}
    with torch.no_grad():
        correction, rounding = recording.moved(model, fresh)
        for way, make in recording.ways(model, {}, fresh):
            if way in WAYS:
                scores[way] = score(make())
        with model.disable_adapter():  # type: ignore[operator]
            scores["base"] = score(model)
        seed()
        plain = next(module for _, module in fresh().named_modules() if isinstance(module, torch.nn.Linear))
        lost, shift = four_bit_moves(plain.weight)
    return MergeScores(scores, len(ready.test), correction, rounding, lost, shift)
