"""What of a data sheet trainings reach: fitted to the published steps of 63 trainings on an L40S, and carried over.

How they are fitted and how far they can be trusted: ``python -m bench.step_time`` and bench/RESULTS.md. ``fitted.json``
is written by ``python -m bench.step_time --write``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from peft_lab.core.errors import UnknownName
from peft_lab.engine import protocol, published, simulate
from peft_lab.engine.request import ConfigRequest
from peft_lab.engine.running import Stage
from peft_lab.engine.timing.kernels import CONSTANTS, Numbers, Sheet, Speed, Table, sheet, step
from peft_lab.engine.work import Work

FILE = "fitted.json"
#: The GPU whose published steps were fitted.
FITTED_ON = "l40s"
_SHEET = sheet(FITTED_ON)
#: What is expected before any step is looked at: half of the arithmetic of tensor cores and of the others, four fifths
#: of the memory's rate, half of the cache, three times the memory's rate from it; copies from memory that is not pinned
#: at a third of PCIe 4.0; kernels of some microseconds, asked for by Python in ten.
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
#: How sure that is, as a factor of e; of the memory's rate, which copies come near on every card, the surest.
DOUBT = {
    "matmul16": 0.3, "matmul32": 0.4, "memory": 0.1, "cache": 0.4, "held": 0.4, "bus": 0.3, "start": 0.4,
    "column": 0.7, "ask": 0.4, "view": 0.2,
}  # fmt: skip
#: What no constant may exceed: the data sheet, and PCIe 4.0.
MOST = {
    "matmul16": _SHEET.matmul16, "matmul32": _SHEET.matmul32, "memory": _SHEET.memory, "held": _SHEET.cache,
    "bus": 32e9,
}  # fmt: skip
#: What each constant is, as a table says it.
MEANINGS = {
    "matmul16": "operations a second of products in 16 bits",
    "matmul32": "operations a second of products in 32 bits",
    "memory": "bytes a second from and to the device's memory",
    "cache": "bytes a second from and to its last cache",
    "held": "bytes of an operation that the cache holds",
    "bus": "bytes a second from main memory",
    "start": "seconds that any kernel takes at least",
    "column": "seconds for a column of a decomposition",
    "ask": "seconds in which the host asks for a kernel",
    "view": "seconds in which the host makes a view",
}


#: Of the best product's rate, what those of a training reach: their sizes are as they come. Assumed.
_SHAPED = 0.9


@cache
def _kept() -> dict[str, Any]:
    return dict(json.loads((resources.files(__package__) / FILE).read_text("utf-8")))


def constants() -> Speed:
    """What was found on the GPU that was fitted."""
    return Speed(**_kept()["constants"])


@cache
def speed_of(gpu: str) -> Speed:
    """The same shares of another data sheet. What the host takes stays: it is the host's.

    Raises :class:`UnknownName` for a GPU whose sheet is not here.
    """
    return carried(constants(), sheet(gpu))


def carried(found: Speed, to: Sheet) -> Speed:
    """Constants found on one GPU for another: bytes go by its memory, the cache by its size and its rate by what the
    multiprocessors ask of it (their number times their clock), products by :func:`_products`."""
    memory = found.memory * to.memory / _SHEET.memory
    cores = to.units * to.clock / (_SHEET.units * _SHEET.clock)
    return Speed(**{
        **asdict(found),
        "matmul16": found.matmul16 if to is _SHEET else _products(found, to),
        "matmul32": found.matmul32 * to.matmul32 / _SHEET.matmul32,
        "memory": memory,
        "cache": max(found.cache * cores, memory),
        "held": found.held * to.cache / _SHEET.cache,
    })  # fmt: skip


def _products(found: Speed, to: Sheet) -> float:
    """16-bit products. A sheet's figure is that of its highest clock, which only some cards hold under such a load:
    where the best product was measured, trainings are taken to come near it; else it is the sheet's figure or what its
    power allows at the energy that an operation took on the card that was fitted, whichever is less."""
    if to.best16:
        return _SHAPED * to.best16
    return min(_SHAPED * to.matmul16, found.matmul16 * to.power / _SHEET.power)


def band(gpu: str, devices: int = 1) -> tuple[float, float]:
    """Factors below and above an estimate within which nine of ten measured steps were: on the GPU that was fitted,
    steps of types held out; elsewhere, and split, figures that others published."""
    bands = _kept()["bands"]
    low, high = bands["fitted" if gpu == FITTED_ON and devices == 1 else "carried"]
    return low, high


# ----------------------------------------
# Constants from measured steps: the least squares of relative errors, held near what is physically expected.
#
# Levenberg and Marquardt's method on the logarithms of the constants (which keeps them positive), with Huber's
# weights (1964, doi 10.1214/aoms/1177703732): a row that is far off counts by its distance, not by its square.


#: Relative errors up to here count by their square.
_HUBER = 0.05
_ROUNDS, _SMALL = 30, 1e-3
_NUDGE = 1e-3


@dataclass(frozen=True)
class Measured:
    """A step that was measured: what was done at several lengths, how often each comes, and the mean seconds."""

    tables: tuple[Table, ...]
    weights: tuple[float, ...]
    seconds: float

    def predicted(self, speed: Speed) -> float:
        """Mean seconds at this speed."""
        return sum(w * step(table, speed) for w, table in zip(self.weights, self.tables, strict=True))


def fit(
    rows: Sequence[Measured], expected: Speed, doubt: Mapping[str, float], most: Mapping[str, float]
) -> Speed:
    """The constants that explain these rows best.

    Args:
        expected: where the search starts, and what a constant stays at that no row says anything about.
        doubt: how far each may be from that: to leave it by so much of a factor of e costs what a row's error of
            _HUBER costs.
        most: upper bounds of constants (what a data sheet says); lower ones are at a twentieth of what is expected.
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


def plain(speed: Speed) -> dict[str, float]:
    """For a file."""
    return asdict(speed)


# ----------------------------------------
# Step times that others published, each with its settings and its place: what an estimate for other GPUs is held to.
#
# ``others.jsonl``: ``seconds`` are those of ``steps`` steps. Nothing is fitted to them.


OTHERS_FILE = "others.jsonl"


@cache
def others() -> tuple[dict[str, Any], ...]:
    """All figures."""
    text = (resources.files(__package__) / OTHERS_FILE).read_text("utf-8")
    return tuple(json.loads(line) for line in text.splitlines())


# ----------------------------------------
# How the published steps were timed (the PEFT library's method comparison, MetaMathQA), as steps to trace.
#
# 5,000 steps of 4 rows on an L40S; rows are sorted by length within every 20 batches and padded to the longest of
# their batch, so a batch is hardly padded (``run.py`` and ``utils.py`` of the comparison). How long each batch was
# is not published. Three facts are: the rows' mean of 209.9 tokens, that texts were cut at 1,300 characters, and
# that 93.8% were shorter. With lengths that are spread log-normally, by one half as the cut suggests, the padded
# length of a batch has a mean of 217 and a deviation of 90 tokens; its first five moments are those of three lengths
# (Gauss's quadrature), which are traced.


#: Tokens of a padded batch's rows, and how often each comes.
LENGTHS, WEIGHTS = (120, 239, 397), (0.367, 0.495, 0.138)
#: A step before, in which the optimizer makes its states.
FIRST = 100
#: What the comparison's own row of LoRA-FA is trained with.
LORA_FA = "lora-fa"


def trace(
    model: str, config: Mapping[str, Any] | None, batch: int, optimizer: str = "AdamW"
) -> tuple[Work, ...]:
    """What a step of one row of the comparison does, at each of :data:`LENGTHS`. Imports torch.

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

    setting = replace(protocol.SETTING, batch=batch)
    found = simulate.simulate_config(ConfigRequest(model, config, setting), schedule)
    return found.work[-len(LENGTHS) :]


def traced_protocol(experiment: str) -> tuple[Work, ...]:
    """The same for a published row. Raises UnknownName where there is no such row."""
    rows = published.rows()
    if experiment not in rows:
        raise UnknownName("published row", experiment, rows, "experiment")
    row = rows[experiment]
    return trace(published.MODEL, row.config, row.batch, row.optimizer)


def _lora_fa(model: Any, config: Mapping[str, Any]) -> Any:
    from peft.optimizers import create_lorafa_optimizer

    return create_lorafa_optimizer(model, r=config["r"], lora_alpha=config["lora_alpha"], lr=1e-4)


def _allocate(stage: Stage) -> None:
    """AdaLoRA notes after every step how much each parameter matters; its ranks are left as they are, since which to
    cut depends on values."""
    base: Any = getattr(stage.subject.model, "base_model", None)
    allocator = getattr(base, "rankallocator", None)
    if allocator is None:
        return
    stage.recorder.enter("optimizer")
    allocator.update_ipt(stage.subject.model)
    stage.recorder.enter("idle")
