"""Measure the speed of this machine's processor once, in seconds, and store it in the home (``doctor --calibrate``).

A processor runs each operation at once, so launching hides behind nothing: its time is part of every operation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from peft_lab.core import disk, machine
from peft_lab.core.content import misfit
from peft_lab.core.errors import BadInput, UnreadableFile
from peft_lab.core.later import torch
from peft_lab.engine.timing.kernels import CONSTANTS, Speed
from peft_lab.models.assets import store as assets
from peft_lab.models.catalogue import catalogue

FILE = "speed.json"
#: Factors around an estimate for this machine, which other programs share. Assumed; pages show the errors of runs too.
BAND = (0.75, 1.5)
#: Rows, columns and inner size of the timed matrix products: those of a small model's step.
_PRODUCT = (320, 1536, 576)
#: Bytes of a weight in 16 bits.
HALF = 2
_FEW, _MANY = 2**17, 2**24  # numbers of 32 bits: half a MiB and 64 MiB
_PATIENCE = 0.25  # seconds for each measurement


_LOADS = {"models": dict[str, list[float]], "pack": float}


def place() -> Path:
    """Return the path of the stored measurement."""
    return disk.home() / FILE


def known() -> dict[str, Any] | None:
    """Return the stored measurement; ``None`` if there is none, or it cannot be read."""
    try:
        kept = disk.read_json(place())
        Speed(**{name: float(kept["constants"][name]) for name in CONSTANTS})
    except (UnreadableFile, ValueError, KeyError, TypeError):
        return None
    return dict(kept)


def speed() -> Speed:
    """Return the measured speed. Raises BadInput before it was measured."""
    kept = known()
    if kept is None:
        raise BadInput(
            "This machine's speed has not been measured yet. Run peft-lab doctor --calibrate.", "gpu"
        )
    return Speed(**{name: float(kept["constants"][name]) for name in CONSTANTS})


def keep(found: Mapping[str, Any]) -> None:
    """Store a result of :func:`measure`. Raises OSError."""
    place().parent.mkdir(parents=True, exist_ok=True)
    disk.write_json(place(), found)


def loading(name: str, nbytes: int, packed: bool = False) -> float:
    """Return the seconds to read and build a model, as measured; for one not measured, scaled by its ``nbytes``;
    ``packed`` into few bits. Raises BadInput: nothing was measured yet, or no model was here to measure."""
    loads = _known_loads()
    if loads is None:
        raise BadInput(
            "How fast this machine loads models has not been measured yet. Run peft-lab doctor --calibrate.",
            "gpu",
        )
    measured = dict(loads["models"])
    seconds, size = measured.get(name) or max(measured.values(), key=lambda each: float(each[1]))
    return float(seconds * (1 if name in measured else nbytes / size) + packed * nbytes / loads["pack"])


def complete() -> bool:
    """Return whether everything a whole run needs was measured; older measurements have no loading times."""
    return known() is not None and _known_loads() is not None


def _known_loads() -> dict[str, Any] | None:
    loads = (known() or {}).get("loading")
    if not isinstance(loads, dict) or misfit(_LOADS, loads) or not loads["models"]:
        return None
    return loads


def measure() -> dict[str, Any]:
    """Measure this machine; return the result in the form of :func:`known`. Takes some seconds; imports torch."""
    start = time.perf_counter()
    rows, columns, inner = _PRODUCT
    found: dict[str, float] = {}
    with torch.no_grad():
        for name, dtype in (("matmul16", machine.compute_dtype()), ("matmul32", torch.float32)):
            left, right = torch.randn(rows, inner, dtype=dtype), torch.randn(columns, inner, dtype=dtype)
            found[name] = 2 * rows * columns * inner / _each(partial(torch.nn.functional.linear, left, right))
        few, many, one = torch.ones(_FEW), torch.ones(_MANY), torch.ones(8)
        found["start"] = found["ask"] = _each(lambda: one + one)
        found["view"] = _each(lambda: one[2:4])
        # An operand read and a result written.
        found["cache"] = 2 * few.nbytes / max(_each(lambda: few * 2) - found["start"], 1e-9)
        found["memory"] = found["bus"] = 2 * many.nbytes / _each(lambda: many * 2)
        found["held"] = float(4 * few.nbytes)
        matrix = torch.eye(64) * 2
        found["column"] = _each(lambda: torch.linalg.inv(matrix)) / len(matrix)
    # The time of launching is part of every operation's minimum time, ``start``.
    found["ask"] = found["view"] = 0.0
    return {
        "constants": {name: found[name] for name in CONSTANTS},
        "device": machine.CPU.describe(),
        "loading": {"models": _loads(), "pack": _pack()},
        "threads": torch.get_num_threads(),
        "seconds": time.perf_counter() - start,
        "measured": time.strftime("%Y-%m-%d %H:%M"),
    }


def _loads() -> dict[str, list[float]]:
    """Return the seconds to check, read and build each model whose weights are here, and its bytes."""
    from peft_lab.models import loading as models

    found, here = {}, {asset.name for asset in assets.status() if asset.present}
    for name, entry in catalogue().items():
        if not entry.live or name not in here:
            continue
        begun = time.perf_counter()
        assets.verified(name)
        checked = time.perf_counter() - begun
        times = []
        for _ in range(2):
            begun = time.perf_counter()
            models.load_base(name, 2 if entry.kind == "encoder" else None)
            times.append(time.perf_counter() - begun)
        found[name] = [checked + min(times), float(HALF * entry.shape.total)]
    return found


def _pack() -> float:
    """Return how many bytes of 16-bit weights bitsandbytes packs into 4 bits per second."""
    from bitsandbytes.functional import quantize_4bit

    _, columns, inner = _PRODUCT
    matrix = torch.randn(columns, inner, dtype=machine.compute_dtype())
    return matrix.nbytes / _each(lambda: quantize_4bit(matrix, quant_type="nf4"))


def _each(work: Callable[[], Any]) -> float:
    """Return the seconds of one call, from the fastest of several batches: other programs disturbed it least."""
    work()
    begun = time.perf_counter()
    work()
    number = max(1, int(0.02 / max(time.perf_counter() - begun, 1e-7)))
    times: list[float] = []
    until = time.perf_counter() + _PATIENCE
    while time.perf_counter() < until or len(times) < 3:
        begun = time.perf_counter()
        for _ in range(number):
            work()
        times.append((time.perf_counter() - begun) / number)
    return min(times)
