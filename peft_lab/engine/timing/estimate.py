"""Estimate a step's seconds on a GPU: a value, the band that earlier errors give it, and how the time is spent; with
the shares of a data sheet that training reaches, fitted to the published steps of 63 runs on an L40S."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from peft_lab.core import disk, units
from peft_lab.core.errors import UnknownName
from peft_lab.engine import published, simulate
from peft_lab.engine.devices import THIS, cards
from peft_lab.engine.request import ConfigRequest
from peft_lab.engine.running import Stage
from peft_lab.engine.step import TITLES
from peft_lab.engine.timing import here, kernels
from peft_lab.engine.timing.kernels import (
    CONSTANTS,
    PINNED,
    Numbers,
    OperationTable,
    Sheet,
    Speed,
    sheet,
    step,
)
from peft_lab.engine.work import Op, Piece, Work
from peft_lab.methods.base import Formula
from peft_lab.models.shapes import CLASSIFIERS, ModelShape

# How they are fitted and how far they can be trusted: ``python -m bench.step_time`` and bench/RESULTS.md.
# ``fitted.json`` is written by ``python -m bench.step_time --write``.


FITTED_FILE = "fitted.json"
#: The GPU whose published steps were fitted.
FITTED_ON = "l40s"
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
#: The meaning of each constant, for a table.
MEANINGS = TITLES["constants"]


#: Share of the best product's rate that training reaches with sizes that are not tuned. Assumed.
_SHAPED = 0.9


@cache
def _fitted() -> dict[str, Any]:
    return dict(disk.read_json(Path(__file__).with_name(FITTED_FILE)))


def constants() -> Speed:
    """Return the constants fitted on :data:`FITTED_ON`."""
    return Speed(**_fitted()["constants"])


@cache
def speed_of(gpu: str) -> Speed:
    """Return the speed of a GPU: the fitted shares of its data sheet, and the host's times unchanged.

    Raises :class:`UnknownName` for a GPU whose sheet is not here.
    """
    return carried(constants(), sheet(gpu))


def carried(found: Speed, to: Sheet) -> Speed:
    """Transfer constants fitted on one GPU to another: rates of memory scale with its memory's, the cache with its size
    and its rate with the multiprocessors (number times clock), 16-bit products by :func:`_products`."""
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
    """Return the rate of 16-bit products. A sheet's figure is at the highest clock, which only some cards hold under
    load. So it is a share of the best measured product, if any; else the lower of that share of the sheet's figure and
    of what its power allows at the fitted card's energy per operation."""
    if to.best16:
        return _SHAPED * to.best16
    return min(_SHAPED * to.matmul16, found.matmul16 * to.power / _SHEET.power)


def backing(gpu: str, devices: int = 1) -> str:
    """Return what the band around an estimate is from: ``fitted``, steps of held-out method types on the fitted GPU;
    ``carried``, figures that others published, some of them of this GPU; ``unseen``, the same figures, none of it."""
    if gpu == FITTED_ON and devices == 1:
        return "fitted"
    return "carried" if gpu in (FITTED_ON, *(row["gpu"] for row in others())) else "unseen"


def fitted_band(gpu: str, devices: int = 1) -> tuple[float, float]:
    """Return the factors below and above an estimate that contain nine of ten measured steps (:func:`backing`)."""
    low, high = _fitted()["bands"][backing(gpu, devices)]
    return low, high


def told_unseen(gpu: str) -> str:
    """Return the sentence that no step on a listed GPU was measured, or what is known of another platform's; empty if
    some were measured."""
    platform = cards()[gpu].platform if gpu in cards() else ""
    said = "unseen" if platform == "cuda" and backing(gpu) == "unseen" else platform
    return TITLES["notes"].get(said, "")


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


def plain(speed: Speed) -> dict[str, float]:
    """Return the constants as a dictionary, for a file."""
    return asdict(speed)


# ----------------------------------------
# Step times that others published, with settings and sources, to check estimates for other GPUs against.
#
# ``others.jsonl``: ``seconds`` are those of ``steps`` steps. Nothing is fitted to them.


OTHERS_FILE = "others.jsonl"


@cache
def others() -> tuple[dict[str, Any], ...]:
    """Return all step times that others published."""
    return tuple(disk.read_json_lines(Path(__file__).with_name(OTHERS_FILE)))


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


#: Parts of a step's seconds, and the kinds of operations in each.
PARTS = {
    "compute": ("matmul16", "matmul32", "attention", "factor"),
    "memory": ("stream", "gather", "dequantise", "transform", "each"),
    "host": ("host", "offload"),
}


@dataclass(frozen=True)
class Seconds:
    """The seconds of one step.

    Attributes:
        low, high: the band. value: the estimate.
        bottleneck: ``compute``, ``memory``, ``launch`` (the device waits for the host), ``host`` (copies from main
            memory) or ``link``.
        parts: seconds by part: those of :data:`PARTS`, ``launch`` (waiting for the host) and ``link`` (communication
            that is not hidden). They add up to the value.
    """

    low: float
    value: float
    high: float
    bottleneck: str
    parts: dict[str, float]

    @property
    def span(self) -> str:
        """Return both ends of the band, as a table shows them.

        >>> Seconds(0.094, 0.1, 0.114, "compute", {}).span
        '94 to 114 ms'
        """
        return units.span(self.low, self.high)

    def times(self, steps: float) -> Seconds:
        """Return the seconds of that many steps, one after another."""
        parts = {name: seconds * steps for name, seconds in self.parts.items()}
        return Seconds(self.low * steps, self.value * steps, self.high * steps, self.bottleneck, parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold; times in seconds."""
        return asdict(self)


def seconds(
    work: Work,
    gpu: str,
    devices: int = 1,
    link: str = "pcie",
    sent: float = 0.0,
    waits: bool = False,
    copied: float = 0.0,
    speed: Speed | None = None,
) -> Seconds:
    """Estimate one step of this work on each of ``devices`` of this kind, at its own or at another ``speed``.

    Args:
        sent: bytes that each device sends in the step, all collectives together. waits: whether nothing is computed
            meanwhile. copied: bytes that each device copies from main memory before sending, or back after it.

    Raises:
        UnknownName: a GPU or link whose speed is not known.
    """
    own, band = speed_named(gpu, devices)
    return with_speed(work, speed or own, band, link if devices > 1 else "", sent, waits, copied)


def speed_named(gpu: str, devices: int = 1) -> tuple[Speed, tuple[float, float]]:
    """Return the speed of a device, and the factors around an estimate for it.

    Raises:
        UnknownName: no such GPU. BadInput: this machine, if it was not calibrated yet.
    """
    if gpu == THIS:
        return here.speed(), here.BAND
    return speed_of(gpu), fitted_band(gpu, devices)


def with_speed(
    work: Work,
    speed: Speed,
    band: tuple[float, float],
    link: str = "",
    sent: float = 0.0,
    waits: bool = False,
    copied: float = 0.0,
) -> Seconds:
    """Estimate one step at a known speed, as :func:`seconds`. ``band``: factors below and above the value."""
    table = OperationTable(work)
    computing, each = step(table, speed), table.on_device(speed)
    parts = {part: table.total(each, *kinds) for part, kinds in PARTS.items()}
    parts["launch"] = max(computing - sum(parts.values()), 0.0)
    sending = kernels.link_seconds(sent, link) if link else 0.0
    # A layer is gathered after its shards are copied, over the same lanes if cards have no link of their own. Both are
    # prefetched, so they hide behind the same computation.
    copying = copied / PINNED
    visible = kernels.exposed_seconds(sending + copying, computing, waits)
    ours = copying / (sending + copying) if copying else 0.0
    parts["link"] = visible * (1 - ours)
    parts["host"] += visible * ours
    value = computing + visible
    most = max(parts, key=parts.__getitem__)
    return Seconds(value * band[0], value, value * band[1], most, parts)


# ----------------------------------------
# A step's work from a model's shape alone, when there is no time to trace it: its products are counted, the rest is
# scaled from the traced step of a Llama.
#
# On the seven traced steps of tests/engine/timing/test_counted.py the traced work takes 0.97 to 1.41 times as long.


#: One layer's elementwise operations, forward and backward; their bytes per token and hidden dimension; its views; and
#: bytes per logit. Counted on Llama 3.2 3B with one bias trained.
STREAMS, STREAMED, VIEWS, LOGIT = 97, 436, 100, 57
#: Operations and bytes that an adapter adds to its layer: casts, scaling and sums. Counted on that model with LoRA.
ADAPTED, ADAPTED_BYTES = 8, 38
#: Share of those operations in an encoder's layer: fused norms, no gate, no rotary positions.
ENCODER = 0.5
#: Share of those operations in the forward pass, which checkpointing repeats.
FORWARD = 0.4
#: How often AdamW's kernels over lists and the clipping read or write a parameter, its gradient or a moment.
PASSES = 24
#: Bytes of a packed number that is read, and of the 16-bit one that is written.
PACKED, HALF = 0.5, 2


def counted_work(
    shape: ModelShape,
    trainable: int,
    batch: int,
    length: int,
    adapted: float = 0.0,
    full: bool = False,
    packed: bool = False,
    checkpointing: bool = False,
    bus: float = 0.0,
    passes: int = 1,
    chunked: bool = False,
) -> Work:
    """Return the work of a step of ``batch`` rows of ``length`` tokens.

    Args:
        trainable: number of parameters. adapted: layers that have two products in 32 bits beside their own.
        full: whether the model's own weights are trained, which adds a third product, for their gradients.
        packed: the base is in 4 bits, rebuilt for every product. bus: bytes copied from main memory.
        passes: passes per update. One of them is counted, with its share of the optimizer's work.
        chunked: whether the loss is taken a few rows of logits at a time, each of which reads the whole head.
    """
    tokens, again = batch * length, FORWARD if checkpointing else 0.0
    products = 2 + full + checkpointing
    ops: list[tuple[Op, int]] = []
    for group in shape.matrices:
        inner, out = group.in_features, group.out_features
        moved = HALF * (inner * out + tokens * (inner + out))
        size = (1, tokens, out, inner)
        ops.append((Op("matmul16", 2 * tokens * inner * out, moved, size), products * group.count))
        if packed and group.layers:
            rebuilt = int((PACKED + HALF) * inner * out)
            ops.append((Op("dequantise", 0, rebuilt), (2 + checkpointing) * group.count))
    if shape.kind not in CLASSIFIERS:
        rows = chunk_rows(tokens, shape) if chunked else tokens
        head = (1, rows, shape.vocab, shape.hidden)
        moved = HALF * (shape.vocab * shape.hidden + rows * (shape.vocab + shape.hidden))
        product = Op("matmul16", 2 * rows * shape.vocab * shape.hidden, moved, head)
        ops.append((product, (2 + full) * ceil(tokens / rows)))
    if adapted:
        times = round(adapted * 2 * (3 + checkpointing))
        flops = round(2 * tokens * trainable * (3 + checkpointing) / times)
        ops.append((Op("matmul32", flops, 4 * tokens * shape.hidden, ()), times))
        beside = round(adapted * ADAPTED * (1 + again))
        ops.append((Op("stream", 0, int(ADAPTED_BYTES / ADAPTED * tokens * shape.hidden)), beside))
    pairs = shape.num_layers * (7 + 2 * checkpointing)  # two products forward, five backward
    ops.append((Op("attention", 2 * batch * length**2 * shape.heads * shape.head_dim, 0), pairs))
    share = ENCODER if shape.kind in CLASSIFIERS else 1.0
    streams = round(STREAMS * share * shape.num_layers * (1 + again))
    ops.append((Op("stream", 0, int(STREAMED / STREAMS * tokens * shape.hidden)), streams))
    if shape.kind not in CLASSIFIERS:
        ops.append((Op("stream", 0, LOGIT * tokens * shape.vocab // 5), 5))
    ops.append((Op("view", 0, 0), round(VIEWS * share) * shape.num_layers))
    ops.append((Op("each", 0, int(trainable * (HALF if full else 4) * PASSES / passes)), 1))
    if bus:
        ops.append((Op("host", 0, int(bus)), 1))
    return (Piece("step", 1, tuple(ops)),)


def chunk_rows(tokens: int, shape: ModelShape) -> int:
    """Return the rows of logits that torch's cross entropy in chunks makes at once: half of a power of two, so that the
    logits take about as much as the hidden states (``LinearCrossEntropyOptions.chunking_method``, torch 2.13).

    >>> from peft_lab.models.catalogue import get_model
    >>> chunk_rows(512, get_model("llama-3.1-8b").shape)
    8
    """
    as_large = ceil(tokens / ceil(shape.vocab / shape.hidden))
    return max(1, (1 << (as_large - 1).bit_length()) // 2)


def adapted_maps(formula: Formula) -> float:
    """Return how many layers have a pair of adapter matrices: half of what repeats from layer to layer in the count."""
    return sum(term.count for term in formula.terms if "{}" in term.module) / 2
