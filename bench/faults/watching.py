"""What campaigns over real runs share: phases of a run, waiting for them, and what has to hold afterwards."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.faults.rows import Row
from peft_lab.runs import kept, record, store
from peft_lab.runs.events import Event
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.runs.view import DAMAGED, Status

PATIENCE = 240.0  # seconds, on a busy machine
QUICK = RunRequest("minilm-l6", "lora", "sentiment", steps=2, batch=2, eval_rows=4)
#: Long enough in every phase to be met there.
VICTIM = RunRequest(
    "minilm-l6", "lora", "sentiment", steps=40, batch=2, eval_rows=96, probes=("A fine film.",)
)


def _seen(kind: str, **fields: Any) -> Callable[[Sequence[Event]], bool]:
    return lambda events: any(
        event["type"] == kind and all(event.get(name) == value for name, value in fields.items())
        for event in events
    )


#: Phases of a run by what its events say when it has come there.
PHASES: dict[str, Callable[[Sequence[Event]], bool]] = {
    "queued": _seen("queued"),
    "its process being made": _seen("starting"),
    "loading": _seen("phase"),
    "reading": _seen("phase", name="Reading the sentences"),
    "first step": _seen("step"),
    "in the middle": _seen("step", step=20),
    "last step": _seen("step", step=VICTIM.steps),
    "adapter saved": lambda events: any("process_peak_bytes" in event for event in events),
    "scoring the tuned model": _seen("evaluating", which="tuned"),
    "scoring the base": _seen("evaluating", which="base"),
}


class Waited(Exception):
    """Something did not come in its time."""


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Raises Waited."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Waited(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.01)


def reach(run: Run, phase: str) -> None:
    """Wait until a run has come to a phase, or has ended. Raises Waited."""
    until(lambda: PHASES[phase](run.events()) or run.status().final, f"'{phase}' of {run.id}")


def ended(run: Run, seconds: float = PATIENCE) -> Status:
    """Wait for the end of a run. Raises Waited."""
    until(lambda: run.status().final, f"the end of {run.id}", seconds)
    return run.status()


def finished(*specs: RunRequest) -> list[Run]:
    """Runs in the lab folder of this process, waited for."""
    runs = [store.get(get_queue().submit(spec)) for spec in specs]
    for run in runs:
        get_queue().wait(run.id, PATIENCE)
    return runs


def snapshot(home: Path) -> dict[str, bytes]:
    """All that finished runs have written."""
    return {
        path.relative_to(home).as_posix(): path.read_bytes()
        for path in (home / "runs").rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != "beat"
    }


def check(row: Row, run: Run, label: str, saves: bool = False) -> None:
    """What has to hold of a run that has ended in any way.

    Args:
        saves: whether what it had learned has to be there.
    """

    def figures() -> None:
        line = store.summary(run)
        if line.status == DAMAGED:
            row.loss(f"{label}: {run.id} is damaged: {line.problem}")
            return
        found = record.result(run)
        steps = [event["step"] for event in run.events() if event["type"] == "step"]
        if steps != list(range(1, len(steps) + 1)):
            row.loss(f"{label}: {run.id} misses steps")
        if line.status in ("failed", "lost") and not line.problem:
            row.loss(f"{label}: {run.id} does not say why it {line.status}")
        if saves and found["steps"] and not found["adapter_dir"]:
            row.loss(
                f"{label}: {run.id} made {found['steps']} steps and saved nothing: {line.status}, {found['message']}"
            )
        if found["adapter_dir"]:
            _whole(row, run, label)

    row.guarded(f"{label}: reading {run.id}", figures)
    log = run.folder / "worker.log"
    if log.exists() and "Traceback" in log.read_text("utf-8", "replace"):
        row.traceback(f"{label}: worker.log of {run.id}: {log.read_text('utf-8', 'replace')[-800:]}")
    for path in run.folder.iterdir():
        if path.name.startswith(".") and path.suffix != ".lock":  # which its process holds to its very end
            row.other(f"{label}: {run.id} left {path.name}")


def _whole(row: Row, run: Run, label: str) -> None:
    """An adapter that is there has all its bytes."""
    path = kept.kept_adapter(run.folder) / "adapter_model.safetensors"
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    last = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    if path.stat().st_size != 8 + length + last:
        row.loss(f"{label}: the adapter of {run.id} is cut")


def tracebacks_of(row: Row, log: Path, label: str, position: int = 0) -> int:
    """Count what a process wrote into its log as a traceback since a position; the new end."""
    with log.open("rb") as file:
        file.seek(position)
        text = file.read().decode("utf-8", "replace")
    for part in text.split("Traceback (most recent call last)")[1:]:
        row.traceback(f"{label}: {part.strip()[-600:]}")
    return position + len(text.encode())


def kill(pid: int, number: int) -> bool:
    """Whether the process was still there: it may have ended by itself meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
