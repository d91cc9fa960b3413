"""Write checkpoints of a run: its state after some step, in one file of its folder, from which it can be resumed.

``checkpoint-<step>-<bytes>.pt`` is the state after ``step`` updates, which the first ``bytes`` of
``events.jsonl`` cover. It holds the trained parameters in float32, the optimizer's state, the random
generators' states, what the recorder has collected, and the package versions. The order of the rows is not
stored: it follows from the seed and the step. The file is written under another name, flushed to the disk and
renamed, and only then are older ones removed: whenever the process is killed, one complete state is there.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peft_lab.core import disk as storage
from peft_lab.core import machine
from peft_lab.core.errors import BadInput, RunError
from peft_lab.core.later import torch
from peft_lab.runs import events, kept, owners, store, waiting
from peft_lab.runs.owners import Owner
from peft_lab.runs.record import versions
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.training.step import Masters

EVERY = 10  # steps
#: Largest share of the time since the first step that saving may take: large states are saved less often.
SHARE = 0.05
_NAME = re.compile(r"checkpoint-(\d+)-(\d+)\.pt")
_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


@dataclass(frozen=True)
class Checkpoint:
    """A state on the disk. ``step``: updates made. ``offset``: length in bytes of the events up to them."""

    path: Path
    step: int
    offset: int


def latest(folder: Path) -> Checkpoint | None:
    """Return a run's latest checkpoint that its events reach to; ``None`` without one."""
    with suppress(OSError):
        named = [(path, _NAME.fullmatch(path.name)) for path in folder.glob("checkpoint-*.pt")]
        found = [Checkpoint(path, int(name[1]), int(name[2])) for path, name in named if name]
        size = (folder / "events.jsonl").stat().st_size
        return max((each for each in found if each.offset <= size), key=lambda each: each.step, default=None)
    return None


def clear(folder: Path) -> None:
    """Remove the checkpoints of a finished run. What cannot be removed now is deleted with the run."""
    with suppress(OSError):
        for path in [*folder.glob("checkpoint-*.pt"), *folder.glob(".checkpoint*")]:
            path.unlink(missing_ok=True)


@dataclass
class Keeper:
    """Saves and restores the state of a run while it trains. ``noted``: objects whose attributes that start with ``_``
    are saved too, by name: plain values and tensors in lists and dicts. ``beside``: called before each save; writes
    what a run keeps in files of its own."""

    run: Run
    masters: Masters
    optimizer: torch.optim.Optimizer
    noted: dict[str, Any]
    beside: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._spent = self._last = 0.0

    def restore(self) -> int:
        """Restore the latest state, random generators included; return its number of steps, 0 without one. Raises
        RunError if it cannot be read or was made by other versions."""
        kept = latest(self.run.folder)
        if kept is None:
            return 0
        try:
            state = torch.load(kept.path, weights_only=True)
        except Exception as error:
            raise RunError(f"{kept.path.name} of '{self.run.id}' cannot be read ({error}).") from error
        here = _made_by()
        if state["made_by"] != here:
            other = {name: version for name, version in state["made_by"].items() if here.get(name) != version}
            listed = ", ".join(f"{name} {version} (here {here.get(name)})" for name, version in other.items())
            raise RunError(f"The run used {listed}, so its figures would differ. Start a new run.")
        self.masters.load(state["trained"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, attributes in state["noted"].items():
            vars(self.noted[name]).update(attributes)
        _restore_random(state["random"])
        return kept.step

    def made(self, step: int) -> None:
        """Save the state every :data:`EVERY` steps, as far as :data:`SHARE` allows the time."""
        allowed = SHARE * (time.monotonic() - self._began)
        if step % EVERY == 0 and (self._spent + self._last <= allowed or not self._spent):
            self.keep(step)

    def keep(self, step: int) -> None:
        """Save the state. If the disk is full, the run continues and the earlier state stays."""
        before = time.monotonic()
        with suppress(OSError, RuntimeError):
            self.beside()
        with suppress(OSError, RuntimeError):  # torch reports a full disk as a RuntimeError
            size = self._write(step)
            self._last = time.monotonic() - before
            self._spent += self._last
            self.run.log.emit("checkpoint", step=step, bytes=size, seconds=self._last)

    def _write(self, step: int) -> int:
        folder = self.run.folder
        trained = self.masters.state()
        about = 4 * sum(tensor.nbytes for tensor in trained.values())
        if (storage.free(folder) or about) < about:
            raise OSError("the disk has no room for another checkpoint")
        state = {
            "made_by": _made_by(),
            "trained": trained,
            "optimizer": self.optimizer.state_dict(),
            "noted": {name: _attributes(each) for name, each in self.noted.items()},
            "random": _random(),
        }
        events = folder / "events.jsonl"
        with events.open("rb") as file:
            os.fsync(file.fileno())
            offset = os.fstat(file.fileno()).st_size
        older = list(folder.glob("checkpoint-*.pt"))
        target = folder / f"checkpoint-{step}-{offset}.pt"
        with storage.replacing(target) as scratch, scratch.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        for path in older:
            if path != target:
                path.unlink(missing_ok=True)
        return size


def _attributes(noted: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(noted).items() if name.startswith("_")}


def _made_by() -> dict[str, str]:
    found = versions()
    return {**{name: found[name] for name in _PACKAGES}, "device": machine.in_use().kind}


def _random() -> dict[str, Any]:
    """Return the states of all generators that :func:`peft_lab.runs.course.seed_everything` seeds."""
    import numpy as np

    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "device": machine.in_use().random_states(),
        "python": random.getstate(),
        "numpy": (str(kind), [int(key) for key in keys], int(position), int(has_gauss), float(cached)),
    }


def _restore_random(state: dict[str, Any]) -> None:
    import numpy as np

    torch.set_rng_state(state["torch"])
    machine.in_use().set_random_states(state["device"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), *rest))


# ----------------------------------------
# Early ending by a sweep: its decisions about a run, in a file of the run's folder.
#
# rungs.json    sweep, and rungs [{step, loss, goes_on}] in the order of decision; once ``goes_on`` is false, the run
# ends after its current step. Unlike a person's Stop, it never ends an evaluation.


EARLY_FILE = "rungs.json"


@dataclass(frozen=True)
class Rung:
    """A sweep's decision after ``step`` updates: the ``loss`` it judged by, and whether the run continues."""

    step: int
    loss: float
    goes_on: bool


@dataclass(frozen=True)
class Verdicts:
    """All decisions of one sweep about a run."""

    sweep: str
    rungs: tuple[Rung, ...]

    @property
    def ended_by(self) -> Rung | None:
        return next((rung for rung in self.rungs if not rung.goes_on), None)


def note_ending(run: Run, verdicts: Verdicts) -> None:
    """Write the decisions to the run's folder. Raises OSError."""
    storage.write_json(
        run.folder / EARLY_FILE, {"sweep": verdicts.sweep, "rungs": [asdict(rung) for rung in verdicts.rungs]}
    )


def read_early(run: Run) -> Verdicts | None:
    """Return the decisions about a run; ``None`` if there are none or they cannot be read."""
    if not (run.folder / EARLY_FILE).exists():
        return None
    try:
        content = kept.read_json(run.folder, EARLY_FILE)
        rungs = tuple(Rung(int(e["step"]), float(e["loss"]), bool(e["goes_on"])) for e in content["rungs"])
        return Verdicts(str(content["sweep"]), rungs)
    except (RunError, KeyError, TypeError, ValueError):
        return None


def ended_by(run: Run) -> Rung | None:
    """Return the decision that ends the run, or has ended it."""
    verdicts = read_early(run)
    return None if verdicts is None else verdicts.ended_by


def told_to_end(rung: Rung, taken: int, steps: int) -> str:
    """Return how the run ended, in one sentence."""
    return (
        f"Ended early by its sweep (ASHA, rung at step {rung.step}) after {taken} of {steps} steps; the adapter was "
        "saved."
    )


# ----------------------------------------
# Resuming a run that ended too early: whether it can be resumed, and how its folder is reopened.


def step_of(run: Run) -> int | None:
    """Return the step to resume a run from; ``None`` if it has not ended, is done, or has no checkpoint."""
    try:
        status = run.status()
    except RunError:
        return None
    if not status.final or status is Status.DONE:
        return None
    found = latest(run.folder)
    return None if found is None else found.step


def words_of_a_stop(run: Run) -> str:
    """Return what is left of a run that was stopped within a step, and why it was stopped if known."""
    found = latest(run.folder)
    left = "Nothing was saved." if found is None else f"It can continue from step {found.step}."
    return f"Stopped during a step. {left} {run.why_stopped()}".strip()


def require_to_go_on(run: Run, anew: bool = False) -> None:
    """Check that a run can be resumed, or with ``anew`` started again. Raises BadInput."""
    status = run.status()
    if status is Status.DONE:
        raise BadInput(f"'{run.id}' is done, so it cannot be continued.", "run")
    if not status.final:
        raise BadInput(f"'{run.id}' has not ended: it is {status}.", "run")
    if store.is_adopted(run):  # never load a checkpoint from a folder outside the lab
        raise BadInput(f"'{run.id}' was started outside PEFT Lab. Continue it with its script.", "run")
    if latest(run.folder) is None and not anew:
        raise BadInput(
            f"'{run.id}' has no checkpoint (one is saved every {EVERY} steps). Start a new run.",
            "run",
        )


def asked_to_go_on(run: Run) -> float:
    """Return the turn that an engine was asked for, however often the run was :func:`taken_over` since."""
    queued = events.latest(run.events(), "queued") or {}
    return float(queued.get("asked") or queued.get("time", 0.0))


def taken_over(run: Run, why: str) -> float:
    """Reset a run whose process was lost, while its owner lives, to its latest state; return its new turn. A Stop or an
    early ending that its owner asked for stays in force. Raises BadInput, RunError, OSError."""
    queued = events.latest(run.events(), "queued") or {}
    owner = owners.read(queued.get("owner"))
    if owner is None:
        raise RunError(f"'{run.id}' names no owner, so it cannot be continued.")
    with waiting.reopening(run):
        if run.status().final:
            raise BadInput(f"'{run.id}' has ended: {run.status()}.", "run")
        run.log.emit("lost", message=why)
        _put_back(run, owner, str(queued.get("carrier") or ""), asked=asked_to_go_on(run))
    return waiting.turn_number(run)


def reopen(run: Run, owner: Owner, anew: bool = False, carrier: str = "") -> None:
    """Cut a run's events back to its latest state, or with ``anew`` to none, and queue it for ``owner``, in one step.
    Raises BadInput as :func:`require_to_go_on`, RunError if its process is still there, OSError."""
    require_to_go_on(run, anew)
    with waiting.reopening(run):
        require_to_go_on(run, anew)  # its status may have changed before the lock was held
        (run.folder / store.STOP).unlink(missing_ok=True)
        if ended_by(run) is not None:  # a sweep's decision, which would end it again
            (run.folder / EARLY_FILE).unlink(missing_ok=True)
        _put_back(run, owner, carrier)


def _put_back(run: Run, owner: Owner, carrier: str, **more: float) -> None:
    found = latest(run.folder)
    offset, step = (found.offset, found.step) if found else (0, 0)
    # The record holds hashes of files that are about to change.
    (run.folder / kept.RECORD).unlink(missing_ok=True)
    queued = {"type": "queued", "owner": owner.to_dict(), "continued": step, **store.carried(carrier), **more}
    # If a run was taken for lost and trained on, its ending comes before the checkpoint.
    endings = frozenset(str(status) for status in Status if status.final)
    events.cut(run.log.path, offset, queued, without=endings)
