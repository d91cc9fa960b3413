"""Where a run goes on from: its state after some step, in one file of its folder.

``checkpoint-<step>-<bytes>.pt`` is the state after ``step`` updates; ``bytes`` of ``events.jsonl`` tell of them. It
holds the trained parameters in float32, the optimizer's state, the random generators' states, what the recorder has
noted, and the releases that made it. The order of the rows needs no place: it follows from the seed and the
step. The file is written beside its name, flushed to the disk and renamed, then older ones go: whenever the process is
killed, one whole state is there.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab import disk as storage
from peft_lab import machine
from peft_lab.errors import RunError
from peft_lab.runs.versions import versions

if TYPE_CHECKING:
    import torch

    from peft_lab.runs.store import Run
    from peft_lab.training.precision import Masters

EVERY = 10  # steps
#: Of the time since the first step, writing takes no more than this share: large states are kept less often.
SHARE = 0.05
_NAME = re.compile(r"checkpoint-(\d+)-(\d+)\.pt")
_SCRATCH = ".checkpoint.pt"
_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


@dataclass(frozen=True)
class Checkpoint:
    """A state on the disk.

    Attributes:
        step: updates that were made. offset: bytes of the events that tell of them.
    """

    path: Path
    step: int
    offset: int


def latest(folder: Path) -> Checkpoint | None:
    """The furthest state of a run; ``None`` where there is none, or its events are shorter than they were then."""
    with suppress(OSError):
        named = [(path, _NAME.fullmatch(path.name)) for path in folder.glob("checkpoint-*.pt")]
        found = [Checkpoint(path, int(name[1]), int(name[2])) for path, name in named if name]
        size = (folder / "events.jsonl").stat().st_size
        return max((each for each in found if each.offset <= size), key=lambda each: each.step, default=None)
    return None


def clear(folder: Path) -> None:
    """Remove what a run that is done does not need. What cannot be removed now goes with the run."""
    with suppress(OSError):
        for path in [*folder.glob("checkpoint-*.pt"), folder / _SCRATCH]:
            path.unlink(missing_ok=True)


@dataclass
class Keeper:
    """Keeps the state of a run while it trains, and puts it back.

    Attributes:
        noted: objects whose attributes are kept too, by name: plain values and tensors in lists and dicts. What they
            were made from (``model``, ``shape``, ``values``) is left out.
        beside: writes down what a run keeps in files of its own; called before each state is.
    """

    run: Run
    masters: Masters
    optimizer: torch.optim.Optimizer
    noted: dict[str, Any]
    beside: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._spent = self._last = 0.0

    def restore(self) -> int:
        """Put the latest state back, random generators included; how many steps it had made, 0 where there is none.

        Raises:
            RunError: it cannot be read, or was made by other releases of what computes.
        """
        import torch

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
            raise RunError(f"It was trained with {listed} and would go on with other figures: start it anew.")
        self.masters.load(state["trained"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, attributes in state["noted"].items():
            vars(self.noted[name]).update(attributes)
        _restore_random(state["random"])
        return kept.step

    def made(self, step: int) -> None:
        """Told of ``step`` updates: keep the state every :data:`EVERY` steps, as far as there is time for it."""
        allowed = SHARE * (time.monotonic() - self._began)
        if step % EVERY == 0 and (self._spent + self._last <= allowed or not self._spent):
            self.keep(step)

    def keep(self, step: int) -> None:
        """Write the state down. A disk that is full is no reason to end a run: then the state before stays."""
        before = time.monotonic()
        with suppress(OSError, RuntimeError):
            self.beside()
        with suppress(OSError, RuntimeError):  # torch tells of a full disk by a RuntimeError
            size = self._write(step)
            self._last = time.monotonic() - before
            self._spent += self._last
            self.run.log.emit("checkpoint", step=step, bytes=size, seconds=self._last)
        (self.run.folder / _SCRATCH).unlink(missing_ok=True)

    def _write(self, step: int) -> int:
        import torch

        folder = self.run.folder
        trained = self.masters.state()
        about = 4 * sum(tensor.nbytes for tensor in trained.values())
        if (storage.free(folder) or about) < about:
            raise OSError("the disk has no room for another state")
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
        with (folder / _SCRATCH).open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        older = list(folder.glob("checkpoint-*.pt"))
        target = folder / f"checkpoint-{step}-{offset}.pt"
        (folder / _SCRATCH).replace(target)
        for path in older:
            if path != target:
                path.unlink(missing_ok=True)
        return size


def _attributes(noted: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(noted).items() if name not in ("model", "shape", "values")}


def _made_by() -> dict[str, str]:
    found = versions()
    return {**{name: found[name] for name in _PACKAGES}, "device": machine.in_use().kind}


def _random() -> dict[str, Any]:
    """The states of all generators that :func:`peft_lab.runs.course.seed_everything` seeds."""
    import numpy as np
    import torch

    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "device": machine.in_use().random_states(),
        "python": random.getstate(),
        "numpy": (str(kind), [int(key) for key in keys], int(position), int(has_gauss), float(cached)),
    }


def _restore_random(state: dict[str, Any]) -> None:
    import numpy as np
    import torch

    torch.set_rng_state(state["torch"])
    machine.in_use().set_random_states(state["device"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), *rest))
