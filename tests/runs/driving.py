"""What tests of real runs share: two runs, waiting, and finding a run's process."""

from __future__ import annotations

from dataclasses import replace

import psutil

from peft_lab.runs import store
from peft_lab.runs.spec import RunRequest
from tests.waits import until

QUICK = RunRequest("minilm-l6", "lora", "sentiment", steps=2, batch=2, eval_rows=4)
LONG = replace(QUICK, steps=50_000)


def at_first_step(identity: str) -> None:
    """Wait for a run's first step; one that ends before it fails the test with what it said."""

    def seen() -> bool:
        view = store.get(identity).view()
        assert view.step >= 1 or not view.status.final, f"{view.status}: {view.message}"
        return view.step >= 1

    until(seen)


def started(identity: str) -> psutil.Process:
    """The child of a run that has made its first step."""
    at_first_step(identity)
    found = [child for child in psutil.Process().children(recursive=True) if owns(child, identity)]
    assert len(found) == 1
    return found[0]


def owns(process: psutil.Process, identity: str) -> bool:
    try:
        return any(identity in file.path for file in process.open_files())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
