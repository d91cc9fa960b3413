"""Simulations that ship with the lab, so that the tree answers at once for its examples; all others are run.

``simulated.json`` is written by ``python -m tools.refresh_choices``; slow tests run what it holds again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any

FILE = "simulated.json"
_notes: list[dict[str, int]] = []


def key(
    model: str,
    method: str,
    values: tuple[tuple[str, Any], ...],
    seq: int,
    where: tuple[str, tuple[int, int]],
    batch: int,
    checkpointing: bool,
    optimizer: str,
    dtype: str,
) -> str:
    """A simulation's settings as a line of text."""
    knobs = ",".join(
        f"{name}={'+'.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in values
    )
    capability = ".".join(map(str, where[1]))
    more = " checkpointing" if checkpointing else ""
    more += "" if optimizer == "adamw" else f" {optimizer}"
    more += "" if dtype == "bfloat16" else f" {dtype}"
    return f"{model} {method}[{knobs}] {batch}x{seq} {where[0]} {capability}{more}"


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
