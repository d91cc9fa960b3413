"""Store studies on disk: many runs under one plan, a folder for each study in the lab folder of its person.

The plan's file, ``plan.json`` of a comparison and ``sweep.json`` of a sweep, says what is to be run. Beside it lie

owner.json     the process that carries the study out, or the last one that did
machines.json  where it ran, one entry for each different machine
stop           a request to stop              problem.json    the error that ended it early

The runs are in the run store and are found by their specs: nothing else links them to a study.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from filelock import FileLock, Timeout

from peft_lab.classroom import places
from peft_lab.core import disk
from peft_lab.core.errors import BadInput, RunError
from peft_lab.runs import owners, store
from peft_lab.runs.record import stands_for
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status, classify, has_ended

_OWNER, _STOP, _PROBLEM, _MACHINES = "owner.json", "stop", "problem.json", "machines.json"
_told_to_stop: set[Path] = set()  # by this process, where the disk could not be written
_claimed: set[Path] = set()  # by this process
_heart = owners.Heart(lambda: list(_claimed))


@dataclass(frozen=True)
class Study:
    """The folder of one study."""

    id: str
    folder: Path
    NOUN: ClassVar[str]  # what this kind of study is called in a sentence
    FOLDER: ClassVar[str]  # of all of this kind, in the lab folder
    FILE: ClassVar[str]  # that holds the plan of one

    @property
    def specs(self) -> Sequence[RunSpec]:
        """Return the planned runs, in order. Raises RunError if the plan is missing or cannot be read."""
        raise NotImplementedError

    @classmethod
    def root(cls) -> Path:
        """Return the folder of the current person's studies of this kind."""
        return places.mine() / cls.FOLDER

    @classmethod
    def get(cls, identity: str) -> Self:
        """Return a study by its id. Raises RunError if there is none."""
        folder = cls.root() / identity
        if not disk.is_identity(identity) or not (folder / cls.FILE).is_file():
            raise RunError(f"There is no {cls.NOUN} called '{identity[:200]}'.")
        return cls(identity, folder)

    @classmethod
    def stored(cls) -> list[Self]:
        """Return the current person's studies of this kind, newest first."""
        studies = [cls(path.parent.name, path.parent) for path in cls.root().glob(f"*/{cls.FILE}")]
        return sorted(
            (one for one in studies if disk.is_identity(one.id)), key=lambda one: one.created, reverse=True
        )

    @classmethod
    def create(cls, identity: str, plan: Mapping[str, Any]) -> Self:
        """Return the study of that id, created with this plan if there is none. Raises RunError if the disk cannot be
        written."""
        study = cls(identity, cls.root() / identity)
        with disk.writing(study.folder):
            study.folder.mkdir(parents=True, exist_ok=True)
            if not (study.folder / cls.FILE).exists():
                disk.write_json(study.folder / cls.FILE, plan)
        return study

    @classmethod
    def delete(cls, identity: str) -> None:
        """Delete a study; its runs stay in the run store. Raises RunError if there is no such study, it is under way,
        or the disk cannot be written."""
        study = cls.get(identity)
        if study.running:
            raise RunError(f"'{identity}' has not ended. Stop it first.")
        with disk.writing(study.folder):
            shutil.rmtree(study.folder)

    def content(self) -> Any:
        """Return the plan's file as JSON. Raises UnreadableFile."""
        return disk.read_json(self.folder / self.FILE)

    def unreadable(self, error: Exception) -> RunError:
        """Return the error that says why the plan cannot be read."""
        return RunError(f"The {self.NOUN} '{self.id}' cannot be read ({error}).")

    @property
    def created(self) -> float:
        """Return when it was created, in seconds since 1970; 0 if it is gone."""
        try:
            return (self.folder / self.FILE).stat().st_mtime
        except OSError:
            return 0.0

    @property
    def machines(self) -> list[dict[str, Any]]:
        """Return the descriptions of the different machines that it ran on, the first one first."""
        return [row for row in disk.read_json(self.folder / _MACHINES, []) if isinstance(row, dict)]

    @property
    def problem(self) -> str:
        """Return the error that ended it early; empty without one."""
        return str(disk.read_json(self.folder / _PROBLEM, {}).get("message", ""))

    def note_problem(self, message: str) -> None:
        """Store the error that ended it early, if the disk can be written."""
        with suppress(OSError):
            disk.write_json(self.folder / _PROBLEM, {"message": message})

    @property
    def running(self) -> bool:
        """Return whether a living process carries it out."""
        content = disk.read_json(self.folder / _OWNER, {})
        owner = owners.read(content)
        if owner is None or not content.get("at_work"):
            return False
        # On this host the process table tells; only a process on another host needs a heartbeat.
        return not owners.gone(owner, None if owners.here(owner) else owners.heard(self.folder / owners.BEAT))

    @contextmanager
    def claimed(self, machines: Sequence[Mapping[str, Any]] = ()) -> Iterator[None]:
        """Claim the study for this process within the context. Leaving it clears a request to stop.

        Args:
            machines: those that train for it, as :func:`peft_lab.core.machine.describe_machine` returns them; they are
                added to the ones that are known.

        Raises:
            RunError: another process, or another thread of this one, has claimed it, or the disk cannot be written.
        """
        lock = FileLock(self.folder / ".lock", thread_local=False)
        try:
            with disk.writing(self.folder):
                lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"The {self.NOUN} '{self.id}' is already running in the app or another command. Wait for it, or stop "
                "it there."
            ) from None
        me = owners.myself().to_dict()
        try:
            owners.touch(self.folder)
            with disk.writing(self.folder):
                disk.write_json(self.folder / _OWNER, {**me, "at_work": True})
                known = self.machines
                new = [dict(row) for row in machines if row not in known]
                if new:
                    disk.write_json(self.folder / _MACHINES, [*known, *new])
            _claimed.add(self.folder)
            _heart.start()
            yield
        finally:
            _claimed.discard(self.folder)
            _told_to_stop.discard(self.folder)
            try:
                # If neither can be written, the claim ends with this process.
                with suppress(OSError):
                    (self.folder / _STOP).unlink(missing_ok=True)
                    disk.write_json(self.folder / _OWNER, {**me, "at_work": False})
            finally:
                lock.release()

    def begin_afresh(self) -> None:
        """Clear an earlier attempt's error and its request to stop, which a killed process never answered.
        Call it before carrying out the study; a later request to stop counts.
        """
        _told_to_stop.discard(self.folder)
        with disk.writing(self.folder):
            for name in (_STOP, _PROBLEM):
                (self.folder / name).unlink(missing_ok=True)

    def ask_to_stop(self) -> None:
        """Ask the process that carries it out to stop."""
        try:
            (self.folder / _STOP).touch()
        except OSError:
            _told_to_stop.add(self.folder)  # this process, if it carries the study out, needs no file

    def asked_to_stop(self) -> bool:
        """Return whether anyone has asked it to stop."""
        return self.folder in _told_to_stop or (self.folder / _STOP).exists()


def identity(model: str, task: str, content: Any) -> str:
    """Return a study's id, which is equal for equal content."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
    name = re.sub(r"[^a-z0-9]+", "-", Path(model).name.lower()).strip("-") or "model"
    return f"{name[:60]}-{task}-{digest}"


# ----------------------------------------
# The runs of planned specs in the run store.


def command_line(name: str, options: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Return a command of the lab with these options, its knobs' ``values`` by ``--set``; lists with commas."""
    words = ["python", "-m", "peft_lab", name]
    given = [(f"--{option}", value, "") for option, value in options.items()]
    for option, value, start in (*given, *(("--set", value, f"{knob}=") for knob, value in values.items())):
        listed = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
        words += [option, f"{start}{listed}"]
    return shlex.join(words)


_specs: dict[Path, RunSpec] = {}  # a run's spec never changes
_ended: dict[Path, tuple[int, Status]] = {}  # with the run's stamp: a run that ended too early may go on


def runs_of(specs: Sequence[RunSpec]) -> list[Run | None]:
    """Return each spec's representative run: the earliest done one, else the newest, else ``None``."""
    chosen: list[Run | None] = [None] * len(specs)
    for run in store.runs():  # newest first
        spec = _spec(run)
        fitting = [n for n, wanted in enumerate(specs) if spec is not None and stands_for(spec, wanted)]
        for number in fitting:
            if chosen[number] is None or status_of(run) is Status.DONE:
                chosen[number] = run
    return chosen


def status_of(run: Run) -> Status:
    """Return the status that :meth:`Run.view` reports, cached once the run has ended."""
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
