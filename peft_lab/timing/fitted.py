"""What of a data sheet trainings reach: fitted to the published steps of 63 trainings on an L40S, and carried over.

How they are fitted and how far they can be trusted: ``python -m bench.step_time`` and bench/RESULTS.md. ``fitted.json``
is written by ``python -m bench.step_time --write``.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from importlib import resources
from typing import Any

from peft_lab.timing.kernels import Speed
from peft_lab.timing.sheets import Sheet, sheet

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
