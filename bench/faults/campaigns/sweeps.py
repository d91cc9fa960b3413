"""SIGKILL to a sweep's command at random moments, alone or with every process that it has begun, again and again until
it has ended; then all of it must be there once, with the losses of a sweep that nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.faults.rows import Place, Row

TIMES = 50
ASKED = {
    "model": "minilm-l6",
    "task": "sentiment",
    "methods": ["lora"],
    "steps": 25,
    "batch": 4,
    "eval_rows": 0,
    "seeds": [0, 1, 2],
    "grid": {"learning_rate": [0.001, 0.002]},
}
RUNS = 6
EARLIEST, LATEST = (
    2.0,
    16.0,
)  # seconds after which a command is killed: before its first run begins, and far into it
PATIENCE = 900  # seconds for a command that is left in peace
#: Starts the command on a lab folder, with a scratch folder beside it.
Command = Callable[[Path, Path], "subprocess.Popen[str]"]


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for the command alone, and one for it with all that it began."""
    yield from killed_again_and_again(place, times, "a sweep", _command)


def killed_again_and_again(place: Place, times: int, what: str, command: Command) -> Iterator[Row]:
    """A row for the command that carries it out alone, and one for it with all that it began."""
    undisturbed = _told(command(place.home("undisturbed"), place.scratch))
    for title, group in (
        (f"{what}'s command, SIGKILL", False),
        (f"{what} with all its processes, SIGKILL", True),
    ):
        often = times // 2 + times % 2 * (not group)
        yield _killed(Row(title), place, often, group, undisturbed["rows"], what, command)


def _killed(
    row: Row, place: Place, times: int, group: bool, expected: list[dict[str, Any]], what: str, make: Command
) -> Row:
    chance, ended, number = random.Random(group), 0, 0
    home = place.home(f"home-{group}-{number}")
    kept: dict[str, bytes] = {}
    while row.tried < times:
        command = make(home, place.scratch)
        try:
            command.wait(chance.uniform(EARLIEST, LATEST))
        except subprocess.TimeoutExpired:
            (os.killpg if group else os.kill)(command.pid, signal.SIGKILL)
            command.wait()
            row.tried += 1
            kept = _check_kept(row, home, kept)
            continue
        ended += 1
        _check(row, home, _told(make(home, place.scratch)), expected)
        number += 1
        home, kept = place.home(f"home-{group}-{number}"), {}
    _check(row, home, _told(make(home, place.scratch)), expected)
    row.notes = (
        f"{what} of {RUNS} runs came to its end {ended + 1} times, each run once, with the losses of one that was left "
        "in peace"
    )
    return row


def _command(home: Path, scratch: Path) -> subprocess.Popen[str]:
    file = scratch / "sweep.json"
    file.write_text(json.dumps(ASKED))
    return lab(home, "sweep", str(file), "--json")


def lab(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command line in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "peft_lab", *arguments], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PEFT_LAB_HOME": str(home)}, start_new_session=True,
    )  # fmt: skip


def _told(command: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = command.communicate(timeout=PATIENCE)
    found: dict[str, Any] = json.loads(out)
    return found


def _check_kept(row: Row, home: Path, before: dict[str, bytes]) -> dict[str, bytes]:
    """That what was done before is as it was; what is done by now."""
    now: dict[str, bytes] = {}
    for events in (home / "runs").glob("*/events.jsonl"):
        if '"type": "done"' in events.read_text("utf-8"):
            now |= {
                path.relative_to(home).as_posix(): path.read_bytes()
                for path in events.parent.rglob("*")
                if path.is_file() and not path.name.startswith(".") and path.name != "beat"
            }
    for name, content in before.items():
        if now.get(name) != content:
            row.loss(f"{row.what}: {name} is gone or changed")
    return now


def _check(row: Row, home: Path, told: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    """That nothing is lost and nothing there twice."""
    if {each["status"] for each in told["rows"]} != {"done"} or told.get("done", len(told["rows"])) != RUNS:
        row.hang(f"{row.what}: {[(each['status'], each.get('message')) for each in told['rows']]}")
    for each, other in zip(told["rows"], expected, strict=True):
        if _losses(each) != _losses(other):
            row.other(f"{row.what}: other losses: {_losses(each)} for {_losses(other)}")
    done = [
        path for path in (home / "runs").glob("*/events.jsonl") if '"type": "done"' in path.read_text("utf-8")
    ]
    if len(done) != RUNS:
        row.other(f"{row.what}: {len(done)} folders of done runs for {RUNS} runs")


def _losses(row: dict[str, Any]) -> Any:
    """What a row of a document says was learned: a sweep's loss, of a comparison every figure of its runs' losses."""
    return row.get("loss", row.get("figures"))
