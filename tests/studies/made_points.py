"""Sweeps made up from what is to be found in them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from peft_lab.studies.shipped_sweep import Sweep

RATES = {"lora": [1e-4 * 2**step for step in range(9)], "full": [1e-5 * 2**step for step in range(9)]}
TASKS = {"minilm-l6": "sentiment", "smollm2-135m": "json"}


@dataclass(frozen=True)
class Truth:
    """What a made-up sweep has in it; loss over the logarithm of the rate is a parabola.

    Attributes:
        full: best rate of full fine-tuning. times: LoRA's over it.
        by_rank: what the best rate is multiplied by from the smallest to the largest rank.
        attention, large_rank, batch: what the lowest loss is multiplied by with attention alone, from the smallest to
            the largest rank, and with LoRA at the larger batch.
        noise: of best rates and lowest losses, in logarithms, of each curve; ``shared`` of each group.
        diverging: the rate from which a loss is no number.
    """

    full: float = 1e-4
    times: float = 10.0
    by_rank: float = 1.0
    attention: float = 1.0
    large_rank: float = 1.0
    batch: float = 1.0
    noise: float = 0.0
    shared: float = 0.0
    diverging: float = math.inf
    models: Sequence[str] = ("smollm2-135m",)
    ranks: Sequence[int] = (2, 16)
    batches: Sequence[int] = (8, 32)
    seeds: Sequence[int] = (0, 1)
    rates: dict[str, list[float]] = field(default_factory=lambda: RATES)


def rows(truth: Truth, seed: int = 0) -> list[dict[str, Any]]:
    """The trainings, as ``tools/sweep.py`` writes them."""
    draw = random.Random(seed)
    made = []
    for model, batch, number in itertools.product(truth.models, truth.batches, truth.seeds):
        moved = draw.gauss(0, truth.shared)
        configurations = [("full", 0, "all")]
        configurations += [
            ("lora", r, t) for r, t in itertools.product(truth.ranks, ("attention", "mlp", "all"))
        ]
        for method, rank, targets in configurations:
            best, low = truth.full * math.exp(draw.gauss(0, truth.noise)), 0.4
            if method == "lora":
                share = math.log(rank / truth.ranks[0]) / math.log(truth.ranks[-1] / truth.ranks[0])
                best *= truth.times * truth.by_rank**share * math.exp(moved)
                low *= truth.large_rank**share * (truth.attention if targets == "attention" else 1.0)
                low *= (truth.batch if batch == truth.batches[-1] else 1.0) * math.exp(moved)
            low *= math.exp(draw.gauss(0, truth.noise))
            for rate in truth.rates[method]:
                loss = low + 0.01 * math.log(rate / best) ** 2
                made.append(
                    _row(model, method, rate, rank, targets, batch, number, loss, rate >= truth.diverging)
                )
    return made


def _row(
    model: str,
    method: str,
    rate: float,
    rank: int,
    targets: str,
    batch: int,
    seed: int,
    loss: float,
    lost: bool,
) -> dict[str, Any]:
    scores = {} if lost else {"loss": loss, "metric": max(0.0, 1 - loss)}
    return {
        "model": model, "method": method, "rate": rate, "rank": rank, "targets": targets, "batch": batch, "seed": seed,
        "task": TASKS[model], "steps": 240 // batch, "trainable": 1000 * max(rank, 1), "curve": [1.0, loss],
        "diverged": lost, "seconds": 1.0, **scores,
    }  # fmt: skip


def sweep(truth: Truth, seed: int = 0) -> Sweep:
    return Sweep.of(rows(truth, seed))
