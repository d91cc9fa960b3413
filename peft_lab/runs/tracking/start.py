"""Start the process that sends a run to its trackers; called by whoever watches the run's own process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from peft_lab.classroom import places
from peft_lab.core import content, disk
from peft_lab.core.asking import OPERATOR, asker
from peft_lab.core.errors import BadInput, PeftLabError, RunError, echoed
from peft_lab.runs.store import Run

# ----------------------------------------
# The state of a run in its trackers (``tracking.json`` in its folder): address, progress, problem.
#
# Written by the process that follows the run (follow.py), and before it starts; read by pages and commands.


TRACKING_FILE = "tracking.json"
TITLES = {"mlflow": "MLflow", "trackio": "trackio"}


@dataclass(frozen=True)
class TrackerState:
    """The state of a run in one tracker. ``tracker``: ``mlflow`` or ``trackio``. ``address``: where people find it.
    ``identity``: the tracker's own id of the run. ``sent``: the last step sent of each figure. ``complete``: whether
    everything was sent, the ending included. ``problem``: why it was not, in one sentence."""

    tracker: str
    address: str = ""
    identity: str = ""
    sent: Mapping[str, int] = field(default_factory=dict)
    complete: bool = False
    problem: str = ""

    @property
    def over(self) -> bool:
        """Return whether nothing more is sent."""
        return self.complete or bool(self.problem)

    def sentence(self) -> str:
        """Return the state as one sentence, for the run's page and the command line."""
        title = TITLES.get(self.tracker, self.tracker)
        if self.problem:
            return f"{title} did not receive all of this run: {self.problem}"
        where = f"{self.address}, there as {self.identity}" if self.address else "not started"
        return f"{title}: {where}{'' if self.complete or not self.address else ', so far'}."


def read_tracking(folder: Path) -> dict[str, TrackerState]:
    """Return the states by tracker; ``{}`` without any, or if damaged: then all is sent again."""
    try:
        found = disk.read_json(folder / TRACKING_FILE, [])
        return {
            each["tracker"]: TrackerState(**content.read_typed(TrackerState, each, "A tracker's note"))
            for each in found
        }
    except (TypeError, KeyError, BadInput):
        return {}


def write_tracking(folder: Path, told: TrackerState) -> None:
    """Write one tracker's state to the file, beside those of the others. Raises OSError."""
    rows: list[dict[str, Any]] = [
        asdict(each) for each in {**read_tracking(folder), told.tracker: told}.values()
    ]
    disk.write_json(folder / TRACKING_FILE, rows)


def failed_trackers(folder: Path, tracker: str, problem: str) -> None:
    """Record why a run could not be sent to a tracker. Raises OSError."""
    write_tracking(
        folder,
        replace(read_tracking(folder).get(tracker, TrackerState(tracker)), complete=False, problem=problem),
    )


# ----------------------------------------
# Which trackers runs are sent to: ``PEFT_LAB_TRACK=mlflow,trackio``, or ``--track`` of a command, which sets it.
#
# Only the machine's operator decides. In a class learners' runs are sent to none: a tracker's store lies outside
# their folders, can be read by all who can open it, and would keep what the class deletes.


TRACK_VARIABLE = "PEFT_LAB_TRACK"
#: The modules that each tracker needs.
_NEEDS = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "trackio": ("trackio",)}


def tracker_names(text: str | None = None) -> tuple[str, ...]:
    """Return the trackers that ``text``, or the environment, names. Raises BadInput (unknown or not installed)."""
    said = os.environ.get(TRACK_VARIABLE, "") if text is None else text
    found = tuple(dict.fromkeys(name.strip().lower() for name in said.split(",") if name.strip()))
    for name in found:
        if name not in TITLES:
            raise BadInput(f"'{echoed(name)}' is not a tracker. Choose {' or '.join(TITLES)}.", "track")
        if not all(find_spec(module) for module in _NEEDS[name]):
            raise BadInput(
                f"{TITLES[name]} is not installed. Install it: pip install 'peft-lab[{name}]' (in a clone, "
                f"'.[{name}]').",
                "track",
            )
    return found


def require_trackers() -> None:
    """Check the trackers, except for learners, who have none. Raises BadInput as :func:`tracker_names`."""
    who = asker()
    if who is None or who.owner == OPERATOR:
        tracker_names()


def trackers_of(run: Run) -> tuple[str, ...]:
    """Return the trackers that a run is sent to now. Raises BadInput as :func:`tracker_names`."""
    return tracker_names() if places.asker_of(run.folder).owner == OPERATOR else ()


def switch_on(trackers: Iterable[str]) -> None:
    """Set the trackers for this process and its children. Raises BadInput as :func:`tracker_names`."""
    text = ",".join(trackers)
    if text:
        tracker_names(text)
        os.environ[TRACK_VARIABLE] = text


AS_IT_STANDS = "--as-it-stands"  # send the run once, without waiting for a silent one
STORES = "trackers"  # folder in the lab folder: the default place for stores of MLflow and trackio
LOG = "tracking.log"
PATIENCE = 120.0  # seconds that a command waits for trackers after a run: an adapter may have to be uploaded
_ROOT = Path(__file__).resolve().parents[3]
_going: list[subprocess.Popen[bytes]] = []  # the followers of runs; ended ones are removed


def begin(run: Run) -> None:
    """Start following a run that begins, if it has trackers. Never raises: the run trains all the same."""
    try:
        trackers = trackers_of(run)
        for name in trackers:
            # a resumed run keeps what was sent, but is no longer complete
            told = read_tracking(run.folder).get(name, TrackerState(name))
            write_tracking(run.folder, replace(told, complete=False, problem=""))
        if trackers:
            _going[:] = [each for each in _going if each.poll() is None]
            _going.append(_started(run, trackers))
    except (PeftLabError, OSError) as error:
        with suppress(OSError):  # if the disk takes nothing, the run itself will fail with that
            for name in os.environ.get(TRACK_VARIABLE, "").split(","):
                failed_trackers(run.folder, name.strip().lower(), str(error))


def send(run: Run, trackers: tuple[str, ...]) -> list[TrackerState]:
    """Send an ended run to trackers; return when they have it all. Raises BadInput (it has not ended), RunError."""
    if not run.status().final:
        raise BadInput(
            f"'{run.id}' has not ended. Wait until it ends, or use train --track to track a run from its start."
        )
    try:
        code = _started(run, trackers, AS_IT_STANDS).wait()
    except OSError as error:
        raise RunError(f"'{run.id}' cannot be sent to the trackers ({error}).") from error
    found = read_tracking(run.folder)
    lacking = [name for name in trackers if not (name in found and found[name].over)]
    if lacking:
        raise RunError(
            f"{', '.join(lacking)} did not receive '{run.id}' (exit code {code}). See {run.folder / LOG}."
        )
    return [found[name] for name in trackers]


def wait(run: Run, trackers: tuple[str, ...], seconds: float = PATIENCE) -> list[TrackerState]:
    """Return an ended run's state in its trackers, once complete or failed, at most ``seconds`` later."""
    deadline = time.monotonic() + seconds
    while True:
        found = read_tracking(run.folder)
        if all(name in found and found[name].over for name in trackers) or time.monotonic() > deadline:
            return [found.get(name, TrackerState(name)) for name in trackers]
        time.sleep(0.1)


def _started(run: Run, trackers: tuple[str, ...], *options: str) -> subprocess.Popen[bytes]:
    home = disk.home()
    paths = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), str(_ROOT)]
    given = {**os.environ, "PEFT_LAB_HOME": str(home), "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    what = (*options, str(run.folder), str(home / STORES), *trackers)
    command = [sys.executable, "-m", "peft_lab.runs.tracking.follow", *what]
    with (run.folder / LOG).open("ab") as log:
        # its own session: Ctrl-C in a terminal ends the run, and the tracker must still be told
        return subprocess.Popen(
            command, env=given, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


# ----------------------------------------
# The state of several runs, as of a comparison or a sweep, in their trackers: one sentence per tracker.


@dataclass(frozen=True)
class Summed:
    """The state of several runs in one tracker. ``told``: the state of each run, at least one."""

    told: tuple[TrackerState, ...]

    @property
    def failed(self) -> tuple[TrackerState, ...]:
        """Return those that were not sent completely because of a problem."""
        return tuple(each for each in self.told if each.problem)

    def sentence(self) -> str:
        """Return the state as one sentence, for the page and the command line."""
        one, total = self.told[0], len(self.told)
        if total == 1:
            return one.sentence()
        title = TITLES.get(one.tracker, one.tracker)
        if self.failed:
            reasons = Counter(each.problem for each in self.failed).most_common()
            more = " The other runs give their own reasons." if len(reasons) > 1 else ""
            return f"{title} did not receive all of {len(self.failed)} of these {total} runs: {reasons[0][0]}{more}"
        complete = sum(each.complete for each in self.told)
        if complete < total:
            return f"{title}: {complete} of these {total} runs so far."
        at = dict.fromkeys(each.address for each in self.told)
        return f"{title}: all of these {total} runs, in {' and '.join(at)}."


def trackers_summed(runs: Sequence[Run]) -> list[Summed]:
    """Return the runs' current state, one entry for each tracker that any of them is sent to."""
    found: dict[str, list[TrackerState]] = {}
    for run in runs:
        for name, told in read_tracking(run.folder).items():
            found.setdefault(name, []).append(told)
    return [Summed(tuple(found[name])) for name in sorted(found)]


def trackers_waited_for(runs: Sequence[Run], seconds: float) -> list[Summed]:
    """Return :func:`trackers_summed` of ended runs, once all is sent, or after ``seconds`` in any case."""
    deadline = time.monotonic() + seconds
    for run in runs:
        wait(run, tuple(read_tracking(run.folder)), max(0.0, deadline - time.monotonic()))
    return trackers_summed(runs)
