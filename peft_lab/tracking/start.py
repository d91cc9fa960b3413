"""Starts the process that tells trackers of a run; for whoever watches over the run's own process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from peft_lab.assets import store as assets
from peft_lab.errors import BadInput, PeftLabError, RunError
from peft_lab.runs.store import Run
from peft_lab.tracking import kept, wanted
from peft_lab.tracking.kept import Told

AS_IT_STANDS = "--as-it-stands"  # told once, whatever is still to come
STORES = "trackers"  # in the lab folder: what MLflow and trackio keep where they have no other place
LOG = "tracking.log"
PATIENCE = 120.0  # seconds that a command waits for trackers after a run: an adapter may have to be uploaded
_ROOT = Path(__file__).resolve().parents[2]
_going: list[subprocess.Popen[bytes]] = []  # processes of runs that have begun; those that ended are let go


def begin(run: Run) -> None:
    """Follow a run that begins, where it is to go to a tracker. Never raises: the run trains all the same."""
    try:
        trackers = wanted.of(run)
        for name in trackers:
            # of a run that goes on: what it has been told stays, that this was all does not
            told = kept.read(run.folder).get(name, Told(name))
            kept.write(run.folder, replace(told, complete=False, problem=""))
        if trackers:
            _going[:] = [each for each in _going if each.poll() is None]
            _going.append(_started(run, trackers))
    except (PeftLabError, OSError) as error:
        _say(run, str(error))


def send(run: Run, trackers: tuple[str, ...]) -> list[Told]:
    """Tell trackers of a run that has ended, of which they may have a part; returns when they have it.

    Raises:
        BadInput: it has not ended. RunError: no process can be started, or it ended without a word.
    """
    if not run.status().final:
        raise BadInput(
            f"'{run.id}' has not ended; a run goes to a tracker from its start with train --track."
        )
    try:
        code = _started(run, trackers, AS_IT_STANDS).wait()
    except OSError as error:
        raise RunError(f"The trackers cannot be told of '{run.id}' ({error}).") from error
    found = kept.read(run.folder)
    lacking = [name for name in trackers if not (name in found and _over(found[name]))]
    if lacking:
        raise RunError(
            f"{', '.join(lacking)} was not told of '{run.id}' (exit code {code}); {run.folder / LOG} says more."
        )
    return [found[name] for name in trackers]


def wait(run: Run, trackers: tuple[str, ...], seconds: float = PATIENCE) -> list[Told]:
    """How an ended run stands in its trackers, once they have it all; after ``seconds`` as it stands then."""
    deadline = time.monotonic() + seconds
    while True:
        found = kept.read(run.folder)
        if all(name in found and _over(found[name]) for name in trackers) or time.monotonic() > deadline:
            return [found.get(name, Told(name)) for name in trackers]
        time.sleep(0.1)


def _over(told: Told) -> bool:
    return told.complete or bool(told.problem)


def _started(run: Run, trackers: tuple[str, ...], *options: str) -> subprocess.Popen[bytes]:
    home = assets.home()
    paths = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), str(_ROOT)]
    given = {**os.environ, "PEFT_LAB_HOME": str(home), "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    what = (*options, str(run.folder), str(home / STORES), *trackers)
    command = [sys.executable, "-m", "peft_lab.tracking", *what]
    with (run.folder / LOG).open("ab") as log:
        # of a session of its own: Ctrl-C in a terminal ends the run, and the tracker is to hear of that
        return subprocess.Popen(
            command, env=given, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _say(run: Run, problem: str) -> None:
    try:
        for name in os.environ.get(wanted.VARIABLE, "").split(","):
            kept.failed(run.folder, name.strip().lower(), problem)
    except OSError:
        return  # the disk takes nothing: the run will say so itself
