"""Fit the constants of a GPU's speed to published steps, traced as they were timed; ``bench.step_time`` runs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np

from peft_lab.core.errors import UnknownName
from peft_lab.engine import published, simulate
from peft_lab.engine.request import ConfigRequest
from peft_lab.engine.running import Stage
from peft_lab.engine.timing.estimate import FITTED_ON
from peft_lab.engine.timing.kernels import CONSTANTS, Numbers, OperationTable, Speed, sheet, step
from peft_lab.engine.work import Op, Piece, Work

_SHEET = sheet(FITTED_ON)
#: The prior, before any step is seen: half of the arithmetic of tensor cores and of the others, four fifths of the
#: memory's rate, half of the cache at three times that memory rate; copies from memory that is not pinned at a third of
#: PCIe 4.0; kernels of a few microseconds, launched by Python in ten.
EXPECTED = Speed(
    matmul16=0.5 * _SHEET.matmul16,
    matmul32=0.5 * _SHEET.matmul32,
    memory=0.8 * _SHEET.memory,
    cache=2.4 * _SHEET.memory,
    held=0.5 * _SHEET.cache,
    bus=10e9,
    start=3e-6,
    column=2e-6,
    ask=10e-6,
    view=5e-6,
)
#: The uncertainty of the prior, on a log scale; smallest for the memory's rate, which copies approach on every card.
DOUBT = {
    "matmul16": 0.3, "matmul32": 0.4, "memory": 0.1, "cache": 0.4, "held": 0.4, "bus": 0.3, "start": 0.4,
    "column": 0.7, "ask": 0.4, "view": 0.2,
}  # fmt: skip
#: Upper bounds of constants: the data sheet, and PCIe 4.0.
MOST = {
    "matmul16": _SHEET.matmul16, "matmul32": _SHEET.matmul32, "memory": _SHEET.memory, "held": _SHEET.cache,
    "bus": 32e9,
}  # fmt: skip


# ----------------------------------------
# Constants from measured steps: least squares of relative errors, with a prior of what is physically expected.
#
# Levenberg and Marquardt's method on the logarithms of the constants (which keeps them positive), with Huber's
# weights (1964, doi 10.1214/aoms/1177703732): an outlier counts by its distance, not by its square.


#: Relative errors up to this count by their square.
_HUBER = 0.05
_ROUNDS, _SMALL = 30, 1e-3
_NUDGE = 1e-3


@dataclass(frozen=True)
class Measured:
    """A measured step: its work at several lengths, how often each occurs, and the mean seconds."""

    tables: tuple[OperationTable, ...]
    weights: tuple[float, ...]
    seconds: float

    def predicted(self, speed: Speed) -> float:
        """Return the mean seconds at this speed."""
        return sum(w * step(table, speed) for w, table in zip(self.weights, self.tables, strict=True))


def fit_constants(
    rows: Sequence[Measured], expected: Speed, doubt: Mapping[str, float], most: Mapping[str, float]
) -> Speed:
    """Return the constants that fit these rows best.

    Args:
        expected: the prior, where the search starts and where a constant stays that no row depends on.
        doubt: the prior's uncertainty: a constant whose logarithm moves by this costs as much as a row's relative
            error of _HUBER.
        most: upper bounds of constants (from a data sheet); lower bounds are a twentieth of the prior.
    """
    start = np.log([getattr(expected, name) for name in CONSTANTS])
    upper = np.array([np.log(most.get(name, np.inf)) for name in CONSTANTS])
    lower = start - np.log(20)
    held = np.array([_HUBER / doubt[name] for name in CONSTANTS])

    def residuals(x: Numbers) -> Numbers:
        speed = Speed(*np.exp(x))
        return np.array([np.log(row.predicted(speed) / row.seconds) for row in rows])

    def cost(x: Numbers, errors: Numbers) -> float:
        size = np.abs(errors)
        huber = np.where(size <= _HUBER, size**2, 2 * _HUBER * size - _HUBER**2)
        return float(huber.sum() + ((held * (x - start)) ** 2).sum())

    x = np.clip(start, lower, upper)
    errors = residuals(x)
    best, damping = cost(x, errors), 1e-2
    for _ in range(_ROUNDS):
        slopes = np.stack(
            [(residuals(x + _NUDGE * unit) - errors) / _NUDGE for unit in np.eye(len(x))], axis=1
        )
        weights = np.minimum(1.0, _HUBER / np.maximum(np.abs(errors), 1e-12))
        normal = slopes.T @ (weights[:, None] * slopes) + np.diag(held**2)
        downhill = slopes.T @ (weights * errors) + held**2 * (x - start)
        before = best
        while damping < 1e6:
            moved = np.clip(
                x - np.linalg.solve(normal + damping * np.diag(np.diag(normal)), downhill), lower, upper
            )
            found = residuals(moved)
            now = cost(moved, found)
            if now < best:
                x, errors, best, damping = moved, found, now, damping / 5
                break
            damping *= 4
        if before - best < _SMALL * before:
            break
    return Speed(*map(float, np.exp(x)))


# ----------------------------------------
# The published steps as they were timed (the PEFT library's method comparison, MetaMathQA), as steps to trace.
#
# 5,000 steps of 4 rows on an L40S; rows are sorted by length within every 20 batches and padded to the longest of
# their batch, so a batch is hardly padded (``run.py`` and ``utils.py`` of the comparison). The lengths of batches
# are not published. Three facts are: the rows' mean of 209.9 tokens, that texts were cut at 1,300 characters, and
# that 93.8% were shorter. If lengths are log-normal, with a spread of one half as the cut suggests, the padded
# length of a batch has a mean of 217 and a deviation of 90 tokens. Three lengths have the same first five moments
# (Gaussian quadrature); these are traced.


#: Tokens of a padded batch's rows, and how often each occurs.
LENGTHS, WEIGHTS = (120, 239, 397), (0.367, 0.495, 0.138)
#: Tokens in the rows of a first step, in which the optimizer creates its states.
FIRST = 100
#: The optimizer of the comparison's LoRA-FA row.
LORA_FA = "lora-fa"


def trace(
    model: str, config: Mapping[str, Any] | None, batch: int, optimizer: str = "AdamW"
) -> tuple[Work, ...]:
    """Return the work of a step of one row of the comparison, at each of :data:`LENGTHS`. Imports torch.

    Args:
        config: of the adapter; ``None`` for full fine-tuning. optimizer: ``lora-fa``, or any other for AdamW.

    Raises:
        BadInput, SimulationError: as :func:`peft_lab.engine.simulate.simulate_config`.
    """

    def schedule(stage: Stage) -> None:
        model = stage.subject.model
        model.train()
        if optimizer == LORA_FA:
            stage.optimizer = _lora_fa(model, config or {})
        for length in (FIRST, *LENGTHS):
            stage.train(length)
            _allocate(stage)

    setting = replace(published.PROTOCOL_SETTING, batch=batch)
    found = simulate.simulate_config(ConfigRequest(model, config, setting), schedule)
    return found.work[-len(LENGTHS) :]


def traced_protocol(experiment: str) -> tuple[Work, ...]:
    """Return :func:`trace` for a published row. Raises UnknownName if there is no such row."""
    rows = published.rows()
    if experiment not in rows:
        raise UnknownName("published row", experiment, rows, "experiment")
    row = rows[experiment]
    return trace(published.MODEL, row.config, row.batch, row.optimizer)


def _lora_fa(model: Any, config: Mapping[str, Any]) -> Any:
    from peft.optimizers import create_lorafa_optimizer

    return create_lorafa_optimizer(model, r=config["r"], lora_alpha=config["lora_alpha"], lr=1e-4)


def _allocate(stage: Stage) -> None:
    """Update AdaLoRA's importance scores, as it does after every step; its ranks stay, since which to cut depends on
    values. Other methods do nothing."""
    base: Any = getattr(stage.subject.model, "base_model", None)
    allocator = getattr(base, "rankallocator", None)
    if allocator is None:
        return
    stage.recorder.enter("optimizer")
    allocator.update_ipt(stage.subject.model)
    stage.recorder.enter("idle")


def flat(work: Work) -> list[Any]:
    """For the file: pieces as lists."""
    return [
        [p.phase, p.times, [[*astuple(op)[:3], list(op.size), count] for op, count in p.ops]] for p in work
    ]


def read(pieces: Iterable[Any]) -> Work:
    """From the file's form."""
    return tuple(
        Piece(
            phase,
            times,
            tuple((Op(kind, flops, nbytes, tuple(size)), n) for kind, flops, nbytes, size, n in ops),
        )
        for phase, times, ops in pieces
    )
