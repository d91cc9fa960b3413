"""What is chosen on the Sweeps page, and how its address says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.runs.spec import RunSpec
from peft_lab.studies.landscape import METRIC
from peft_lab.studies.sweeps import picture, store
from peft_lab.studies.sweeps.store import TRAINING
from peft_lab.ui import state
from peft_lab.ui.compare import landscape as shipped

SCOPE = "sweeps"
SWEEP, ACROSS, UP, LINES, HELD = "sweep", "x", "y", "lines", "held"
NOTHING = "none"
#: What the address says: each choice with its default.
SweepAddress = dict[str, tuple[Any, Any]]


def named_sweep(name: str) -> str:
    """What was varied, in a sentence."""
    return picture.title(name).lower() if name in picture.TITLES else name


def setting_titles(spec: RunSpec) -> dict[str, str]:
    """What the runs can be judged by, with its unit."""
    task = spec.task_object()
    return {**shipped.titles(task, task.metric), TRAINING: "Training loss of the last step, nats"}


def written_value(value: float, figure: str) -> str:
    return f"{value:.1%}" if figure == METRIC else f"{value:.3f}"


def sweep_readers() -> dict[str, Callable[[str], None]]:
    """What takes the choices out of the address; the sweep first, as the others depend on it."""
    return {
        SWEEP: _take_sweep,
        ACROSS: _taker(ACROSS),
        UP: _taker(UP),
        LINES: _taker(LINES),
        HELD: _take_held,
    }


def _take_sweep(text: str) -> None:
    known = [one.id for one in store.sweeps()]
    if text not in known:
        raise UnknownName("sweep", text[:80], known, SWEEP)
    state.remember(SCOPE, SWEEP, text)


def _shown() -> store.KeptSweep | None:
    """The sweep that the rest of the address is about."""
    kept = store.sweeps()
    wanted = state.remembered(SCOPE, SWEEP, kept[0].id if kept else "")
    return next((one for one in kept if one.id == wanted), None)


def _taker(name: str) -> Callable[[str], None]:
    def take(text: str) -> None:
        sweep = _shown()
        names = [] if sweep is None else store.varied(sweep.specs)
        known = {ACROSS: names, UP: [*store.FIGURES, *names], LINES: [NOTHING, *names]}[name]
        if sweep is None or text not in known:
            raise UnknownName("axis of this sweep", text[:40], known, name)
        state.remember(SCOPE, name, text, sweep.id)

    return take


def _take_held(text: str) -> None:
    sweep = _shown()
    if sweep is None:
        raise BadInput("There is no sweep whose settings could be held.", HELD)
    names = store.varied(sweep.specs)
    for part in text.split(";"):
        name, _, value = part.partition("=")
        if name not in names:
            raise UnknownName("setting of this sweep", name[:40], names, HELD)
        known = {
            state.as_text(each): each
            for each in dict.fromkeys(store.value_of(spec, name) for spec in sweep.specs)
        }
        if value not in known:
            raise UnknownName(f"value of {name}", value[:40], known, HELD)
        state.remember(SCOPE, f"held_{name}", known[value], sweep.id)


def held_as_text(held: Mapping[str, Any], order: Sequence[str]) -> str:
    """As the address has it.

    >>> held_as_text({"r": 8, "learning_rate": 0.003}, ["learning_rate", "r"])
    'learning_rate=0.003;r=8'
    """
    return ";".join(f"{name}={state.as_text(held[name])}" for name in order if name in held)
