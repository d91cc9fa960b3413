"""Stop, SIGTERM and SIGKILL while a run saves: its states, its adapter, its record. What is there afterwards is whole.

The moment is found by watching the run's folder: a file that is being written has a name of its own until it is whole.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.faults.rows import Place, Row, counted
from bench.faults.watching import PATIENCE, QUICK, Waited, check, kill, until
from peft_lab.runs import checkpoints, owners, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.store import Run
from tests.models import homemade

TIMES = 30
SAVED = ("checkpoint-", "adapter", "record", "trajectory", "insight")
WAYS = ("stop", "SIGTERM", "SIGKILL")


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for each way."""
    folder = place.scratch / "own"
    homemade.folder("qwen2", folder)
    spec = replace(QUICK, model=str(folder), task="style", steps=120, eval_rows=8, max_length=300)
    for way in WAYS:
        row, chance = Row(f"{way} while a run saves"), random.Random(way)
        endings: dict[str, int] = {}
        for number in place.in_time(range(times // len(WAYS))):
            row.tried += 1
            what = SAVED[number % len(SAVED)]
            label = f"{row.what}, {what} {number}"
            try:
                ending = _once(row, store.get(get_queue().submit(spec)), what, way, label, chance)
                endings[ending] = endings.get(ending, 0) + 1
            except Waited as error:
                row.hang(f"{label}: {error}")
        row.notes = f"{counted(endings)}; all that is there is whole"
        yield row


def _once(row: Row, run: Run, what: str, way: str, label: str, chance: random.Random) -> str:
    """Wait until something of that name appears, or the run has ended; then act within a moment."""
    until(lambda: _there(run.folder, what) or run.status().final, label)
    time.sleep(chance.choice((0.0, 0.001, 0.01, 0.05)))
    if way == "stop":
        get_queue().stop(run.id)
    else:
        events = run.events()
        worker = next((owners.read(event["owner"]) for event in events if event["type"] == "worker"), None)
        if worker is not None and owners.running(worker):
            kill(worker.pid, signal.Signals[way])
    status = get_queue().wait(run.id, PATIENCE)
    if not status.final:
        raise Waited(f"{run.id} is {status}")
    check(row, run, label, saves=way != "SIGKILL")
    left = checkpoints.latest(run.folder)
    if left is not None and status != "done":
        get_queue().go_on(run.id)
        if get_queue().wait(run.id, PATIENCE) != "done":
            row.hang(f"{label}: it did not go on from step {left.step}: {run.view().message}")
        check(row, run, f"{label}, gone on")
    return str(status)


def _there(folder: Path, what: str) -> bool:
    return any(what in path.name for path in folder.iterdir())
