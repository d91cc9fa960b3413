"""A comparison's runs in the run store, found by what was trained: nothing but the spec ties them together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peft_lab.errors import BadInput, RunError
from peft_lab.runs import store
from peft_lab.runs.same import stands_for
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status, classify, has_ended

_specs: dict[Path, RunSpec] = {}  # a run's spec never changes
_ended: dict[Path, tuple[int, Status]] = {}  # with its stamp: a run that ended too early may go on


def runs_of(specs: Sequence[RunSpec]) -> list[Run | None]:
    """For each spec the run that speaks for it: the first one that was done, else the newest, else ``None``."""
    chosen: list[Run | None] = [None] * len(specs)
    for run in store.runs():  # newest first
        spec = _spec(run)
        fitting = [n for n, wanted in enumerate(specs) if spec is not None and stands_for(spec, wanted)]
        for number in fitting:
            if chosen[number] is None or status_of(run) is Status.DONE:
                chosen[number] = run
    return chosen


def status_of(run: Run) -> Status:
    """As :meth:`Run.view` has it, read once for a run that has ended."""
    stamp = run.stamp()
    if _ended.get(run.folder, (None,))[0] != stamp:
        events = run.events()
        status = classify(events, run.gone(events))
        if not has_ended(events):
            return status
        _ended[run.folder] = (stamp, status)
    return _ended[run.folder][1]


def _spec(run: Run) -> RunSpec | None:
    if run.folder not in _specs:
        try:
            _specs[run.folder] = run.spec
        except (RunError, BadInput, TypeError):
            return None
    return _specs[run.folder]
