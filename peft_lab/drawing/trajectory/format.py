"""Define a trajectory: a run's record of its model at some of its states, one JSON object for Python and the page.

State ``s`` of a run is its model after ``s`` updates: state 0 is untrained, the last one is what was saved. ``steps``
names the states that were recorded, rising, 0 first. Whatever is called a *series* holds one value for each of them, in
that order, and ``null`` where that was not measured. In short, for a run of 60 steps::

    {"format": 1, "method": "lora", "run": "2026…", "recorded": "2026-11-26T12:01:44+00:00", "ended": true,
     "spec": {…}, "machine": {"processor": …}, "versions": {"torch": …}, "model": {…},
     "example": {"text": …, "tokens": ["Turn", "␣on", …], "expected": …, "metric": "exact_match"},
     "steps": [0, 1, 2, 3, 5, …, 60],
     "curve": {"loss": [60 numbers], "rate": [60], "gradient": [60]},
     "parts": [{"path": "model.layers.0.self_attn.q_proj", "layer": 0, "slot": "q", "kind": "low_rank",
                "shape": [576, 576], "parameters": 9216, "rank": 8,
                "share": [series], "gradient": [series], "change": [series],
                "spectrum": [series of lists], "tensors": {"A": [series of tensors], …}}, …],
     "stream": {"moved": [series of layers+1 numbers], "gradient": [series of layers+1 numbers]},
     "attention": [series of one number for each layer] or null,
     "answers": [{"step": 0, "text": …, "score": 0.0}, …],
     "notes": {"merge": {…}, "blocks": {…}, …}}

What the numbers of a part are, measured on the run's ``example`` unless said otherwise:

- ``share``: ‖what the trained path adds to this module's output‖ / ‖what the frozen path gives‖, Frobenius norms over
  all tokens of the example (for LoRA ‖ΔWx‖/‖Wx‖). Of trained keys (kind ``columns``) and virtual tokens (``cells``):
  the share of the attention that lands on them, the mean over heads and real tokens (and layers for the latter).
- ``gradient``: ‖∂loss/∂its trained numbers‖ of the batch that the step from this state on was made with, before
  clipping. ``null`` at the last state, from which no step was made.
- ``change``: how far its trained numbers' effect is from that of state 0, over the size of what they act on: ‖ΔW‖/‖W‖
  for a correction of a matrix, ‖l − 1‖/‖1‖ for a gate, ‖b − b₀‖/‖b₀‖ for a bias, ‖p − p₀‖/‖W‖ for an adapter behind
  a matrix W, ‖p − p₀‖/‖p₀‖ for virtual tokens, prefixes and what makes them.
- ``spectrum``: leading singular values of ΔW, falling; empty lists where there is no ΔW.
- ``tensors``: small pictures of a few chosen parts, by name (see :data:`TENSORS`); ``{}`` for most parts.

A *tensor* is ``{"shape": [rows, columns], "scale": s, "data": base64 of int8, row by row}``; a cell is its byte times
s / 127. It stands for a patch of the tensor: the entry of the patch that is furthest from zero, with its sign.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import content
from peft_lab.core.disk import read_json
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.methods.base import PartKind

VERSION = 1
STATES = 26  # at most, of a run's states: all of a run of 25 steps
FILE_BYTES = 350_000  # at most, of one trajectory
#: What a part's tensors can be, by kind, and what a cell is.
TENSORS: Mapping[PartKind, tuple[str, ...]] = {
    "low_rank": ("A", "B", "ΔW"),  # (r, inputs), (outputs, r), (outputs, inputs) times alpha/r
    "gate": ("l",),  # (1, features): the factor less 1
    "bias": ("Δb",),  # (1, features): the move
    "columns": ("key", "value"),  # (virtual tokens, kv width)
    "cells": ("p",),  # (virtual tokens, hidden)
    "bottleneck": ("down", "up"),  # (width, hidden), (hidden, width)
    "encoder": (),
    "trainable": (),
    "quantised": (),
}
#: Where a part sits: a matrix's role in its block (``peft_lab.models.shapes.Role``) or one of these.
SLOTS = (
    "q", "k", "v", "qkv", "kv", "latent", "o", "gate", "up", "down",
    "attention",  # keys and values of a layer's attention; an adapter behind the attention
    "ffn",  # an adapter behind or beside the feed-forward part
    "tokens",  # before the first layer: virtual tokens and what makes them
    "embedding", "norm", "head", "other",
)  # fmt: skip

Series = list[float | None]


@dataclass(frozen=True)
class RecordedTensor:
    """A small picture of a tensor. ``shape``: (rows, columns); ``data``: base64 of int8, row by row."""

    shape: tuple[int, ...]
    scale: float
    data: str


@dataclass(frozen=True)
class RecordedPart:
    """One adapted or trained part and its series."""

    path: str  # of the module in the bare model
    layer: int | None  # its number, ``None`` outside the layers
    slot: str  # one of :data:`SLOTS`
    kind: str  # as the drawing's parts are called
    shape: tuple[int, ...]  # of the matrix that it acts on, or of what is trained: (outputs, inputs)
    parameters: int  # trained numbers
    rank: int | None = None  # of a correction, else ``None``
    share: Series = field(default_factory=list)  # share, gradient, change, spectrum, tensors: see the module
    gradient: Series = field(default_factory=list)
    change: Series = field(default_factory=list)
    spectrum: list[list[float]] = field(default_factory=list)
    tensors: dict[str, list[Any]] = field(default_factory=dict)

    def tensor(self, name: str, state: int) -> RecordedTensor | None:
        """Return a picture, with its shape, at a state's index in ``steps``; ``None`` without one."""
        value = self.tensors[name][state]
        return (
            None if value is None else RecordedTensor(**content.read_typed(RecordedTensor, value, "A tensor"))
        )


@dataclass(frozen=True)
class LossCurve:
    """Three figures of every step: the batch's loss, the learning rate, the gradient's norm before clipping."""

    loss: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    gradient: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Stream:
    """The residual stream on the example, below the first layer and after each: layers + 1 numbers a state."""

    # ‖h − h₀‖/‖h₀‖ against state 0, over the example's own tokens
    moved: list[list[float] | None] = field(default_factory=list)
    # ‖∂loss/∂h‖ of the step's batch; ``null`` where no gradient passes, since nothing below is trained
    gradient: list[list[float | None] | None] = field(default_factory=list)


@dataclass(frozen=True)
class Model:
    """The facts of the model that a drawing needs; ``trainable`` excludes a task's head, which is ``head``."""

    name: str
    title: str
    kind: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    total: int
    trainable: int
    head: int
    dtype: str


@dataclass(frozen=True)
class Example:
    """The held-out row that the states were measured on."""

    text: str  # what the model reads
    tokens: tuple[str, ...]  # the same with its template, as tokens; spaces visible
    expected: str  # the right answer
    metric: str  # of the task; scores an answer between 0 and 1


@dataclass(frozen=True)
class RecordedAnswer:
    """The model's answer to the example at a state. ``score``: by the task's metric, 1 is right."""

    step: int
    text: str
    score: float


@dataclass(frozen=True)
class Trajectory:
    """The record of a run; the module's docstring defines its figures."""

    method: str
    run: str  # the run's id
    recorded: str  # when it began, as ISO 8601
    spec: dict[str, Any]  # as :class:`peft_lab.runs.spec.RunSpec` stores it
    machine: dict[str, Any]  # processor, cores, device
    versions: dict[str, str]  # packages
    model: Model
    example: Example | None
    steps: list[int] = field(default_factory=list)
    curve: LossCurve = field(default_factory=LossCurve)
    parts: list[RecordedPart] = field(default_factory=list)
    stream: Stream = field(default_factory=Stream)
    # for prefixes and virtual tokens, by state the share of each layer's attention that they receive
    attention: list[list[float] | None] | None = None
    answers: list[RecordedAnswer] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)  # only for some methods: ``merge``, ``blocks``
    seconds: float = 0.0  # processor time of recording
    training_seconds: float = 0.0  # of the run's steps until then, without recording
    ended: bool = False  # whether the record is complete
    format: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return the trajectory for JSON. Its series are those of the trajectory, not copies."""
        one = ("model", "example", "curve", "stream")
        nested = {name: getattr(self, name) for name in one}
        return {
            **vars(self),
            **{name: value and dict(vars(value)) for name, value in nested.items()},
            "parts": [dict(vars(part)) for part in self.parts],
            "answers": [dict(vars(answer)) for answer in self.answers],
        }

    @property
    def label(self) -> str:
        """Return when and where it was recorded, in one line."""
        where = ", ".join(
            str(self.machine[name]) for name in ("processor", "device") if self.machine.get(name)
        )
        return f"recorded on {self.recorded[:10]}, {where}"


def from_dict(data: Any) -> Trajectory:
    """Rebuild a trajectory from :meth:`Trajectory.to_dict`, also after JSON. Raises BadInput if this is no trajectory
    of this version, or its series are not as long as its ``steps``."""
    if not isinstance(data, Mapping):
        raise BadInput("A trajectory must be a JSON object.")
    if data.get("format") != VERSION:
        raise BadInput(f"This trajectory has format {data.get('format')!r}; this version reads {VERSION}.")
    values = dict(data)
    for name, cls in _NESTED.items():
        value = values.get(name)
        if isinstance(value, list):
            values[name] = [_made(cls, item, f"A trajectory's {name[:-1]}") for item in value]
        elif value is not None:
            values[name] = _made(cls, value, f"A trajectory's {name}")
    made = _made(Trajectory, values, "A trajectory")
    _check_lengths(made)
    return made


_NESTED: Mapping[str, type] = {
    "model": Model, "example": Example, "curve": LossCurve, "parts": RecordedPart, "stream": Stream,
    "answers": RecordedAnswer,
}  # fmt: skip


def _made(cls: type, value: Any, what: str) -> Any:
    hints = cls.__annotations__  # kinds.read gives tuples; series stay lists, as they were written
    return cls(
        **{
            name: list(v) if isinstance(v, tuple) and hints[name].startswith(("list", "Series")) else v
            for name, v in content.read_typed(cls, value, what).items()
        }
    )


def _check_lengths(trajectory: Trajectory) -> None:
    states = len(trajectory.steps)
    if trajectory.steps != sorted(set(trajectory.steps)):
        raise BadInput("The steps of a trajectory must increase.", "steps")
    series: dict[str, Any] = {f"{name} of the stream": one for name, one in vars(trajectory.stream).items()}
    if trajectory.attention is not None:
        series["attention"] = trajectory.attention
    for part in trajectory.parts:
        own = {name: getattr(part, name) for name in ("share", "gradient", "change", "spectrum")}
        series |= {f"{name} of {part.path}": one for name, one in (own | part.tensors).items()}
    for name, one in series.items():
        if len(one) != states:
            raise BadInput(f"The {name} has {len(one)} of {states} states.", "steps")


# ----------------------------------------
# Which states of a run are recorded, and what recording may cost.


SHARE = 0.04  # of the run's time so far that recording may take
FREE_STATES = 3.0  # seconds that it may take in any case, so that a short run is recorded step by step
MEASURING = 0.6  # share of the budget reserved for measuring states, and their limit; the rest is for answers
BEND = 1.6  # more states at the beginning, where more happens
#: States whose answer to the example is given in any case, beside the last one's.
ASKED_AT = (0, 5, 10, 15, 25)


def recorded_states(steps: int, most: int = STATES) -> list[int]:
    """Return the states of a run of ``steps`` steps to record if time allows: the first, the last, and others,
    denser at the beginning.

    >>> recorded_states(6), recorded_states(60, 8)
    ([0, 1, 2, 3, 4, 5, 6], [0, 1, 8, 15, 25, 35, 47, 60])
    """
    if steps < most:
        return list(range(steps + 1))
    return sorted(
        {1 if number == 1 else round(steps * (number / (most - 1)) ** BEND) for number in range(most)}
    )


def asked_states(steps: int, watched: bool = True) -> set[int]:
    """Return the states of a run of ``steps`` steps that answer the example, whatever that costs.

    Args:
        watched: whether a learner follows the answers; a run that nobody watches answers first and last.

    >>> sorted(asked_states(12)), sorted(asked_states(60)), sorted(asked_states(60, watched=False))
    ([0, 5, 10, 12], [0, 5, 10, 15, 25, 60], [0, 60])
    """
    return {state for state in ASKED_AT if state < steps and (watched or not state)} | {steps}


@dataclass
class Budget:
    """The processor time that recording has taken, compared with that of the run. Seconds are those of the process:
    other programs stretch both alike on the clock, but one stall while a state is measured would leave nothing for
    the states of the next twenty steps."""

    share: float | None = SHARE  # that it may take; ``None`` for no limit
    spent: float = 0.0  # seconds in total
    # seconds spent on measuring. An answer may take far longer than estimated; its excess does not count against the
    # states, or the drawing would stand still for long
    measured: float = 0.0

    def __post_init__(self) -> None:
        self._began = time.process_time()

    @property
    def elapsed(self) -> float:
        """Return seconds since the run's first step began, including recording."""
        return time.process_time() - self._began

    def allows(self, seconds: float, measuring: bool = False) -> bool:
        """Return whether an answer (or, with ``measuring``, a state) that takes so long is within the budget."""
        if self.share is None:
            return True
        most = FREE_STATES + self.share * self.elapsed
        return self.measured + seconds <= MEASURING * most if measuring else self.spent + seconds <= most

    @contextmanager
    def counted(self, measuring: bool = False) -> Iterator[None]:
        """Count the time inside as recording."""
        start = time.process_time()
        try:
            yield
        finally:
            took = time.process_time() - start
            self.spent += took
            self.measured += took if measuring else 0.0


# ----------------------------------------
# The trajectories that come with the app, made by ``tools/record_trajectories.py``: one for each method on its
# page's initial model, ``<slug>.json``, and some on another one, ``<slug>.<model>.json``.


SHIPPED_DATA = Path(__file__).parent / "data"


def shipped_names() -> list[str]:
    """Return the existing names: a method's slug, or slug and model separated by a dot."""
    return sorted(path.stem for path in SHIPPED_DATA.glob("*.json"))


@cache
def shipped(name: str) -> Trajectory:
    """Return the recorded training of a method. Raises UnknownName if none was recorded."""
    if name not in shipped_names():
        raise UnknownName("recorded method", name, shipped_names())
    return from_dict(read_json(SHIPPED_DATA / f"{name}.json"))


def shipped_of(slug: str, model: str) -> Trajectory | None:
    """Return a method's recorded training on a model, or else on another; ``None`` if none was recorded."""
    found = shipped_on(slug, model)
    return shipped(slug) if found is None and slug in shipped_names() else found


def shipped_on(slug: str, model: str) -> Trajectory | None:
    """Return a method's recorded training on a model of the catalogue; ``None`` if none was recorded."""
    names = [name for name in (f"{slug}.{model}", slug) if name in shipped_names()]
    return next((one for one in map(shipped, names) if one.spec.get("model") == model), None)
