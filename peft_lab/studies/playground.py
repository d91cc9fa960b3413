"""Short LoRA runs over a grid of settings, for the page that scrubs them. Made by ``tools/record_playground.py``.

A file of JSON lines: what all runs have in common, then one line a run, in the order of :func:`grid`::

    {"format": 1, "spec": {…}, "machine": {…}, "versions": {…}, "total": 134515008, "slots": ["q", "v"],
     "order": "It is …\\nJSON:", "right": "{\\"item\\": …}", "base": "{ …"}
    {"rank": 8, "alpha": 16, "rate": 0.002, "targets": ["q_proj", "v_proj"], "seed": 0, "recorded": "2026-…",
     "trained": 460800, "memory": {"weights": 269030016, …}, "loss": [25 numbers], "moved": [26 × 30 whole numbers],
     "spectrum": [[26 × 8 numbers] for each slot], "answers": ["…" at 5, 10, 15 and 25]}

- ``loss``: of the batch that the step trains on, before its update; ``null`` where it is not finite.
- ``moved``: mean of ‖ΔW‖/‖W‖ over a block's adapted matrices, in :data:`UNIT`, after 0 to 25 steps.
- ``spectrum``: the largest singular values of ΔW in the first block, at most :data:`LEADING`.
- ``memory``: bytes of each part at the peak of the step that a run measures, simulated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from peft_lab.core import content, disk
from peft_lab.drawing.trajectory.sentence import METHOD, MODEL, STEPS, TASK
from peft_lab.runs.spec import RunRequest

VERSION = 1
UNIT = 1e-4  # of ``moved``
LEADING = 8  # singular values of each state
FILE_BYTES = 6_000_000
SHIPPED = Path(__file__).with_name("playground.jsonl")
SOME, ALL = ("q_proj", "v_proj"), ("all-linear",)
DEFAULT_RATE = 2e-3


class Setting(NamedTuple):
    """What differs between the runs."""

    rank: int
    alpha: int
    rate: float
    targets: tuple[str, ...] = SOME
    seed: int = 0

    @property
    def request(self) -> RunRequest:
        """Return the run, which is scored on no held-out rows."""
        values = {"r": self.rank, "lora_alpha": self.alpha, "target_modules": self.targets}
        return RunRequest(
            MODEL,
            METHOD,
            TASK,
            values=values,
            steps=STEPS,
            seed=self.seed,
            learning_rate=self.rate,
            eval_rows=0,
        )


def grid() -> Iterator[Setting]:
    """Yield the settings in the order of recording, so that the first runs already form a coarse grid."""
    ranks, more_ranks = (8, 64, 1), (16, 4)
    rates, more_rates = (DEFAULT_RATE, 2e-2, 2e-4), (6e-3, 6e-4)

    def block(ranks: Sequence[int], rates: Sequence[float], factor: int) -> Iterator[Setting]:
        for rank, rate, targets in product(ranks, rates, (SOME, ALL)):
            yield Setting(rank, factor * rank, rate, targets)

    yield from block(ranks, rates, 2)
    yield from block(ranks, rates, 1)
    yield from (Setting(8, 16, DEFAULT_RATE, SOME, seed) for seed in (1, 2))
    for factor in (2, 1):
        yield from block(ranks, more_rates, factor)
        yield from block(more_ranks, (*rates, *more_rates), factor)


@dataclass(frozen=True)
class PlaygroundRun:
    """One run; the module's docstring defines its figures."""

    rank: int
    alpha: int
    rate: float
    targets: tuple[str, ...]
    seed: int
    recorded: str
    trained: int
    memory: dict[str, int]
    loss: tuple[float | None, ...]
    moved: tuple[tuple[int, ...], ...]
    spectrum: tuple[tuple[tuple[float, ...], ...], ...]
    answers: tuple[str, ...]

    @property
    def setting(self) -> Setting:
        """Return what differs between this run and the others."""
        return Setting(self.rank, self.alpha, self.rate, self.targets, self.seed)


@dataclass(frozen=True)
class Playground:
    """All runs of a file, and what they have in common; the module's docstring defines both."""

    spec: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]
    total: int
    slots: tuple[str, ...]
    order: str
    right: str
    base: str
    runs: tuple[PlaygroundRun, ...] = ()
    format: int = VERSION


@cache
def shipped() -> Playground:
    """Return the recorded runs."""
    first, *rest = disk.read_json_lines(SHIPPED)
    runs = tuple(PlaygroundRun(**content.read_typed(PlaygroundRun, line, "A run")) for line in rest)
    return Playground(**content.read_typed(Playground, {**first, "runs": runs}, "Recorded runs"))
