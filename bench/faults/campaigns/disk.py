"""A disk that becomes full, or can only be read, at five moments of a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.faults.disk import Disk, NoDisk, small_disk
from bench.faults.rows import LIMIT, Place, Row
from bench.faults.server import Hung, Server
from bench.faults.watching import QUICK, VICTIM, Waited, check, ended, reach, tracebacks_of
from peft_lab.runs import store
from peft_lab.runs.view import Status

TIMES = 4
MOMENTS = ("before it is asked for", "loading", "in the middle", "last step", "scoring the tuned model")
COMMANDS = (
    ("runs",),
    ("runs", "--json"),
    ("train", "--model", "minilm-l6", "--method", "ia3", "--task", "sentiment", "--steps", "2"),
)


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for each fault and moment."""
    for fault in ("a full disk", "a disk that becomes read-only"):
        for moment in MOMENTS:
            row = Row(f"{fault}, {moment}")
            said: set[str] = set()
            for count in place.in_time(range(times)):
                row.tried += 1
                folder = place.scratch / f"disk-{fault[2:6]}-{moment[:6]}-{count}".replace(" ", "-")
                try:
                    with small_disk(folder, 64) as disk:
                        said.add(_once(place, row, disk, fault, moment))
                except NoDisk as reason:
                    row.notes = f"not tried: {reason}"
                    row.tried = 0
                    break
                except (Waited, Hung, EOFError) as error:
                    row.hang(f"{row.what}: {error!r}")
            row.notes = row.notes or " / ".join(sorted(said))
            yield row


def _once(place: Place, row: Row, disk: Disk, fault: str, moment: str) -> str:
    """What the run said; afterwards the list is read, a run is refused, and with room again one is made."""
    import os

    place.link(disk.path)
    os.environ["PEFT_LAB_HOME"] = str(disk.path)
    log = place.scratch / f"{disk.path.name}.log"
    server = Server(disk.path, log)
    try:
        run = None
        if moment in MOMENTS[1:]:
            run = store.get(server.ask("submit", VICTIM.to_dict())["ok"])
            reach(run, moment)
        disk.fill() if fault == "a full disk" else disk.read_only()
        if run is not None:
            # Only the app itself can know of an ending that the disk does not take.
            following = server.ask("submit", QUICK.to_dict())
            said = following.get("error", "")
            if "bug" in following:
                row.traceback(f"{row.what}: {following['bug']}")
        else:
            refused = server.ask("submit", VICTIM.to_dict())
            said = refused.get("error", "")
            if not said:
                row.traceback(f"{row.what}: {refused}")
        for command in COMMANDS:
            _command(row, command)
        disk.empty() if fault == "a full disk" else disk.read_only(False)
        if run is not None:
            status = ended(run)
            check(row, run, row.what)
            said = run.view().message or str(status)
        done = store.get(server.ask("submit", QUICK.to_dict())["ok"])
        if ended(done) is not Status.DONE:
            row.hang(f"{row.what}: the next run ended {done.view().message}")
        return _short(said, disk.path)
    finally:
        server.end()
        tracebacks_of(row, log, row.what)


def _short(said: str, path: Path) -> str:
    return said.split(" it needs ")[0].split(";")[0].replace(str(path), "PEFT_LAB_HOME")[:90]


def _command(row: Row, arguments: tuple[str, ...]) -> None:
    """A command line ends in a result or a sentence, in time."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "peft_lab", *arguments],
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            timeout=2 * LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        row.hang(f"{row.what}: {' '.join(arguments[:2])} does not end")
        return
    if "Traceback" in done.stderr:
        row.traceback(f"{row.what}: {' '.join(arguments[:2])}: {done.stderr[-600:]}")
