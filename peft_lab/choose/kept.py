"""Simulations that ship with the lab, so that the tree answers at once for its examples; all others are run.

``simulated.json`` is written by ``python -m tools.refresh_choices``; slow tests run what it holds again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import resources

from peft_lab.memory.request import StepRequest

FILE = "simulated.json"
_notes: list[dict[str, int]] = []


def key(request: StepRequest) -> str:
    """A simulation's settings as a line of text."""
    knobs = ",".join(
        f"{name}={'+'.join(map(str, value)) if isinstance(value, tuple | list) else value}"
        for name, value in sorted(request.values.items())
    )
    setting = request.setting
    where = f"{setting.device} {'.'.join(map(str, setting.capability))}"
    more = " checkpointing" if request.checkpointing else ""
    more += "" if setting.optimizer == "adamw" else f" {setting.optimizer}"
    more += "" if request.dtype == "bfloat16" else f" {request.dtype}"
    return f"{request.model} {request.method}[{knobs}] {setting.batch}x{setting.seq} {where}{more}"


@cache
def simulations() -> Mapping[str, int]:
    """Bytes that a device must have, by settings."""
    file = resources.files(__package__) / FILE
    if not file.is_file():
        return {}
    kept: dict[str, int] = json.loads(file.read_text("utf-8"))["bytes"]
    return kept


def note(settings: str, needed: int) -> None:
    """Tell those who watch that a simulation was asked for."""
    for watched in _notes:
        watched[settings] = needed


@contextmanager
def watching() -> Iterator[dict[str, int]]:
    """Every simulation that is asked for meanwhile."""
    asked: dict[str, int] = {}
    _notes.append(asked)
    try:
        yield asked
    finally:
        _notes.remove(asked)
