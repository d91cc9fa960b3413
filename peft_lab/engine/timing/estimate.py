"""Estimate a step's seconds on a GPU: a value, the band that earlier errors give it, and how the time is spent; with
the shares of a data sheet that training reaches, fitted to the published steps of 63 runs on an L40S."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

from peft_lab.core import disk, units
from peft_lab.engine.devices import THIS, cards
from peft_lab.engine.step import TITLES
from peft_lab.engine.timing import here, kernels
from peft_lab.engine.timing.kernels import (
    PINNED,
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
    """Return the speed of a GPU: the fitted shares of its data sheet, and the host's times unchanged. Raises
    UnknownName for a GPU whose sheet is not here."""
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
# Step times that others published, with settings and sources, to check estimates for other GPUs against.
#
# ``others.jsonl``: ``seconds`` are those of ``steps`` steps. Nothing is fitted to them.


OTHERS_FILE = "others.jsonl"


@cache
def others() -> tuple[dict[str, Any], ...]:
    """Return all step times that others published."""
    return tuple(disk.read_json_lines(Path(__file__).with_name(OTHERS_FILE)))


#: Parts of a step's seconds, and the kinds of operations in each.
PARTS = {
    "compute": ("matmul16", "matmul32", "attention", "factor"),
    "memory": ("stream", "gather", "dequantise", "transform", "each"),
    "host": ("host", "offload"),
}


@dataclass(frozen=True)
class Seconds:
    """The seconds of one step: ``value`` in a band from ``low`` to ``high``, by part (:data:`PARTS`, ``launch`` for
    waiting for the host, ``link`` for communication that is not hidden; they add up to the value), the largest of
    which is the ``bottleneck``."""

    low: float
    value: float
    high: float
    bottleneck: str
    parts: dict[str, float]

    @property
    def span(self) -> str:
        """Return both ends of the band, as a table shows them: '94 to 114 ms'."""
        return units.span(self.low, self.high)

    def times(self, steps: float) -> Seconds:
        """Return the seconds of that many steps, one after another."""
        parts = {name: seconds * steps for name, seconds in self.parts.items()}
        return Seconds(self.low * steps, self.value * steps, self.high * steps, self.bottleneck, parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold; times in seconds."""
        return asdict(self)


def seconds(
    work: Work, gpu: str, devices: int = 1, link: str = "pcie", sent: float = 0.0, waits: bool = False,
    copied: float = 0.0, speed: Speed | None = None,
) -> Seconds:  # fmt: skip
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
    """Return a device's speed, and the factors around an estimate for it. Raises UnknownName: no such GPU. BadInput:
    this machine, if it was not calibrated yet."""
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
# On the seven traced steps of tests/engine/timing/test_fitted.py the traced work takes 0.97 to 1.41 times as long.


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
    logits take about as much as the hidden states (``LinearCrossEntropyOptions.chunking_method``, torch 2.13)."""
    as_large = ceil(tokens / ceil(shape.vocab / shape.hidden))
    return max(1, (1 << (as_large - 1).bit_length()) // 2)


def adapted_maps(formula: Formula) -> float:
    """Return how many layers have a pair of adapter matrices: half of what repeats from layer to layer in the count."""
    return sum(term.count for term in formula.terms if "{}" in term.module) / 2
