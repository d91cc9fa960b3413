"""What tests of real runs share: two runs, waiting, and finding a run's process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import psutil

from peft_lab.runs import store
from peft_lab.runs.spec import RunRequest

QUICK = RunRequest("minilm-l6", "lora", "sentiment", steps=2, batch=2, eval_rows=4)
LONG = replace(QUICK, steps=50_000)
PATIENCE = 90.0  # a busy machine


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def started(identity: str) -> psutil.Process:
    """The child of a run that has made its first step."""
    until(lambda: store.get(identity).view().step >= 1)
    found = [child for child in psutil.Process().children(recursive=True) if owns(child, identity)]
    assert len(found) == 1
    return found[0]


def owns(process: psutil.Process, identity: str) -> bool:
    try:
        return any(identity in file.path for file in process.open_files())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
