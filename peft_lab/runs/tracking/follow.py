"""Follow one run's events in a separate process until it has ended, and send it to MLflow and trackio, so that no
tracker can delay or break the training. Started by start.py as ``python -m peft_lab.runs.tracking.follow
[--as-it-stands] FOLDER HOME TRACKER...``."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from peft_lab.core import disk
from peft_lab.core.errors import PeftLabError, RunError, in_short
from peft_lab.runs import owners
from peft_lab.runs.events import Event, latest
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.tracking import start
from peft_lab.runs.tracking.start import TrackerState
from peft_lab.runs.view import Status, classify, has_ended

PROJECT = "peft-lab"  # MLflow's experiment, trackio's project


@dataclass(frozen=True)
class TrackedPoint:
    """One figure of a run. ``name``: such as ``loss`` or ``tuned/accuracy``. ``step``: after which it was measured; 0
    for the base model. ``time``: of the run's event, in seconds since 1970. ``since``: seconds since the run was
    submitted."""

    name: str
    value: float
    step: int
    time: float
    since: float


class Tracker(Protocol):
    """One run in one tracker: where people find it, without a password, and the tracker's own id, with which it can be
    resumed. Raises whatever the tracker's library raises."""

    @property
    def address(self) -> str: ...
    @property
    def identity(self) -> str: ...
    def points(self, points: Sequence[TrackedPoint]) -> None: ...
    def folder(self, path: Path) -> None: ...
    def end(self, status: Status, message: str) -> None: ...


# ----------------------------------------
# What is sent to a tracker: a run's spec as parameters, its events as figures by step. Pure functions.


_STEP = {
    "loss": "loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
    "tokens": "tokens",
    "step_seconds": "seconds",
}
_MEMORY = ("peak_bytes", "process_peak_bytes", "device_allocated_bytes", "device_reserved_bytes")
_READY = ("trainable", "head", "total", "dtype", "device")


def run_parameters(spec: RunSpec, events: Sequence[Event]) -> dict[str, str]:
    """Return the spec's fields, each knob as ``values.NAME``, and the run's recorded facts of model and device."""
    told = spec.to_dict()
    values = told.pop("values")
    found = latest(events, "ready") or {}
    named = {
        **told,
        **{f"values.{name}": value for name, value in values.items()},
        **{name: found[name] for name in _READY if name in found},
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in named.items()}


def run_points(events: Sequence[Event]) -> list[TrackedPoint]:
    """Return all figures so far, in the order of their events; no figure twice at one step."""
    made: dict[tuple[str, int], TrackedPoint] = {}
    begun = events[0]["time"] if events else 0.0
    step = 0
    for event in events:
        if event["type"] == "step":
            step = int(event["step"])
        for name, value in _figures(event).items():
            at = 0 if name.startswith("base/") else step
            made[name, at] = TrackedPoint(
                name, float(value), at, event["time"], max(0.0, event["time"] - begun)
            )
    return list(made.values())


def _figures(event: Event) -> dict[str, float]:
    kind = event["type"]
    if kind == "step":
        return {name: event[field] for name, field in _STEP.items() if _number(event.get(field))}
    if kind == "evaluated":
        named = {**event["metrics"], "loss": event["loss"], "seconds": event["seconds"]}
        return {f"{event['which']}/{name}": value for name, value in named.items() if _number(value)}
    if kind == "unrelated":
        return {f"{event['which']}/unrelated_loss": event["loss"]}
    if kind == "memory":
        sizes = {f"memory/{name}": event.get(name) for name in _MEMORY}
        parts = {f"memory/{name}_bytes": value for name, value in (event.get("parts") or {}).items()}
        return {name: value for name, value in {**sizes, **parts}.items() if _number(value)}
    return {}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ----------------------------------------
# MLflow: at ``MLFLOW_TRACKING_URI``, else in a SQLite file of the lab folder, without a server. ``mlflow-skinny`` with
# SQLAlchemy and alembic is enough to write and read it; MLflow's own pages need all of ``mlflow``.


MOST = 1000  # most metrics in one request to MLflow
LONGEST = 6000  # most characters of a parameter
_ENDS = {Status.DONE: "FINISHED", Status.STOPPED: "KILLED"}


class ToMlflow:
    """Implements :class:`Tracker`."""

    def __init__(self, run: str, parameters: Mapping[str, str], home: Path, identity: str) -> None:
        # Send no usage telemetry to MLflow's makers.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._entities: Any = importlib.import_module("mlflow.entities")
        local = f"sqlite:///{home / 'mlflow.db'}"
        self._uri = uri = os.environ.get("MLFLOW_TRACKING_URI") or local
        # the first of several runs that begin at once creates the store's tables and the experiment
        with FileLock(home / ".mlflow.lock"):
            self._client: Any = importlib.import_module("mlflow").MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(PROJECT)
            # a local store keeps artifacts beside it; a server decides itself
            beside = (home / "mlflow-artifacts").as_uri() if uri == local else None
            experiment = (
                self._client.create_experiment(PROJECT, artifact_location=beside)
                if found is None
                else found.experiment_id
            )
        if identity:
            self._client.update_run(identity, status="RUNNING")
            self.identity = identity
        else:
            tags = {"mlflow.source.name": "PEFT Lab", "peft_lab.run": run}
            made = self._client.create_run(str(experiment), run_name=run, tags=tags)
            self.identity = str(made.info.run_id)
        params = [self._entities.Param(name, value[:LONGEST]) for name, value in parameters.items()]
        self._client.log_batch(self.identity, params=params)

    @property
    def address(self) -> str:
        return f"{without_password(self._uri)}, experiment {PROJECT}"

    def points(self, points: Sequence[TrackedPoint]) -> None:
        for first in range(0, len(points), MOST):
            part = points[first : first + MOST]
            metrics = [
                self._entities.Metric(each.name, each.value, round(each.time * 1000), each.step)
                for each in part
            ]
            self._client.log_batch(self.identity, metrics=metrics)

    def folder(self, path: Path) -> None:
        self._client.log_artifacts(self.identity, str(path), path.name)

    def end(self, status: Status, message: str) -> None:
        self._client.set_tag(self.identity, "peft_lab.status", str(status))
        if message:
            self._client.set_tag(self.identity, "mlflow.note.content", message)
        self._client.set_terminated(self.identity, _ENDS.get(status, "FAILED"))


def without_password(uri: str) -> str:
    """Return an address without user and password, as it may be shown on a page."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


# ----------------------------------------
# trackio: in ``TRACKIO_DIR``, else in the lab folder, one SQLite file per project; or where trackio's own
# ``TRACKIO_SERVER_URL`` and ``TRACKIO_SPACE_ID`` point.


_ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class ToTrackio:
    """Implements :class:`Tracker`. trackio's name of a run is the run's id."""

    def __init__(self, run: str, parameters: Mapping[str, str], home: Path, identity: str) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(home / "trackio"))
        # trackio reports errors as warnings, also from its own threads; collect them to raise them as an error
        self._warned: list[str] = []
        warnings.showwarning = lambda message, *rest, **more: self._warned.append(str(message))
        warnings.filterwarnings("always", message=r"trackio\b.*")
        self._library: Any = importlib.import_module("trackio")
        self._told = self._library.init(
            PROJECT, name=run, config=dict(parameters), resume="must" if identity else "never", embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
        self.identity = str(self._told.name)
        if not identity and self.identity != run:
            raise RunError(f"trackio already has a run called '{run}'.")

    @property
    def address(self) -> str:
        elsewhere = next((os.environ[name] for name in _ELSEWHERE if os.environ.get(name)), "")
        return f"{without_password(elsewhere) or os.environ['TRACKIO_DIR']}, project {PROJECT}"

    def points(self, points: Sequence[TrackedPoint]) -> None:
        for step, together in groupby(points, key=lambda point: point.step):
            rows = list(together)
            # trackio stamps a row on arrival, so the run's elapsed seconds are sent along
            self._told.log({**{each.name: each.value for each in rows}, "elapsed": rows[-1].since}, step=step)
        self._require_received()

    def folder(self, path: Path) -> None:
        self._told.log_artifact(str(path), name=self.identity, type="model")
        self._require_received()

    def end(self, status: Status, message: str) -> None:
        if status is not Status.DONE:
            level = self._library.AlertLevel.WARN
            self._told.alert(title=f"{self.identity} {status}", text=message or None, level=level)
        self._told.finish()
        self._require_received()

    def _require_received(self) -> None:
        said = next((text for text in self._warned if "trackio" in text.lower()), "")
        if said:
            raise RunError(said)


#: Each begins a run in a tracker, or resumes that of an identity; a local store lies in the folder passed to it.
OPENS: Mapping[str, Callable[[str, Mapping[str, str], Path, str], Tracker]] = {
    "mlflow": ToMlflow,
    "trackio": ToTrackio,
}
EVERY = 1.0  # seconds between looks at a run's events
LOCK = ".tracking.lock"
_ENDINGS = {str(status) for status in Status if status.final}


@dataclass
class _Telling:
    """One tracker and how far it is; ``tracker`` is ``None`` before the first sending and after a failure."""

    told: TrackerState
    tracker: Tracker | None = None


def follow(run: Run, home: Path, trackers: Sequence[str], as_it_stands: bool = False) -> None:
    """Send the run to the trackers until it has ended, or all of them have failed; an error is stored with the run.
    ``home``: folder for their stores. ``as_it_stands``: treat a run that is only silent as ended."""
    try:
        _followed(run, home, trackers, as_it_stands)
    except Exception as error:
        code = disk.number(error)
        why = disk.why(code) if code is not None else f"{type(error).__name__}: {in_short(error)}"
        said = str(error) if isinstance(error, PeftLabError) else f"'{run.id}' cannot be followed ({why})."
        with suppress(OSError):  # the run may have been deleted
            told = start.read_tracking(run.folder) if run.folder.is_dir() else {}
            for name in trackers if run.folder.is_dir() else ():
                if name not in told or not told[name].complete:
                    start.failed_trackers(run.folder, name, said)
        raise  # for the traceback in this process's log


def _followed(run: Run, home: Path, trackers: Sequence[str], as_it_stands: bool) -> None:
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(run.folder / LOCK):  # the follower of an earlier turn may not have ended yet
        known = start.read_tracking(run.folder)
        going = [
            _Telling(replace(known.get(name, TrackerState(name)), complete=False, problem=""))
            for name in trackers
        ]
        while run.folder.is_dir() and not all(each.told.over for each in going):
            events = run.events()
            gone = run.gone(events)
            if gone and not as_it_stands and not has_ended(events) and owners.lives(run.owner(events)):
                gone = ""  # only silent: it may come back
            status = classify(events, gone)
            if status.final or any(event["type"] == "ready" for event in events):
                for each in going:
                    if not each.told.over:
                        _tell(each, run, home, events, status, gone)
                        if run.folder.is_dir():
                            start.write_tracking(run.folder, each.told)
            if not status.final:
                time.sleep(EVERY)


def _tell(each: _Telling, run: Run, home: Path, events: Sequence[Event], status: Status, gone: str) -> None:
    """Send one tracker the figures that it lacks; if that fails, record why."""
    try:
        if each.tracker is None:
            parameters = run_parameters(run.spec, events)
            each.tracker = OPENS[each.told.tracker](run.id, parameters, home, each.told.identity)
            found = each.tracker
            each.told = replace(each.told, address=found.address, identity=found.identity)
        sent = dict(each.told.sent)
        fresh = [point for point in run_points(events) if point.step > sent.get(point.name, -1)]
        if fresh:
            each.tracker.points(fresh)
            sent |= {point.name: point.step for point in fresh}
            each.told = replace(each.told, sent=sent)
        if status.final:
            if run.adapter.is_dir():
                each.tracker.folder(run.adapter)
            ending = next((event for event in events if event["type"] in _ENDINGS), {})
            each.tracker.end(status, str(ending.get("message", "")) or gone)
            each.told = replace(each.told, complete=True)
    except Exception as error:  # noqa: BLE001  whatever a tracker's library raises is told on the run, once
        each.tracker = None
        reason = in_short(error)
        each.told = replace(each.told, problem=reason if reason.endswith(".") else f"{reason}.")


if __name__ == "__main__":
    as_it_stands = sys.argv[1] == start.AS_IT_STANDS
    given = sys.argv[2:] if as_it_stands else sys.argv[1:]
    follow(Run(Path(given[0]).name, Path(given[0])), Path(given[1]), given[2:], as_it_stands)
