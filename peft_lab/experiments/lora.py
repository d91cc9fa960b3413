"""LoRA: what rank, learning rate and start do within a minute of training."""

from __future__ import annotations

from functools import partial

from peft_lab.experiments.base import Arm, Expectation, Experiment
from peft_lab.experiments.quantities import LOSS, METRIC, STORED, TRAINED, Outcome, Quantity
from peft_lab.units import Source

_here = partial(Experiment, method="lora", model="minilm-l6", task="sentiment")
# α grows with r, so that BA is scaled alike and the arms differ in capacity alone.
_RANKS = tuple(Arm(f"rank {rank}", {"r": rank, "lora_alpha": 2 * rank}) for rank in (1, 4, 16, 64))


def _used(outcome: Outcome) -> float:
    rows = outcome.insight["corrections"]
    return float(sum(row["effective_rank"] for row in rows) / len(rows))


def _used_share(outcome: Outcome) -> float:
    rows = outcome.insight["corrections"]
    return float(sum(row["effective_rank"] / row["rank"] for row in rows) / len(rows))


USED = Quantity("Effective rank of ΔW, mean of all matrices", "", Source.MEASURED, _used)
USED_SHARE = Quantity("Share of the rank that is used", "share", Source.MEASURED, _used_share)

EXPERIMENTS = (
    _here(
        id="lora-rank",
        title="Rank 1 against rank 64",
        question="Sixty-four times the parameters, the same sixty steps: how much better does the model get?",
        why="The correction that a task needs has a low rank, which is LoRA's premise: a few directions carry most of "
        "it. More rank adds room that so short a training hardly fills.",
        arms=_RANKS,
        quantities=(METRIC, LOSS, TRAINED, STORED),
        expect=Expectation("rank 64", "near", "rank 1"),
        source="Hu et al. 2021, arXiv 2106.09685, section 7.2, table 6",
    ),
    _here(
        id="lora-effective-rank",
        title="How much of the rank is used",
        question="A correction of rank 64 may use 64 directions. How many does it use?",
        why="The effective rank counts directions by their weight: 64 when all are equally strong, 1 when one rules. "
        "Training strengthens a few directions far more than the others, so the share that is used falls as r grows.",
        arms=_RANKS,
        quantities=(USED_SHARE, USED, TRAINED),
        expect=Expectation("rank 64", "below", "rank 4"),
        source="Hu et al. 2021, arXiv 2106.09685, section 7.2; effective rank: Roy and Vetterli 2007",
    ),
    _here(
        id="lora-learning-rate",
        title="Full fine-tuning's learning rate",
        question="LoRA at the rate that suits full fine-tuning, 2e-5: does it learn as well as at its own?",
        why="A and B start small and only their product counts, so they need far larger steps than pretrained weights, "
        "which a large step would damage. A rate that is far too small looks like a method that does not work.",
        arms=(
            Arm("2e-5", learning_rate=2e-5),
            Arm("4e-3", learning_rate=4e-3),
            Arm("0.3", learning_rate=0.3),
        ),
        quantities=(METRIC, LOSS),
        expect=Expectation("2e-5", "below", "4e-3"),
        source="PEFT method comparison, MetaMathQA: settings move a result more than the choice of method",
    ),
)
