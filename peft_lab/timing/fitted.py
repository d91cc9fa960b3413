"""What of a data sheet trainings reach: fitted to the published steps of 63 trainings on an L40S, and carried over.

How they were fitted and how far they are trusted: ``python -m bench.step_time`` and bench/RESULTS.md.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from peft_lab.timing.kernels import Speed
from peft_lab.timing.sheets import Sheet, sheet

#: The GPU whose published steps were fitted.
FITTED_ON = "l40s"


@cache
def constants() -> dict[str, float]:
    """The fitted constants: the fields of :class:`Speed` on the GPU they were fitted on."""
    kept = json.loads((resources.files(__package__) / "fitted.json").read_text("utf-8"))
    return dict(kept["constants"])


@cache
def speed_of(gpu: str) -> Speed:
    """The same shares of another data sheet. Host times stay: they are the host's.

    Raises :class:`UnknownName` for a GPU whose sheet is not here.
    """
    return carried(constants(), sheet(gpu), sheet(FITTED_ON))


def carried(found: dict[str, float], to: Sheet, source: Sheet) -> Speed:
    """Constants found on one GPU for another: arithmetic by its arithmetic, bytes by its memory, the cache by its
    size and by what its multiprocessors ask of it (their number times their clock)."""
    cache_speed = to.units * to.clock / (source.units * source.clock)
    by = {
        "matmul16": to.matmul16 / source.matmul16,
        "matmul32": to.matmul32 / source.matmul32,
        "memory": to.memory / source.memory,
        "gather": to.memory / source.memory,
        "transform": to.memory / source.memory,
        "cache": cache_speed,
        "cache_bytes": to.cache / source.cache,
    }
    values = {name: value * by.get(name, 1.0) for name, value in found.items()}
    values["cache"] = max(values["cache"], values["memory"])
    return Speed(**values, units=to.units)


def band(gpu: str, devices: int = 1) -> tuple[float, float]:
    """Factors below and above an estimate, from the errors of earlier ones: on the GPU that was fitted those of types
    held out, elsewhere those of figures that others published."""
    kept = json.loads((resources.files(__package__) / "fitted.json").read_text("utf-8"))["bands"]
    name = "split" if devices > 1 else "fitted" if gpu == FITTED_ON else "carried"
    low, high = kept[name]
    return low, high
