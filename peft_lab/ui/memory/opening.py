"""What Memory opens with: the answers to its default settings, which ship with the app. They stand while the page
simulates them anew. ``python -m tools.refresh_memory`` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import disk
from peft_lab.engine.account import MemoryPoint
from peft_lab.engine.request import Simulation

FILE = Path(__file__).with_name("opening.json")


@cache
def shipped_opening() -> dict[str, Simulation]:
    """Return the simulated steps of the default settings, by method."""
    return {slug: _read(one) for slug, one in disk.read_json(FILE)["steps"].items()}


def _read(one: Mapping[str, Any]) -> Simulation:
    points = tuple(
        MemoryPoint(phase, layer, nbytes, dict(zip(one["parts"], parts, strict=True)))
        for phase, layer, nbytes, *parts in one["points"]
    )
    return Simulation(**{**one, "points": points})


def written(found: Simulation) -> dict[str, Any]:
    """Return one method's step for the file: each point as a list, its parts in the order of the whole step's."""
    fields = ("model", "method", "peak_bytes", "reserved_bytes", "parts", "host_bytes", "unrolled")
    points = [
        [point.phase, point.layer, point.nbytes, *(point.parts[name] for name in found.parts)]
        for point in found.points
    ]
    return {name: getattr(found, name) for name in fields} | {"points": points}
