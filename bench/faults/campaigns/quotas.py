"""The limits of a class under many requests at once, as several tabs of one learner, or a script of theirs, make them:
runs under way, bytes of runs and of uploads, minutes. Nothing is trained: runs are queued, ended and gone on with."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from bench.faults.rows import Place, Row
from peft_lab.classroom import joining, places
from peft_lab.core import asking
from peft_lab.core.asking import Asker, acting_for
from peft_lab.core.errors import PeftLabError
from peft_lab.runs import admission, allowance, owners, store, waiting
from peft_lab.runs.queue import RunQueue
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.store import Run
from peft_lab.training.tasks.hub import UPLOADS
from peft_lab.ui.components.own_data import keep

TIMES = 40
AT_ONCE = 8
RUNS, MEGABYTES, UPLOAD_MEGABYTES, MINUTES = 3, 60, 1, 60


class _Waiting(RunQueue):
    """Takes runs, and never trains one."""

    def _take(self, run: Run, timed: bool = False) -> None:
        owners.touch(run.folder)


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for each limit."""
    place.home("home")
    os.environ[asking.CLASS_VARIABLE] = "blue-whale"
    os.environ[asking.LIMITS_VARIABLE] = (
        f"runs={RUNS},megabytes={MEGABYTES},upload_megabytes={UPLOAD_MEGABYTES},minutes={MINUTES},steps=500"
    )
    who = joining.join("blue-whale", "Ada")[0]
    with acting_for(who):
        spec = RunRequest("minilm-l6", "lora", "sentiment", steps=2, batch=2, eval_rows=4).complete()
        for title, case, notes in (
            ("runs asked for at once", _runs, f"never more than {RUNS} under way"),
            ("ended runs gone on with at once", _going_on, f"never more than {RUNS} under way"),
            (
                "runs asked for at once near the limit of bytes",
                _bytes,
                f"never more than {MEGABYTES} MB promised",
            ),
            ("uploads at once", _uploads, f"never more than {UPLOAD_MEGABYTES} MB kept"),
            ("turns noted at once", _turns, "every second counts"),
        ):
            row = Row(f"{title}, {AT_ONCE} threads")
            for number in place.in_time(range(times)):
                row.tried += 1
                case(row, who, spec, number)
                _end_all(who)
            row.notes = notes
            yield row


def _at_once(row: Row, who: Asker, calls: list[Callable[[], object]]) -> list[object]:
    """What each call came to, made by threads of their own at the same moment."""
    ready, found = threading.Barrier(len(calls)), list[object]()

    def work(call: Callable[[], object]) -> None:
        with acting_for(who):
            ready.wait()
            try:
                found.append(call())
            except PeftLabError as refusal:
                found.append(refusal)
            except Exception as error:  # noqa: BLE001  that is what is counted
                row.traceback(f"{row.what}: {error!r}")

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _end_all(who: Asker) -> None:
    for each in store.runs():
        if not each.status().final:
            each.log.emit("stopped")
        store.remove(each)
    allowance._folder_sizes.clear()


def _runs(row: Row, who: Asker, spec: RunSpec, number: int) -> None:
    queue = _Waiting()
    found = _at_once(row, who, [lambda: queue.submit(spec)] * AT_ONCE)
    _few(row, number, sum(isinstance(each, str) for each in found))


def _few(row: Row, number: int, let_in: int) -> None:
    going = len(waiting.is_mine())
    if going != RUNS or let_in != RUNS:
        row.other(f"{row.what} {number}: {going} under way, {let_in} let in of {RUNS}")


def _going_on(row: Row, who: Asker, spec: RunSpec, number: int) -> None:
    ended = []
    for _ in range(AT_ONCE):
        ended.append(store.create(spec, owners.myself()))
        ended[-1].log.emit("stopped")
    queue = _Waiting()
    found = _at_once(row, who, [lambda each=each: queue.go_on(each.id, anew=True) for each in ended])  # type: ignore[misc]
    _few(row, number, sum(each is None for each in found))


def _bytes(row: Row, who: Asker, spec: RunSpec, number: int) -> None:
    """Room for one run and a half is left: one is let in, whoever asks first."""
    needed = admission.needed_disk_bytes(spec)
    kept = store.create(replace(spec, seed=number))
    left = MEGABYTES * allowance.MEGABYTE - allowance.size_taken(store.root(), fresh=True)
    (kept.folder / "big").write_bytes(bytes(left - needed - needed // 2))
    queue = _Waiting()
    found = _at_once(row, who, [lambda: queue.submit(spec)] * AT_ONCE)
    let_in = sum(isinstance(each, str) for each in found)
    if let_in != 1:
        row.other(f"{row.what} {number}: {let_in} let in where one has room")


def _uploads(row: Row, who: Asker, spec: RunSpec, number: int) -> None:
    chance = random.Random(number)
    files = [(f"{each}.csv", chance.randbytes(300_000)) for each in range(AT_ONCE)]
    _at_once(row, who, [partial(keep, *each, lambda: None) for each in files])
    folder = places.mine() / UPLOADS
    taken = sum(path.stat().st_size for path in folder.iterdir())
    if not 0 < taken <= UPLOAD_MEGABYTES * allowance.MEGABYTE:
        row.other(f"{row.what} {number}: {taken:,} bytes kept")
    for path in folder.iterdir():
        path.unlink()


def _turns(row: Row, who: Asker, spec: RunSpec, number: int) -> None:
    _at_once(row, who, [lambda: allowance.note_minutes(2.0)] * AT_ONCE)
    wanted: Any = 2.0 * AT_ONCE
    if abs(allowance.minutes_taken() - wanted) > 0.01:
        row.loss(f"{row.what} {number}: {allowance.minutes_taken():.0f} of {wanted:.0f} seconds are noted")
    (places.mine() / allowance.MINUTES_FILE).unlink()
