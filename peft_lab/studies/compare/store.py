"""Comparisons on disk: one folder each under ``PEFT_LAB_HOME/comparisons``.

plan.json      what is compared               machines.json   where it ran, one entry for each different machine
owner.json     the process that carries it out, or the last one that did
stop           a request to stop              problem.json    the error that ended it early
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from peft_lab.classroom import places
from peft_lab.core import disk as storage
from peft_lab.core.errors import BadInput, RunError, UnreadableFile
from peft_lab.runs import owners, store
from peft_lab.runs.record import stands_for
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status, classify, has_ended
from peft_lab.studies.compare import plan
from peft_lab.studies.compare.plan import Cell, ComparisonPlan

# ----------------------------------------
# A comparison's runs in the run store, found by their spec: nothing else links them.


_specs: dict[Path, RunSpec] = {}  # a run's spec never changes
_ended: dict[Path, tuple[int, Status]] = {}  # with the run's stamp: a run that ended too early may go on


def runs_of_comparison(specs: Sequence[RunSpec]) -> list[Run | None]:
    """Return each spec's representative run: the earliest done one, else the newest, else ``None``."""
    chosen: list[Run | None] = [None] * len(specs)
    for run in store.runs():  # newest first
        spec = _spec(run)
        fitting = [n for n, wanted in enumerate(specs) if spec is not None and stands_for(spec, wanted)]
        for number in fitting:
            if chosen[number] is None or status_of_comparison(run) is Status.DONE:
                chosen[number] = run
    return chosen


def status_of_comparison(run: Run) -> Status:
    """Return the status as :meth:`Run.view` has it, cached for a run that has ended."""
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


_asked_here: set[Path] = set()


@dataclass(frozen=True)
class Standing:
    """Progress of a comparison.

    Attributes:
        runs: by cell; cells without a run are left out.
        pending: cells without a finished run. failed: those of them whose representative run failed.
        running: whether a living process carries it out.
    """

    runs: dict[Cell, Run]
    done: tuple[Cell, ...]
    failed: tuple[Cell, ...]
    pending: tuple[Cell, ...]
    running: bool

    @property
    def status(self) -> str:
        """Return ``running``, ``done``, ``incomplete`` (all runs that are not done failed) or ``interrupted``."""
        if self.running:
            return "running"
        if not self.pending:
            return "done"
        return "incomplete" if len(self.failed) == len(self.pending) else "interrupted"


@dataclass(frozen=True)
class Comparison:
    """One comparison's folder."""

    id: str
    folder: Path

    @property
    def plan(self) -> ComparisonPlan:
        """Return the plan. Raises RunError if the file is missing or cannot be read."""
        try:
            return ComparisonPlan.from_dict(storage.read_json(self.folder / "plan.json"))
        except (BadInput, UnreadableFile, ValueError, KeyError, TypeError) as error:
            raise RunError(f"The plan of the comparison '{self.id}' cannot be read ({error}).") from error

    @property
    def created(self) -> float:
        """Return when it was created, in seconds since 1970."""
        return (self.folder / "plan.json").stat().st_mtime

    @property
    def machines(self) -> list[dict[str, Any]]:
        """Return the descriptions of the different machines that it ran on, the first one first."""
        return [row for row in storage.read_json(self.folder / "machines.json", []) if isinstance(row, dict)]

    @property
    def problem(self) -> str:
        """Return the error that ended it early; empty without one."""
        return str(storage.read_json(self.folder / "problem.json", {}).get("message", ""))

    def note_problem(self, message: str) -> None:
        """Store the error that ended it early, if the disk can be written."""
        with suppress(OSError):
            storage.write_json(self.folder / "problem.json", {"message": message})

    def standing(self, plan: ComparisonPlan | None = None) -> Standing:
        """Return its progress, read from the run store now."""
        cells = (plan or self.plan).cells
        found = runs_of_comparison([cell.spec for cell in cells])
        runs = {cell: run for cell, run in zip(cells, found, strict=True) if run}
        status = {cell: status_of_comparison(run) for cell, run in runs.items()}
        done = tuple(cell for cell in cells if status.get(cell) is Status.DONE)
        failed = tuple(cell for cell in cells if status.get(cell) is Status.FAILED)
        pending = tuple(cell for cell in cells if cell not in done)
        return Standing(runs, done, failed, pending, self.running)

    # -- carrying out and stopping -------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Return whether a living process carries it out."""
        content = storage.read_json(self.folder / "owner.json", {})
        owner = owners.read(content)
        if owner is None or not content.get("at_work"):
            return False
        # On this host the process table tells; only a process on another host needs a heartbeat.
        heard = None if owners.here(owner) else owners.heard(self.folder / owners.BEAT)
        return not owners.gone(owner, heard)

    def beat(self) -> None:
        """Update this process's heartbeat; to be called every few seconds while it carries the comparison out."""
        owners.touch(self.folder)

    @contextmanager
    def claimed(self, machines: Sequence[Mapping[str, Any]] = ()) -> Iterator[None]:
        """Claim the comparison for this process within the context. Leaving it clears a request to stop.

        Args:
            machines: those that train for it, as :func:`~peft_lab.studies.compare.plan.describe_machine` returns
                them; this one by default.

        Raises:
            RunError: another process, or another thread of this one, has claimed it, or the disk cannot be written.
        """
        lock = FileLock(self.folder / ".lock", thread_local=False)
        try:
            with storage.writing(self.folder):
                lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"The comparison '{self.id}' is under way already, in the app or another command."
            ) from None
        me = owners.myself().to_dict()
        try:
            self.beat()
            with storage.writing(self.folder):
                storage.write_json(self.folder / "owner.json", {**me, "at_work": True})
                known = self.machines
                new = [dict(each) for each in machines or [plan.describe_machine()] if each not in known]
                if new:
                    storage.write_json(self.folder / "machines.json", [*known, *new])
            yield
        finally:
            _asked_here.discard(self.folder)
            try:
                # If neither can be written, the claim ends with this process.
                with suppress(OSError):
                    (self.folder / "stop").unlink(missing_ok=True)
                    storage.write_json(self.folder / "owner.json", {**me, "at_work": False})
            finally:
                lock.release()

    def begin_afresh(self) -> None:
        """Clear an earlier attempt's error and its request to stop, which a killed process never answered.
        To be called before carrying out; a later request to stop counts."""
        _asked_here.discard(self.folder)
        with storage.writing(self.folder):
            for name in ("stop", "problem.json"):
                (self.folder / name).unlink(missing_ok=True)

    def ask_to_stop(self) -> None:
        """Ask the process that carries it out to stop."""
        try:
            (self.folder / "stop").touch()
        except OSError:
            _asked_here.add(self.folder)  # this process, if it carries the comparison out, needs no file

    def asked_to_stop(self) -> bool:
        """Return whether anyone has asked it to stop."""
        return self.folder in _asked_here or (self.folder / "stop").exists()


def root() -> Path:
    """Return the folder of the current person's comparisons."""
    return places.mine() / "comparisons"


def keep(plan: ComparisonPlan) -> Comparison:
    """Return the comparison of a plan, created if there is none. Raises RunError if the disk cannot be written."""
    folder = root() / plan.id
    with storage.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "plan.json").exists():
            storage.write_json(folder / "plan.json", plan.to_dict())
    return Comparison(plan.id, folder)


def get(identity: str) -> Comparison:
    """Return a comparison by its id. Raises RunError if there is none."""
    folder = root() / identity
    if not storage.is_identity(identity) or not (folder / "plan.json").is_file():
        raise RunError(f"There is no comparison called '{identity[:200]}'.")
    return Comparison(identity, folder)


def comparisons() -> list[Comparison]:
    """Return all comparisons, newest first."""
    if not root().is_dir():
        return []
    found = [Comparison(path.parent.name, path.parent) for path in root().glob("*/plan.json")]
    return sorted(found, key=lambda one: one.created, reverse=True)


def delete(identity: str) -> None:
    """Delete a comparison; its runs stay in the run store.

    Raises:
        RunError: there is no such comparison, it is under way, or the disk cannot be written.
    """
    comparison = get(identity)
    if comparison.running:
        raise RunError(f"'{identity}' is under way; stop it first.")
    with storage.writing(comparison.folder):
        shutil.rmtree(comparison.folder)
