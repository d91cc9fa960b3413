"""The clock is set, back or ahead, in the middle of things: what is under way goes on, and no figure turns negative.

It is set for this process alone: what ``time.time`` and psutil's time of the machine's start say, from which on Linux
all times of processes are reckoned.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psutil

from bench.faults.campaigns.flips import NAME, _filled, _uses
from bench.faults.rows import Place, Row
from peft_lab.classroom import joining, places
from peft_lab.core import asking
from peft_lab.core.asking import Asker, acting_for
from peft_lab.interview.learners.schedule import Learners
from peft_lab.runs import allowance, owners, queue, store
from peft_lab.runs import waiting as ahead
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.store import Run
from peft_lab.studies.compare import store as comparisons
from peft_lab.studies.compare.store import ComparisonRequest, make_plan

TIMES = 60
BY = (-10 * 365 * 86400.0, -86400.0, -3600.0, -61.0, -3.0, -0.5, 3.0, 3600.0, 86400.0)
_time, _booted = time.time, psutil.boot_time()


class _Clock:
    """Seconds that the clock was set by since the campaign began."""

    by = 0.0


@contextmanager
def _settable() -> Iterator[_Clock]:
    clock, lower = _Clock(), psutil._psplatform
    before = lower.boot_time
    time.time = lambda: _time() + clock.by
    lower.boot_time = lambda: _booted + clock.by
    try:
        yield clock
    finally:
        time.time, lower.boot_time = _time, before


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for runs, one for learners, one for a class."""
    spec = RunRequest("minilm-l6", "lora", "sentiment", steps=20, batch=2, eval_rows=4).complete()
    with _settable() as clock:
        yield _runs(place, times, clock, spec)
        yield _learners(place, times, clock)
        yield _class(place, times, clock, spec)


def _set(clock: _Clock, number: int) -> str:
    clock.by += BY[number % len(BY)]
    return f"set by {BY[number % len(BY)]:g} s"


def _runs(place: Place, times: int, clock: _Clock, spec: RunSpec) -> Row:
    row, chance = Row("the clock is set while runs are made"), random.Random(0)
    comparison = comparisons.keep(
        make_plan(
            ComparisonRequest(model="minilm-l6", task="sentiment", methods=("lora",), steps=2, seeds=(0,))
        )
    )
    for number in place.in_time(range(times)):
        row.tried += 1
        clock.by = 0.0
        waiting = store.create(spec, owners.myself())
        made = store.create(spec, owners.myself())
        with comparison.claimed():
            moment = chance.randrange(8)
            label = ""
            for at, (kind, fields) in enumerate(_events()):
                if at == moment:
                    label = f"{_set(clock, number)} before {kind}"
                made.log.emit(kind, **fields)
            row.guarded(label, lambda: _look(row, label, made, waiting))  # noqa: B023
            if not comparison.running:
                row.other(f"{label}: the comparison is taken for ended")
        for each in (waiting, made):
            each.log.emit("stopped", message="")
            store.remove(each)
    row.notes = "each stays who holds it and where it stands; no figure is negative"
    return row


def _events() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "starting", {}
    yield "worker", {"owner": owners.myself().to_dict(), "niceness": 0}
    yield "phase", {"name": "Loading the model"}
    sizes = {"trainable": 1, "head": 1, "total": 2, "rows": 9}
    yield "ready", {**sizes, "dtype": "float32", "device": "cpu", "learning_rate": 0.1}
    for step in range(1, 5):
        made = {"step": step, "loss": 1.0, "lr": 0.1, "grad_norm": 1.0, "tokens": 9, "seconds": 0.1}
        yield "step", {**made, "tracked": False}


def _look(row: Row, label: str, made: Run, waiting: Run) -> None:
    seen = made.view()
    if (seen.status, waiting.status()) != ("running", "queued"):
        row.loss(f"{label}: they are {seen.status} and {waiting.status()}")
    if {run.id for _, run in ahead.is_mine()} != {made.id, waiting.id} or ahead.mark_lost():
        row.loss(f"{label}: they are not held any more")
    for each in (*ahead.ahead(waiting.id), *ahead.ahead(made.id)):
        if each.seconds is not None and each.seconds < 0:
            row.other(f"{label}: {each.seconds:g} s ahead")
    made.log.emit("done", message="")
    seen = made.view()
    figures = {"took": seen.took, "first loss": seen.first_loss_after, "seconds": store.summary(made).seconds}
    for name, value in figures.items():
        if value is not None and value < 0:
            row.other(f"{label}: {name} {value:g} s")


def _learners(place: Place, times: int, clock: _Clock) -> Row:
    row = Row("the clock is set while a learner practises")
    file = Learners(place.scratch / "learners.db", lambda: datetime.fromtimestamp(time.time(), UTC))
    clock.by = 0.0
    _filled(file)
    for number in place.in_time(range(times)):
        row.tried += 1
        label = _set(clock, number)
        for use in _uses(file):
            row.guarded(label, use)
        for name, due in file.preview(NAME, "lora-alpha").items():
            if due < file.now() - timedelta(seconds=1):
                row.other(f"{label}: after '{name}' it is due in the past")
    row.notes = "every answer, and nothing due before now"
    return row


def _roll(who: Asker) -> None:
    with acting_for(replace(who, teacher=True)):
        queue.class_rows({})


def _class(place: Place, times: int, clock: _Clock, spec: RunSpec) -> Row:
    row = Row("the clock is set in a class")
    clock.by = 0.0
    os.environ[asking.CLASS_VARIABLE], os.environ[asking.LIMITS_VARIABLE] = "blue-whale", "minutes=10"
    who = joining.join("blue-whale", "Ada")[0]
    secret = joining.class_keys().secret
    for number in place.in_time(range(times)):
        row.tried += 1
        clock.by = 0.0
        with acting_for(who):
            cookie = joining.signed_mark(who, secret)
            allowance.note_minutes(601)
            label = _set(clock, number)
            row.guarded(f"{label}: roll", partial(_roll, who))
            back = clock.by < 86_000
            if (allowance.minutes_refusal() is not None) != back:
                row.other(f"{label}: minutes {'given back' if back else 'still taken'}")
            clock.by += 86_500
            if allowance.minutes_refusal() is not None:
                row.other(f"{label}: minutes are taken for more than a day")
            if joining.read_mark(cookie, secret) != who:
                row.other(f"{label}: the learner is not known any more")
            (places.mine() / allowance.MINUTES_FILE).unlink(missing_ok=True)
    row.notes = "minutes count for a day, and learners stay who they are"
    return row
