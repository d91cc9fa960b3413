"""Store runs on disk: one folder each under ``PEFT_LAB_HOME/runs``, readable by a person and without this package.

spec.json       what is trained               events.jsonl   everything that happened (events.py)
record.json     the figures at the end        adapter/       the trained adapter in PEFT's format
insight.json, insight.npz   data for the method's own picture        worker.log   what the process printed
start.zip           the adapter it started from, as the adapters library saved it
trajectory.json     its recorded states, rewritten while it trains (peft_lab.drawing.trajectory.format)
checkpoint-*.pt   where it resumes if it ends too early (checkpoints.py)
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from peft_lab.classroom import places
from peft_lab.core import disk as storage
from peft_lab.core.errors import BadInput, PeftLabError, RunError
from peft_lab.drawing.trajectory.format import Trajectory
from peft_lab.methods import all_methods
from peft_lab.runs import kept, owners
from peft_lab.runs.events import FOLLOWED, Event, EventLog, latest, read_events
from peft_lab.runs.owners import Owner
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import DAMAGED, RunSummary, RunView, Status, Viewer, classify

STOP = "stop"


@dataclass(frozen=True)
class Run:
    """One run's folder, and how to read it."""

    id: str
    folder: Path

    @property
    def spec(self) -> RunSpec:
        """Return the spec. Raises RunError if its file is missing or unreadable, BadInput for wrong fields."""
        return RunSpec.from_dict(kept.read_json(self.folder, "spec.json"))

    @property
    def log(self) -> EventLog:
        return EventLog(self.folder / "events.jsonl")

    def events(self) -> tuple[Event, ...]:
        """Return the events so far; none is read twice. Raises RunError if the file cannot be read."""
        try:
            return read_events(self.folder / "events.jsonl")
        except OSError as error:
            raise RunError(f"events.jsonl of '{self.id}' cannot be read ({error}).") from error

    def view(self) -> RunView:
        """Return the current view, the same object if nothing happened. Raises RunError or BadInput."""
        events = self.events()
        return _viewer(self.folder).view(events, self.spec.steps, self.gone(events))

    def stamp(self) -> int:
        """Return a number that changes if an ended run is resumed, which outdates what was read before."""
        try:
            return (self.folder / "events.jsonl").stat().st_ino
        except OSError:
            return 0

    def status(self) -> Status:
        """Return the run's status; its spec is not read. Raises RunError if its events cannot be read."""
        events = self.events()
        return classify(events, self.gone(events))

    def ended(self) -> Status | None:
        """Return the run's final status, read only once; ``None`` before. Raises RunError."""
        stamp, known = self.stamp(), _ended.get(self.folder)
        if known is not None and known[0] == stamp:
            return known[1]
        status = classify(self.events(), gone="")
        if not status.final:
            return None
        _ended[self.folder] = stamp, status
        return status

    def gone(self, events: Sequence[Event]) -> str:
        """Return why the process that holds the run is assumed gone, in one sentence; empty while it lives. If its app
        ends, the run's child still saves what it has: until then the child holds the run."""
        queue, worker = _owner(events, "queued"), _owner(events, "worker")
        beat = owners.heard(self.folder / owners.BEAT)
        if queue is None or not owners.here(queue):
            beat = owners.heard(self.folder / owners.BEAT, self.folder / "events.jsonl")
        reason = owners.gone(queue, beat)
        return "" if reason and (owners.held_here(queue, self.folder) or owners.lives(worker)) else reason

    def owner(self, events: Sequence[Event]) -> Owner | None:
        """Return the process whose queue holds the run; ``None`` if its file names none."""
        return _owner(events, "queued")

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    def record(self) -> dict[str, Any]:
        """Return the figures of an ended run, ``{}`` before (see record.py). Raises RunError if damaged."""
        return kept.kept_record(self.folder)

    def insight(self) -> dict[str, Any]:
        """Return the data of the method's own picture; see :func:`peft_lab.runs.kept.kept_insight`."""
        return kept.kept_insight(self.folder)

    def arrays(self) -> dict[str, Any]:
        """Return the numpy arrays beside :meth:`insight`; see :func:`peft_lab.runs.kept.kept_arrays`."""
        return kept.kept_arrays(self.folder)

    def trajectory(self) -> Trajectory | None:
        """Return the run's recorded states; see :func:`peft_lab.runs.kept.kept_trajectory`."""
        return kept.kept_trajectory(self.folder)

    # -- stopping: a file, so that any process may ask -----------------------------------------------------------

    def ask_to_stop(self, why: str = "") -> None:
        """Ask the run to stop, with ``why`` in its final message. Raises RunError (outside the lab), OSError."""
        if self.folder.is_symlink():
            raise RunError(f"'{self.id}' was started outside PEFT Lab. Stop it there.")
        (self.folder / STOP).write_text(why, "utf-8")

    def asked_to_stop(self) -> bool:
        return (self.folder / STOP).exists()

    def why_stopped(self) -> str:
        """Return the sentence that it was asked to stop with; empty without one."""
        return (self.folder / STOP).read_text("utf-8") if self.asked_to_stop() else ""


_ended: dict[
    Path, tuple[int, Status]
] = {}  # of ended runs, with their stamp, which changes if they are resumed
_viewer = lru_cache(maxsize=FOLLOWED)(lambda folder: Viewer())


def _owner(events: Sequence[Event], kind: str) -> Owner | None:
    """Return the owner in the latest event of that type: a resumed run has another."""
    return owners.read((latest(events, kind) or {}).get("owner"))


FOLDER = "runs"


def root() -> Path:
    """Return the folder of all runs of the current person."""
    return places.mine() / FOLDER


def carried(carrier: str) -> dict[str, str]:
    """Return the field of ``queued`` that names a run's engine; empty for this machine's own queue."""
    return {"carrier": carrier} if carrier else {}


def create(spec: RunSpec, owner: Owner | None = None, carrier: str = "") -> Run:
    """Create a run's folder with its spec, and its first event if an ``owner`` queues it; all or nothing. ``carrier``:
    the engine that carries it out, such as ``ray``. Raises RunError, BadInput."""
    made = root() / f".new-{secrets.token_hex(4)}"
    try:
        made.mkdir(parents=True)
        while (place := root() / new_name(spec.method, spec.model, spec.task)).exists():
            continue
        run = Run(place.name, place)
        spec = kept.copy_given(spec, made, run.folder)
        storage.write_json(made / "spec.json", spec.to_dict())
        if owner is not None:
            EventLog(made / "events.jsonl").emit("queued", owner=owner.to_dict(), **carried(carrier))
        made.rename(run.folder)  # in one step, so that no half-written run is ever listed
    except (OSError, PeftLabError) as error:
        shutil.rmtree(made, ignore_errors=True)
        if isinstance(error, PeftLabError):
            raise
        explained = storage.explained(error, root()) or f"The run could not be saved in {root()} ({error})."
        raise RunError(explained) from error
    return run


def new_name(method: str, model: str, *more: str) -> str:
    """Return a new run's id: the time, the method, the first word of the model's name, and ``more``."""
    word = re.sub(r"[^a-z0-9]+", "-", Path(model).name.lower()).strip("-").split("-")[0] or "model"
    return "-".join((time.strftime("%Y%m%d-%H%M%S"), method, word, *more, secrets.token_hex(2)))


def get(identity: str) -> Run:
    """Return the run with this id. Raises RunError (there is none)."""
    folder = root() / identity
    if not storage.is_identity(identity) or not folder.is_dir():
        raise RunError(f"There is no run called '{identity[:200]}'.")
    return Run(identity, folder)


def runs() -> list[Run]:
    """Return all runs of the current person, newest first, unreadable ones included. Raises RunError."""
    return _runs_in(root())


def everyones() -> list[Run]:
    """Return the runs of all owners, for the queue. Raises as :func:`runs`."""
    found = [run for place in places.everyones() for run in _runs_in(place / FOLDER)]
    for folder in _ended.keys() - {run.folder for run in found}:
        _ended.pop(folder, None)
    return found


def _runs_in(top: Path) -> list[Run]:
    try:
        if not top.is_dir():
            return []
        folders = [path for path in top.iterdir() if path.is_dir() and storage.is_identity(path.name)]
    except OSError as error:
        raise RunError(f"The runs in {top} cannot be listed ({error.strerror or error}).") from error
    return [Run(path.name, path) for path in sorted(folders, key=lambda path: path.name, reverse=True)]


def summaries() -> list[RunSummary]:
    """Return the list of runs, newest first. An unreadable folder is listed as damaged, with the reason."""
    return [summary(run) for run in runs()]


def summary(run: Run) -> RunSummary:
    """Return one line of the list of runs; never raises, whatever the folder contains."""
    try:
        spec = run.spec
        seen = run.view()
        scored = seen.before or seen.after
        # a run outside the lab may have no score by its metrics, and too many rows to be read here
        metric = "" if run.folder.is_symlink() and not scored else spec.task_object().metric
        run.record()
        run.insight()  # the adapter, which may be large, is not hashed for a list
    except PeftLabError as error:
        return RunSummary(run.id, DAMAGED, _created(run), problem=str(error))
    before, after = (which.metrics.get(metric) if which else None for which in (seen.before, seen.after))
    return RunSummary(
        id=run.id,
        status=str(seen.status),
        created=seen.started or _created(run),
        model=spec.model,
        method=spec.method,
        task=spec.task,
        steps=spec.steps,
        seed=spec.seed,
        metric=metric,
        metric_title=metric.replace("_", " ").capitalize(),
        before=before,
        after=after,
        peak_bytes=seen.memory.get("peak_bytes"),
        trainable=seen.ready.get("trainable"),
        seconds=seen.took,
        spec=spec,
        problem=seen.message if seen.status in (Status.FAILED, Status.LOST) else "",
        kept=kept.kept_forecasts(run.events(), seen.took if seen.status is Status.DONE else None),
    )


def _created(run: Run) -> float:
    try:
        return run.folder.stat().st_mtime
    except OSError:
        return 0.0  # deleted just now


def delete(identity: str) -> None:
    """Remove a run and everything in it. Raises RunError (it has not ended, or the disk)."""
    remove(get(identity))


def remove(run: Run) -> None:
    """Do :func:`delete` for a :class:`Run` instead of an id."""
    identity, line = run.id, summary(run)
    if line.status != DAMAGED and not Status(line.status).final:
        raise RunError(f"'{identity}' has not ended. Stop it first.")
    # Moved away in one step, so that no half-deleted run is ever listed.
    trash = run.folder.parent / f".deleted-{secrets.token_hex(4)}"
    try:
        trash.mkdir()
        run.folder.replace(trash / identity)
        shutil.rmtree(trash)
    except OSError as error:
        shutil.rmtree(trash, ignore_errors=True)  # somebody else deleted it just now, or still wrote into it
        explained = (
            storage.explained(error, run.folder.parent)
            or f"'{identity}' cannot be deleted ({error.strerror or error})."
        )
        raise RunError(explained) from error


# ----------------------------------------
# The browser that started a run, stored in the run's folder, so that a reopened page finds its own run.


STARTER_FILE = "started_by.json"


def note_starter(run: Run, mark: str) -> None:
    """Record the mark of the browser that started the run. A failure to write it is ignored."""
    with suppress(OSError):
        storage.write_json(run.folder / STARTER_FILE, {"browser": mark})


def started_by(run: Run) -> str | None:
    """Return the mark of the browser that started the run; ``None`` if there is none or it is damaged."""
    mark = storage.read_json(run.folder / STARTER_FILE, {}).get("browser")
    return mark if isinstance(mark, str) else None


# Such a run is a link in the run store to the folder where the script writes its events
# (:mod:`peft_lab.takeaway.ranks`). The lab follows it there; deleting the run removes only the link.


def adopt(folder: Path) -> Run:
    """Add a folder with a run, ended or not, to the run store. Raises BadInput, RunError."""
    folder = storage.folder(folder, "adopt")
    told = Run(folder.name, folder)
    if not (folder / "spec.json").is_file() or not (folder / "events.jsonl").is_file():
        raise BadInput(
            f"{folder} contains no run. To make a plan's script write its run there, set PEFT_LAB_RUN={folder}.",
            "adopt",
        )
    try:
        spec = told.spec
        told.view()
    except PeftLabError as error:
        raise BadInput(f"{folder} contains no run that can be read: {error}", "adopt") from error
    if spec.method not in all_methods():
        raise BadInput(f"{folder} is a run of '{spec.method}', which PEFT Lab does not have.", "adopt")
    known = next((run for run in runs() if run.folder.resolve() == folder), None)
    if known is not None:
        raise BadInput(f"{folder} is already the run {known.id}.", "adopt")
    identity = new_name(spec.method, spec.model)
    try:
        root().mkdir(parents=True, exist_ok=True)
        (root() / identity).symlink_to(folder, target_is_directory=True)
    except OSError as error:
        raise RunError(
            storage.explained(error, root())
            or f"The run cannot be added to {root()} ({error.strerror or error})."
        ) from error
    return get(identity)


def is_adopted(run: Run) -> bool:
    """Return whether the run's folder here is only a link to a folder elsewhere."""
    return run.folder.is_symlink()
