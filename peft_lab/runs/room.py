"""Before a run starts: is there room on the disk for what it will write?

The adapter is known from the formula of the method, events from the steps and the rows; what the method's picture takes
is bounded by what pictures of all methods took (``tests/runs/test_room.py`` holds it above real runs).
"""

from __future__ import annotations

from pathlib import Path

from peft_lab import disk as storage
from peft_lab import units
from peft_lab.errors import RunError
from peft_lab.methods import get_method
from peft_lab.models.shapes import CLASSIFIERS
from peft_lab.runs import store
from peft_lab.runs.spec import RunSpec, entry_of
from peft_lab.tasks.pictures import MAX_BYTES, MAX_LABELS

#: Left alone beside what a run needs: the end of other runs, a learner's answers, the system.
RESERVE = 16 * 2**20
_WORD = 4  # bytes of a number as adapters are stored at most
_STEP = 260  # bytes of a step's event
_EVALUATION = 400  # progress events of one evaluation; each takes _LINE
_LINE = 140
_ONCE = 256 * 2**10  # the tracked step's timeline, probes, record, configuration, the library's messages
_PICTURE = 12 * 2**20


def require(spec: RunSpec) -> None:
    """Let a checked spec pass, or refuse it. Raises RunError: there is too little room on the disk."""
    problem = refusal(spec)
    if problem is not None:
        raise RunError(problem)


def refusal(spec: RunSpec) -> str | None:
    """Why there is too little room on the disk for a checked spec, in one sentence; ``None`` where there is enough."""
    free, needed = storage.free(store.root()), needed_bytes(spec) + RESERVE
    if free is None or free >= needed:
        return None
    needs, there = units.unlike(needed, free)
    return (
        f"The disk is too full for this run: it needs {needs}, reserve included, and "
        f"{there} are free where runs are kept ({store.root()}). Delete runs that you no longer need."
    )


def needed_bytes(spec: RunSpec) -> int:
    """Bytes that a checked spec's run writes at most."""
    shape, method = entry_of(spec.model).shape, get_method(spec.method)
    formula = method.formula(shape, spec.values)
    labels = 2 * MAX_LABELS if shape.kind == "vision" else 16
    head = shape.hidden * shape.hidden + labels * shape.hidden if shape.kind in CLASSIFIERS else 0
    adapter = _WORD * (max(formula.stored or 0, formula.trainable) + head)
    # The loss of every step stands in the events and in the record.
    events = spec.steps * (_STEP + 24) + 2 * _EVALUATION * _LINE + _ONCE
    data = Path(spec.own_data) if spec.own_data else None
    own = 0 if data is None or not data.exists() else MAX_BYTES if data.is_dir() else data.stat().st_size
    start = 0 if spec.start is None else adapter  # a copy of what is trained on
    return adapter + events + _PICTURE + own + 2 * start
