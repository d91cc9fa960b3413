"""A comparison's runs in the run store, found by what was trained: nothing but the spec ties them together."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from peft_lab.errors import BadInput, RunError
from peft_lab.runs import store
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status, classify

_keys: dict[Path, str] = {}  # a run's spec never changes
_ended: dict[Path, Status] = {}  # nor does its ending


def key_of(spec: RunSpec) -> str:
    """A spec by value: equal keys mean equal runs."""
    return json.dumps(spec.to_dict(), sort_keys=True)


def runs_of(specs: Iterable[RunSpec]) -> dict[str, Run]:
    """For each spec's key the run that speaks for it: the first one that was done, else the newest. Specs without a
    run are left out."""
    wanted = {key_of(spec) for spec in specs}
    chosen: dict[str, Run] = {}
    for run in store.runs():  # newest first
        key = _key(run)
        if key not in wanted:
            continue
        if key not in chosen or status_of(run) is Status.DONE:
            chosen[key] = run
    return chosen


def status_of(run: Run) -> Status:
    """As :meth:`Run.view` has it, read once for a run that has ended."""
    if run.folder not in _ended:
        events = run.events()
        status = classify(events, run.gone(events))
        if not status.final or not classify(events, gone="").final:
            return status
        _ended[run.folder] = status
    return _ended[run.folder]


def _key(run: Run) -> str | None:
    if run.folder not in _keys:
        try:
            _keys[run.folder] = key_of(run.spec)
        except (RunError, BadInput, TypeError):
            return None
    return _keys[run.folder]
