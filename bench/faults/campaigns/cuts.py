"""Event files cut anywhere."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from bench.faults.rows import Place, Row
from bench.faults.watching import QUICK, VICTIM, finished
from peft_lab.runs import store

TIMES = 300


def run(place: Place, times: int) -> Iterator[Row]:
    """One row."""
    made, other = finished(replace(VICTIM, steps=8, eval_rows=16), QUICK)
    row = Row("an event file cut at any byte")
    path = made.folder / "events.jsonl"
    original = path.read_bytes()
    chance = random.Random(0)
    for _ in place.in_time(range(times)):
        row.tried += 1
        cut = chance.randrange(len(original))
        path.write_bytes(original[:cut])
        row.guarded(f"cut at {cut}: view", made.view)
        row.guarded(f"cut at {cut}: list", store.summaries)
        found, lines = len(made.events()), original[:cut].count(b"\n")
        if found != lines:
            row.loss(f"cut at {cut}: {found} events of {lines} whole lines")
    path.write_bytes(original)
    if store.summary(made).status != "done" or store.summary(other).status != "done":
        row.loss("a run is no longer done afterwards")
    row.notes = "every whole line is read"
    yield row
