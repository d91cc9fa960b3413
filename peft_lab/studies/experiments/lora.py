"""LoRA: what rank, learning rate and start do within a minute of training."""

from __future__ import annotations

from functools import partial

from peft_lab.core.units import Source
from peft_lab.studies.experiments.base import (
    LOSS,
    METRIC,
    STEP_SECONDS,
    STORED,
    TRAINED,
    Arm,
    Expectation,
    Experiment,
    ExperimentOutcome,
    Quantity,
)

_here = partial(Experiment, method="lora", model="minilm-l6", task="sentiment")
_RANK, _ALPHA = 64, 16
# α grows with r, so that the scale of BA stays the same and the arms differ in capacity alone.
_RANKS = tuple(Arm(f"rank {rank}", {"r": rank, "lora_alpha": 2 * rank}) for rank in (1, 4, 16, 64))
# Equal parameters: a rank of attention has (768 × 4) a layer, one of the feed-forward maps (1920 × 2). The name
# output.dense alone would match attention's output too, so the six of the feed-forward part are named one by one.
_ATTENTION = ("query", "key", "value", "attention.output.dense")
_FEED_FORWARD = ("intermediate.dense", *(f"{layer}.output.dense" for layer in range(6)))


def _used(outcome: ExperimentOutcome) -> float:
    rows = outcome.insight["corrections"]
    return float(sum(row["effective_rank"] for row in rows) / len(rows))


def _used_share(outcome: ExperimentOutcome) -> float:
    rows = outcome.insight["corrections"]
    return float(sum(row["effective_rank"] / row["rank"] for row in rows) / len(rows))


def _moved(outcome: ExperimentOutcome) -> float:
    rows = outcome.insight["corrections"]
    return float(sum(row["ratio"] for row in rows) / len(rows))


MOVED = Quantity("Mean ‖ΔW‖ / ‖W‖", "share", Source.MEASURED, _moved, tab="look inside")
USED = Quantity("Mean effective rank", "", Source.MEASURED, _used, tab="look inside")
USED_SHARE = Quantity("Share of r", "share", Source.MEASURED, _used_share, tab="look inside")

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
        why="The effective rank counts directions by their weight: 64 when all are equally strong, 1 when one "
        "dominates. "
        "Training strengthens a few directions far more than the others, so the share that is used falls as r grows.",
        arms=_RANKS,
        quantities=(USED_SHARE, USED, TRAINED),
        expect=Expectation("rank 64", "below", "rank 4"),
        source="Hu et al. 2021, arXiv 2106.09685, section 7.2; effective rank: Roy and Vetterli 2007",
    ),
    _here(
        id="lora-layers",
        title="Attention or feed-forward, at the same budget",
        question="The same number of parameters on attention's four maps or on the two feed-forward maps: which "
        "learns more?",
        why="Studies on large language models found most of the gain in the feed-forward maps, even at an equal number "
        "of parameters. A short training of a small encoder for two classes may ask for too little to tell them apart.",
        arms=(
            Arm("attention", {"r": 5, "lora_alpha": 10, "target_modules": _ATTENTION}),
            Arm("feed-forward", {"r": 4, "lora_alpha": 8, "target_modules": _FEED_FORWARD}),
            Arm("attention, seed 1", {"r": 5, "lora_alpha": 10, "target_modules": _ATTENTION}, seed=1),
            Arm("feed-forward, seed 1", {"r": 4, "lora_alpha": 8, "target_modules": _FEED_FORWARD}, seed=1),
        ),
        quantities=(LOSS, METRIC, TRAINED),
        expect=Expectation(
            "feed-forward",
            "below",
            "attention",
            reseeded=(("attention", "attention, seed 1"), ("feed-forward", "feed-forward, seed 1")),
        ),
        source="Schulman and Thinking Machines Lab 2025, LoRA Without Regret, Layers Where LoRA Is Applied",
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
    _here(
        id="lora-alpha",
        title="Twice α",
        question="α goes from 16 to 32 and nothing else changes: what becomes of the correction?",
        why="ΔW is (α/r)·BA, so the same A and B count twice. Adam's steps do not depend on the size of a gradient, so "
        "A and B move about as far as before: α acts like a second learning rate.",
        arms=(Arm("α 16", {"lora_alpha": 16}), Arm("α 32", {"lora_alpha": 32})),
        quantities=(MOVED, METRIC, LOSS),
        expect=Expectation("α 32", "above", "α 16"),
        source="Hu et al. 2021, arXiv 2106.09685, section 4.1",
    ),
    _here(
        id="lora-rslora",
        title="A large rank with a small α",
        question=f"Rank {_RANK} at α {_ALPHA}: how far do α/r and rsLoRA's α/√r let the matrices move?",
        why=f"The same A and B are multiplied by {_ALPHA / _RANK:g} with α/r and by {_ALPHA / _RANK**0.5:g} with α/√r. "
        "Dividing by the rank keeps large ranks from learning; dividing by its root does not.",
        arms=(
            Arm("LoRA", {"r": _RANK, "lora_alpha": _ALPHA}),
            Arm("rsLoRA", {"r": _RANK, "lora_alpha": _ALPHA, "use_rslora": True}),
        ),
        quantities=(MOVED, METRIC, LOSS),
        expect=Expectation("rsLoRA", "above", "LoRA"),
        source="Kalajdzievski 2023, arXiv 2312.03732, section 3",
    ),
    _here(
        id="lora-plus",
        title="B faster than A",
        question="A low rate for A, and sixteen times that for B: does it learn more than the low rate for both?",
        why="In a wide model one rate for both matrices does not let features be learnt efficiently: B needs the "
        "larger one, the more so the wider the model. LoRA+ gives B its own.",
        arms=(
            Arm("one rate", learning_rate=5e-4),
            Arm("ratio 16", {"loraplus_lr_ratio": 16.0}, learning_rate=5e-4),
        ),
        quantities=(LOSS, METRIC, MOVED),
        expect=Expectation("ratio 16", "below", "one rate"),
        source="Hayou et al. 2024, arXiv 2402.12354",
    ),
    _here(
        id="lora-dora",
        title="What DoRA costs",
        question="DoRA trains one more number for every output. Does a step take longer for it?",
        why="The numbers are few, but every forward pass has to measure the rows of W + ΔW to rescale them. The "
        "published comparison found DoRA slower and no better on its task.",
        arms=(Arm("LoRA", {"lora_alpha": 16}), Arm("DoRA", {"use_dora": True})),
        quantities=(STEP_SECONDS, METRIC, TRAINED),
        expect=Expectation("DoRA", "above", "LoRA"),
        source="Liu et al. 2024, arXiv 2402.09353; PEFT method comparison, MetaMathQA",
    ),
)
