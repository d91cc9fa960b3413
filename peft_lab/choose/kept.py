"""Simulations that ship with the lab, so that the tree answers at once for its examples; all others are run.

``simulated.json`` is written by ``python -m tools.refresh_choices``; slow tests run what it holds again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any

from peft_lab.memory.request import StepRequest
from peft_lab.sharding.how import Sharding

FILE = "simulated.json"
_notes: list[dict[str, int]] = []
_shipped: list[Any] = []
_run: dict[str, dict[tuple[int, int], int]] = {}
_SIZE = re.compile(r"(?<=\]) (\d+)x(\d+) ")


def key(request: StepRequest, how: Sharding | None = None, in_main_memory: bool = False) -> str:
    """A simulation's settings as a line of text. ``in_main_memory``: for what lies there, not on the device."""
    knobs = ",".join(
        f"{name}={'+'.join(map(str, value)) if isinstance(value, tuple | list) else value}"
        for name, value in sorted(request.values.items())
    )
    setting = request.setting
    where = f"{setting.device} {'.'.join(map(str, setting.capability))}"
    more = " checkpointing" if request.checkpointing else ""
    more += "" if setting.optimizer == "adamw" else f" {setting.optimizer}"
    more += "" if setting.loss == "whole" else f" {setting.loss} loss"
    more += (" packed" if setting.packed else "") + (" saved in main memory" if setting.offload else "")
    more += "" if request.dtype == "bfloat16" else f" {request.dtype}"
    if how is not None:
        more += f" {how.kind} over {how.devices}" + (" offload" if how.offload else "")
    more += " main memory" if in_main_memory else ""
    return f"{request.model} {request.method}[{knobs}] {setting.batch}x{setting.seq} {where}{more}"


@cache
def simulations() -> Mapping[str, int]:
    """Bytes that a device must have, by settings."""
    file = resources.files(__package__) / FILE
    if not file.is_file():
        return {}
    kept: dict[str, int] = json.loads(file.read_text("utf-8"))["bytes"]
    return kept


def family(request: StepRequest, how: Sharding | None = None) -> Mapping[tuple[int, int], int]:
    """Bytes of the same step by its rows and the tokens of each: of those that ship and of those run here."""
    same = _same(key(request, how))
    return {**_families().get(same, {}), **_run.get(same, {})}


def _same(settings: str) -> str:
    """The settings without rows and tokens."""
    return _SIZE.sub(" ", settings, count=1)


def _families() -> Mapping[str, dict[tuple[int, int], int]]:
    """Those of what ships, worked out once; tests put other simulations in their place."""
    kept = simulations()
    if not _shipped or _shipped[0] is not kept:
        found: dict[str, dict[tuple[int, int], int]] = {}
        for settings, needed in kept.items():
            _add(found, settings, needed)
        _shipped[:] = [kept, found]
    return _shipped[1]


def _add(families: dict[str, dict[tuple[int, int], int]], settings: str, needed: int) -> None:
    size = _SIZE.search(settings)
    if size is not None:
        families.setdefault(_same(settings), {})[int(size[1]), int(size[2])] = needed


def note(settings: str, needed: int) -> None:
    """Tell those who watch that a simulation was asked for, and remember it for its :func:`family`."""
    _add(_run, settings, needed)
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
