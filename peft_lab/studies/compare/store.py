"""Comparisons on disk: one folder each under ``PEFT_LAB_HOME/comparisons``.

plan.json      what is compared               machines.json   where it ran, one entry for each different machine
owner.json     the process that carries it out, or the last one that did
stop           someone asked it to stop       problem.json    why it ended early, if it was not asked to
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from peft_lab.classroom import places
from peft_lab.core import disk as storage
from peft_lab.core.errors import BadInput, RunError
from peft_lab.runs import owners, store
from peft_lab.runs.record import stands_for
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run, write_json
from peft_lab.runs.view import Status, classify, has_ended
from peft_lab.studies.compare import plan
from peft_lab.studies.compare.plan import Cell, ComparisonPlan

# ----------------------------------------
# A comparison's runs in the run store, found by what was trained: nothing but the spec ties them together.


_specs: dict[Path, RunSpec] = {}  # a run's spec never changes
_ended: dict[Path, tuple[int, Status]] = {}  # with its stamp: a run that ended too early may go on


def runs_of_comparison(specs: Sequence[RunSpec]) -> list[Run | None]:
    """For each spec the run that speaks for it: the first one that was done, else the newest, else ``None``."""
    chosen: list[Run | None] = [None] * len(specs)
    for run in store.runs():  # newest first
        spec = _spec(run)
        fitting = [n for n, wanted in enumerate(specs) if spec is not None and stands_for(spec, wanted)]
        for number in fitting:
            if chosen[number] is None or status_of_comparison(run) is Status.DONE:
                chosen[number] = run
    return chosen


def status_of_comparison(run: Run) -> Status:
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


_asked_here: set[Path] = set()
_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,199}")  # a longer one is the name of no file


@dataclass(frozen=True)
class Standing:
    """How far a comparison is.

    Attributes:
        runs: by cell; a cell without a run is left out.
        pending: cells without a finished run; failed: those of them whose latest run failed.
        running: whether a living process carries it out.
    """

    runs: dict[Cell, Run]
    done: tuple[Cell, ...]
    failed: tuple[Cell, ...]
    pending: tuple[Cell, ...]
    running: bool

    @property
    def status(self) -> str:
        """``running``, ``done`` (every run is), ``incomplete`` (some failed, none is left) or ``interrupted``."""
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
        """Raises RunError when the file is missing or cannot be read."""
        try:
            return ComparisonPlan.from_dict(json.loads((self.folder / "plan.json").read_text("utf-8")))
        except (BadInput, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise RunError(f"The plan of the comparison '{self.id}' cannot be read ({error}).") from error

    @property
    def created(self) -> float:
        """Seconds since 1970."""
        return (self.folder / "plan.json").stat().st_mtime

    @property
    def machines(self) -> list[dict[str, Any]]:
        """What is known of each different machine that it ran on, the first one first."""
        return [row for row in _read(self.folder / "machines.json", []) if isinstance(row, dict)]

    @property
    def problem(self) -> str:
        """Why carrying it out ended early, if nobody asked for that."""
        return str(_read(self.folder / "problem.json", {}).get("message", ""))

    def note_problem(self, message: str) -> None:
        """As far as the disk takes it."""
        with suppress(OSError):
            write_json(self.folder / "problem.json", {"message": message})

    def standing(self, plan: ComparisonPlan | None = None) -> Standing:
        """Read from the run store as it is now."""
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
        """Whether a living process carries it out."""
        content = _read(self.folder / "owner.json", {})
        owner = owners.read(content)
        if owner is None or not content.get("at_work"):
            return False
        # Here the process table knows; only another host has to be listened to.
        heard = None if owners.here(owner) else owners.heard(self.folder / owners.BEAT)
        return not owners.gone(owner, heard)

    def beat(self) -> None:
        """Say that this process still carries it out; to be called every few seconds while it does."""
        owners.touch(self.folder)

    @contextmanager
    def claimed(self, machines: Sequence[Mapping[str, Any]] = ()) -> Iterator[None]:
        """While this lasts, this process carries the comparison out. A request to stop is answered with its end.

        Args:
            machines: those that train for it, as :func:`peft_lab.studies.compare.plan.describe_machine` has them;
            this one by
                default.

        Raises:
            RunError: another process, or another thread of this one, does.
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
                write_json(self.folder / "owner.json", {**me, "at_work": True})
                known = self.machines
                new = [dict(each) for each in machines or [plan.describe_machine()] if each not in known]
                if new:
                    write_json(self.folder / "machines.json", [*known, *new])
            yield
        finally:
            _asked_here.discard(self.folder)
            try:
                # Where neither can be written, the end of this process ends its claim.
                with suppress(OSError):
                    (self.folder / "stop").unlink(missing_ok=True)
                    write_json(self.folder / "owner.json", {**me, "at_work": False})
            finally:
                lock.release()

    def begin_afresh(self) -> None:
        """Forget what an earlier attempt left: a request to stop that a killed process never answered, its problem.
        Before carrying out, by whoever wants it carried out: a request that comes later is meant."""
        _asked_here.discard(self.folder)
        with storage.writing(self.folder):
            for name in ("stop", "problem.json"):
                (self.folder / name).unlink(missing_ok=True)

    def ask_to_stop(self) -> None:
        """Asks whoever works on it to stop."""
        try:
            (self.folder / "stop").touch()
        except OSError:
            _asked_here.add(
                self.folder
            )  # if it is this process that works on it, it need not be told by a file

    def asked_to_stop(self) -> bool:
        """Whether anyone asked that it stops."""
        return self.folder in _asked_here or (self.folder / "stop").exists()


def root() -> Path:
    """The folder of all comparisons of who asks."""
    return places.mine() / "comparisons"


def keep(plan: ComparisonPlan) -> Comparison:
    """The comparison of that plan, made if there is none yet. Raises RunError where nothing can be written."""
    folder = root() / plan.id
    with storage.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "plan.json").exists():
            write_json(folder / "plan.json", plan.to_dict())
    return Comparison(plan.id, folder)


def get(identity: str) -> Comparison:
    """A comparison by its id. Raises RunError where there is none."""
    folder = root() / identity
    if not _ID.fullmatch(identity) or not (folder / "plan.json").is_file():
        raise RunError(f"There is no comparison called '{identity[:200]}'.")
    return Comparison(identity, folder)


def comparisons() -> list[Comparison]:
    """All of them, newest first."""
    if not root().is_dir():
        return []
    found = [Comparison(path.parent.name, path.parent) for path in root().glob("*/plan.json")]
    return sorted(found, key=lambda one: one.created, reverse=True)


def delete(identity: str) -> None:
    """Forget a comparison; its runs stay in the run store.

    Raises:
        RunError: no such comparison, or one that is under way.
    """
    comparison = get(identity)
    if comparison.running:
        raise RunError(f"'{identity}' is under way; stop it first.")
    with storage.writing(comparison.folder):
        shutil.rmtree(comparison.folder)


def _read(path: Path, absent: Any) -> Any:
    """A small file that is not there yet, or that may hold anything: then it says as little as none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return absent
    return content if isinstance(content, type(absent)) else absent
