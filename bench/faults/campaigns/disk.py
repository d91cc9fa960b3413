"""A disk that becomes full, or can only be read, at five moments of a run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.faults.disk import Disk, NoDisk, small_disk
from bench.faults.rows import LIMIT, Place, Row, counted
from bench.faults.server import Hung, Server
from bench.faults.watching import PATIENCE, QUICK, VICTIM, Waited, check, ended, reach, tracebacks_of
from peft_lab.runs import store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.view import Status

TIMES = 4
MOMENTS_OF_FILLING = 5
MOMENTS = ("before it is asked for", "loading", "in the middle", "last step", "scoring the tuned model")
COMMANDS = (
    ("runs",),
    ("runs", "--json"),
    ("train", "--model", "minilm-l6", "--method", "ia3", "--task", "sentiment", "--steps", "2"),
)


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for each fault and moment, then one for a disk that fills up while a run writes."""
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

    yield _filling(place, MOMENTS_OF_FILLING * times)


def _filling(place: Place, times: int) -> Row:
    """Room for some bytes is left when a run has begun, fewer than it writes: it meets the end of it anywhere."""
    row, chance, said = Row("a disk that fills up while a run writes"), random.Random(0), Counter[str]()
    for count in place.in_time(range(times)):
        row.tried += 1
        try:
            with small_disk(place.scratch / f"filling-{count}", 64) as disk:
                said[_filled_up(place, row, disk, int(2 ** chance.uniform(12, 21)))] += 1
        except NoDisk as reason:
            row.notes, row.tried = f"not tried: {reason}", 0
            return row
        except (Waited, Hung, EOFError) as error:
            row.hang(f"{row.what}: {error!r}")
    row.notes = f"{counted(said)}, each in a sentence"
    return row


def _filled_up(place: Place, row: Row, disk: Disk, left: int) -> str:
    """How the run ended; what is there is whole, and with room again it goes on or the next one is made."""
    os.environ["PEFT_LAB_HOME"] = str(place.link(disk.path))
    label = f"{row.what}, {left:,} bytes left"
    run = store.get(get_queue().submit(VICTIM))
    reach(run, "loading")
    disk.fill(left)
    get_queue().wait(run.id, PATIENCE)
    disk.empty()
    ending = str(ended(run))
    following = get_queue().submit(QUICK)
    if get_queue().wait(following, PATIENCE) != "done":
        row.hang(f"{label}: the next run ended {store.get(following).view().message}")
    check(row, run, label)  # before the next run began, its folder was tidied up
    return ending


def _once(place: Place, row: Row, disk: Disk, fault: str, moment: str) -> str:
    """What the run said; afterwards the list is read, a run is refused, and with room again one is made."""
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
