"""What every way of merging a QLoRA does to its score: a short training, then each merged model is examined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peft_lab.methods.qlora import insight
from peft_lab.runs import course
from peft_lab.runs.spec import RunRequest
from peft_lab.studies.tiny import four_bit_moves, seed
from peft_lab.training.step import Masters

if TYPE_CHECKING:
    import torch

#: The training: long enough to learn, on the smallest model; the other knobs are at their defaults.
REQUEST = RunRequest(
    model="minilm-l6", method="qlora", task="sentiment", values={"r": 8}, steps=40, eval_rows=500
)
UNMERGED = "unmerged"
#: The ways of merging that are scored, by :func:`peft_lab.methods.qlora.insight.ways`.
WAYS = ("expanded", "fresh", "rounded again")


@dataclass(frozen=True)
class MergeScores:
    """What was found.

    Attributes:
        scores: share of right answers on ``rows`` held-out rows, by way; ``base`` is the rounded base without adapter.
        correction: norm of all learnt corrections over that of the adapted weights; ``rounding``: of what rounding the
            base did to these, over the same.
        lost, shift: of the model's first matrix, as :func:`peft_lab.studies.tiny.four_bit_moves` says.
    """

    scores: dict[str, float]
    rows: int
    correction: float
    rounding: float
    lost: float
    shift: float


def merge_scores() -> MergeScores:
    """Train, merge every way, examine. Imports torch; takes a minute on a quiet machine.

    Raises:
        AssetError: weights or sentences that have to be fetched first.
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
        correction, rounding = insight.moved(model, fresh)
        for way, make in insight.ways(model, {}, fresh):
            if way in WAYS:
                scores[way] = score(make())
        with model.disable_adapter():  # type: ignore[operator]
            scores["base"] = score(model)
        seed()
        plain = next(module for _, module in fresh().named_modules() if isinstance(module, torch.nn.Linear))
        lost, shift = four_bit_moves(plain.weight)
    return MergeScores(scores, len(ready.test), correction, rounding, lost, shift)
