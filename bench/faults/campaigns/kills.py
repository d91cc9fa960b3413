"""SIGKILL and SIGTERM to every process of the app at every phase of a run.

Lost is what had been written, and, unless the training process itself is killed with SIGKILL, what had been learned: a
run whose app ends saves as Stop does.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.faults.rows import Place, Row
from bench.faults.server import Hung, Server
from bench.faults.watching import (
    PATIENCE,
    PHASES,
    QUICK,
    VICTIM,
    Waited,
    check,
    ended,
    kill,
    reach,
    snapshot,
    tracebacks_of,
)
from peft_lab.runs import owners, store
from peft_lab.runs.view import Status

TIMES = 20
VICTIMS = (
    ("the training process", "worker", signal.SIGKILL),
    ("the training process", "worker", signal.SIGTERM),
    ("the fork server", "fork server", signal.SIGKILL),
    ("the inspector", "inspector", signal.SIGKILL),
    ("the app", "server", signal.SIGKILL),
    ("the app", "server", signal.SIGTERM),
)
LATE = 0.3  # seconds after a phase has begun, at most


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for each process and signal."""
    home, chance = place.home("home"), random.Random(0)
    app = _App(home, place.scratch / "server.log")
    try:
        for title, victim, number in VICTIMS:
            row = Row(f"{title}, {signal.Signals(number).name}")
            endings: dict[str, int] = {}
            # A queued run has no process of its own yet.
            phases = [phase for phase in PHASES if victim != "worker" or phase != "queued"]
            for count in place.in_time(range(times)):
                phase = phases[count % len(phases)]
                label = f"{row.what}, {phase}"
                try:
                    status = _once(app, row, victim, number, phase, label, chance)
                    endings[status] = endings.get(status, 0) + 1
                except (Waited, Hung, EOFError) as error:
                    row.hang(f"{label}: {error!r}")
                    app.restart()
                row.tried += 1
                app.position = tracebacks_of(row, app.log, label, app.position)
            told = ", ".join(f"{amount} {status}" for status, amount in sorted(endings.items()))
            row.notes = f"runs: {told}; the next run was done each time" if not row.hangs else f"runs: {told}"
            yield row
    finally:
        app.server.end()


class _App:
    """The running app, started anew when it was killed."""

    def __init__(self, home: Path, log: Path) -> None:
        self.home, self.log, self.position = home, log, 0
        self.server = Server(home, log)
        self.asked = 0

    def restart(self) -> None:
        self.server.end()
        self.server = Server(self.home, self.log)

    def pid(self, victim: str, run: store.Run) -> int | None:
        if victim == "server":
            return self.server.process.pid
        if victim == "worker":
            events = run.events()
            found = next((owners.read(event["owner"]) for event in events if event["type"] == "worker"), None)
            return found.pid if found is not None and owners.running(found) else None
        if victim == "inspector":
            self.count()
        found_pid: int | None = self.server.ask("pids")["ok"][victim]
        return found_pid

    def count(self) -> dict[str, Any]:
        """Ask the inspector a new question."""
        self.asked += 1
        return self.server.ask("count", 1 + self.asked % 500)


def _once(
    app: _App, row: Row, victim: str, number: int, phase: str, label: str, chance: random.Random
) -> str:
    before = snapshot(app.home)
    run = store.get(app.server.ask("submit", VICTIM.to_dict())["ok"])
    reach(run, phase)
    time.sleep(chance.random() * LATE)
    pid = app.pid(victim, run)
    met = pid is not None and kill(pid, number)
    if victim == "inspector":
        for answer in (app.count(), app.count()):
            if "bug" in answer:
                row.traceback(f"{label}: {answer['bug']}")
        if "ok" not in answer:
            row.hang(f"{label}: the inspector does not answer again: {answer}")
    if victim == "server":
        app.server.process.wait(PATIENCE)
    status = ended(run)
    if victim == "server":
        app.restart()
    check(row, run, label, saves=not (victim == "worker" and number == signal.SIGKILL))
    following = app.server.ask("submit", QUICK.to_dict())
    if "ok" not in following:
        row.hang(f"{label}: no run can be started: {following}")
    elif ended(store.get(following["ok"])) is not Status.DONE:
        row.hang(f"{label}: the next run ended {store.get(following['ok']).view()}")
    after = snapshot(app.home)
    for name, content in before.items():
        if after.get(name) != content:
            row.loss(f"{label}: {name} is gone or changed")
    return str(status) if met else f"{status} before the signal"
