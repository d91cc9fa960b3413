"""Record a trajectory beside a training without changing it: between steps the model reads one example, and in the
steps that start from a recorded state the batch's gradients are measured.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.core import disk
from peft_lab.core.later import torch
from peft_lab.drawing.trajectory.format import (
    FILE_BYTES,
    Budget,
    Example,
    LossCurve,
    RecordedAnswer,
    RecordedPart,
    Stream,
    Trajectory,
    asked_states,
    recorded_states,
)
from peft_lab.methods.recording.recorder import FreshBase, Inputs, Recorder, Watched, copied, restored

if TYPE_CHECKING:
    from peft_lab.training.step import Made


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode without gradients; afterwards restore each module's mode."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in before:
            module.training = training


def example(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    parts: Sequence[Watched],
    layers: Sequence[torch.nn.Module],
) -> list[torch.Tensor]:
    """Run one row through the model, so that every part records its share.

    Args:
        inputs: ids and mask of shape (1, length), without padding.

    Returns:
        the residual stream below the first layer and after each, of shape (length, hidden) in float32; empty for a
        model whose layers are not one stack.
    """
    length = inputs["input_ids"].shape[1]
    streams: dict[int, torch.Tensor] = {}

    def keep(number: int, hidden: torch.Tensor) -> None:
        streams[number] = hidden[0, -length:].float()  # virtual tokens precede the example's own

    handles = [handle for part in parts for handle in part.listen()] + _listen(layers, keep)
    try:
        model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [streams[number] for number in sorted(streams)]


@contextmanager
def gradients(layers: Sequence[torch.nn.Module]) -> Iterator[dict[int, float]]:
    """Yield the norms of the loss's gradient by the stream below the first layer (0) and after each layer. A backward
    pass inside the context fills them; positions that no gradient reaches are left out."""
    norms: dict[int, float] = {}
    hooks: list[Any] = []

    def watch(number: int, hidden: torch.Tensor) -> None:
        if hidden.requires_grad:
            hooks.append(
                hidden.register_hook(lambda grad: norms.update({number: float(grad.float().norm())}))
            )

    handles = _listen(layers, watch)
    try:
        yield norms
    finally:
        for handle in handles + hooks:
            handle.remove()


def _listen(layers: Sequence[torch.nn.Module], hear: Callable[[int, torch.Tensor], None]) -> list[Any]:
    """Call ``hear`` with the number and the stream, of shape (rows, length, hidden), below and after the layers."""
    if not layers:
        return []

    def below(_: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        hear(0, args[0] if args else options["hidden_states"])

    handles: list[Any] = [layers[0].register_forward_pre_hook(below, with_kwargs=True)]
    for number, layer in enumerate(layers, start=1):

        def after(_: Any, args: Any, output: Any, number: int = number) -> None:
            hear(number, output[0] if isinstance(output, tuple) else output)

        handles.append(layer.register_forward_hook(after))
    return handles


# ----------------------------------------
# The model's answers to the example. Writing one takes as long as a step, so at most states it is put off: the state's
# trained numbers are kept, and restored for a moment when there is time.


GUESSED = 8  # assumed ratio of the times of writing an answer and reading, before one was written
WAITING = 12  # maximum number of states whose numbers are kept
KEPT_NUMBERS = 16_000_000  # maximum of trained numbers for that; a larger model answers at once or not at all


@dataclass(frozen=True)
class EncodedExample:
    """The example with ids and mask of shape (1, length), the functions that produce and score an answer, and whether
    the answer is written token by token. ``answer`` takes the model and the step it is at.
    """

    example: Example
    inputs: Mapping[str, torch.Tensor]
    answer: Callable[[Any, int], str]
    score: Callable[[str], float]
    writes: bool


class Answering:
    """Asks one model for its answers: at the states in ``due`` in any case, at others within the budget."""

    def __init__(self, model: torch.nn.Module, asked: EncodedExample, budget: Budget, due: set[int]) -> None:
        self.model, self.asked, self.budget, self.due = model, asked, budget, due
        self._trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self._holds = sum(parameter.numel() for parameter in self._trained.values()) <= KEPT_NUMBERS
        self._waiting: dict[int, dict[str, torch.Tensor]] = {}
        self._given: dict[int, RecordedAnswer] = {}
        self._cost = 0.0

    def answers(self) -> list[RecordedAnswer]:
        """Return the answers that were given, by state."""
        return [self._given[step] for step in sorted(self._given)]

    def wants(self, step: int) -> None:
        """Request an answer for the model's current state, ``step``; one that is not due may come later or never."""
        if not self._holds:
            if step in self.due or self.budget.allows(self._cost):
                self._ask(step)
            return
        self._waiting[step] = copied(self._trained)
        if len(self._waiting) > WAITING:
            del self._waiting[sorted(self._waiting)[1]]  # the earliest and the latest say most

    def catch_up(self, passing: float = 0.0, last: bool = False) -> None:
        """Answer the waiting states that are due, and within the budget others, the latest first; with ``last`` the
        latest one in any case, as it is what was learned.

        Args:
            passing: seconds that the model takes to read the example, from which the first answer's are estimated.
            last: no step follows; the other waiting states are dropped.
        """
        self._cost = self._cost or passing * (GUESSED if self.asked.writes else 1)
        while self._waiting:
            due = self.due.intersection(self._waiting)
            step = max(self._waiting) if last or not due else min(due)
            if step < min(self.due - {0}, default=0) and step not in self.due and not last:
                break  # it would delay the first answer that a learner waits for
            learned = last and step >= max(self._given, default=0)
            if not (step in self.due or learned or self.budget.allows(self._cost)):
                if not last:
                    break
                del self._waiting[step]
                continue
            with restored(self._trained, self._waiting.pop(step)):
                self._ask(step)

    def _ask(self, step: int) -> None:
        start = time.process_time()
        with self.budget.counted(), evaluating(self.model):
            text = self.asked.answer(self.model, step)
            self._given[step] = RecordedAnswer(step, text, self.asked.score(text))
        took = time.process_time() - start
        # one that was drafted well says nothing about the next
        self._cost = max(took, self._cost) if self.asked.writes else took


# ----------------------------------------
# A trajectory small enough for a page: which parts have pictures, and what is left out if it grows too large.


FEW = 2
MANY = 100  # parts; above that fewer have pictures, and fewer singular values are kept
LEADING, LEADING_OF_MANY = 8, 3  # singular values


def pictured(parts: Sequence[Watched]) -> list[bool]:
    """Return which parts have pictures: in the first and the last layer those in a block's first and last slot,
    and a part outside the layers if it is one of few."""
    layers = sorted({part.layer for part in parts if part.layer is not None})
    slots = list(dict.fromkeys(part.slot for part in parts if part.layer is not None))
    outside = sum(part.layer is None for part in parts)
    ends = {*layers[:1], *layers[-1:]}
    chosen = {*slots[:1], *(slots[-1:] if len(parts) <= MANY else ())}
    return [
        outside <= FEW if part.layer is None else part.layer in ends and part.slot in chosen for part in parts
    ]


def compact_trajectory(data: Any) -> str:
    """Return compact JSON."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fitted_trajectory(trajectory: Trajectory, most: int = FILE_BYTES) -> dict[str, Any]:
    """Return the trajectory as an object of at most ``most`` bytes of JSON if possible: pictures are left out,
    first those of every second state, then of more."""
    data = trajectory.to_dict()
    data["parts"] = [{**part, "tensors": dict(part["tensors"])} for part in data["parts"]]
    leading = LEADING if len(trajectory.parts) <= MANY else LEADING_OF_MANY
    for part in data["parts"]:
        part["spectrum"] = [values[:leading] for values in part["spectrum"]]
    every = 1
    while every < len(trajectory.steps) and len(compact_trajectory(data).encode()) > most:
        every *= 2
        last = len(trajectory.steps) - 1
        for part in data["parts"]:
            for name, series in part["tensors"].items():
                part["tensors"][name] = [
                    value if number % every == 0 or number == last else None
                    for number, value in enumerate(series)
                ]
    return data


WRITTEN_EVERY = 0.5  # seconds between two writes during the run
SNAPSHOTS = 8  # of the method's own picture, after the first one
SERIES = ("share", "gradient", "change", "spectrum")  # of a part
NOTES = ("merge", "merges", "rounding", "blocks")  # from which a method's picture is drawn


class TrajectoryRecorder:
    """Records one run: its states for the drawing, and what its method's own picture needs."""

    def __init__(
        self,
        about: Trajectory,  # before its first state
        own: Recorder,  # the method's, which names the parts
        layers: list[torch.nn.Module],  # the model's blocks; empty if they are not one stack
        steps: int,
        skipped: int,  # a step whose memory is measured, which must not be disturbed
        asked: EncodedExample | None,  # the example, ready to be read
        path: Path,
        budget: Budget | None = None,  # what recording may cost
        earlier: Trajectory | None = None,  # the record of a run that ended too early: see go_on
        watched: bool = True,  # whether the example is answered along the run, not only at its end
    ) -> None:
        self.about, self.own, self.model, self.layers = about, own, own.model, layers
        self.draws = own.sees or own.shape.kind != "vision"
        self.asked, self.path, self.budget = asked, path, budget or Budget()
        self._wanted, self._due = set(recorded_states(steps)), asked_states(steps, watched)
        self._last, self._skipped = steps, skipped
        self._snapshots = {round(steps * part / SNAPSHOTS) for part in range(SNAPSHOTS + 1)}
        self._parts = [
            RecordedPart(part.path, part.layer, part.slot, part.kind, part.shape, part.parameters, part.rank)
            for part in own.parts
        ]
        self._pictured = pictured(own.parts)
        self._steps: list[int] = []
        self._curve, self._stream = LossCurve(), Stream()
        self._attention: list[list[float] | None] = []
        self._start: list[torch.Tensor] = []
        self._norms: dict[int, float] = {}
        self._training, self._cost, self._written = 0.0, 0.0, 0.0
        self._earlier, self._answers, self._lost = earlier, list[RecordedAnswer](), False
        self._answering = None if asked is None else Answering(self.model, asked, self.budget, self._due)

    def answered(self) -> dict[int, str]:
        """Return the answers so far, by state."""
        return {answer.step: answer.text for answer in self._all_answers()}

    def know(self, first: str) -> None:
        """Take the answer before the first step from an earlier run that began alike."""
        if self.asked is not None:
            self._answers = [RecordedAnswer(0, first, self.asked.score(first))]

    def go_on(self, taken: int) -> None:
        """Continue the earlier record, up to ``taken`` steps; without one nothing is recorded. State 0 was measured
        again, as the reference of the stream's movement."""
        before = self._earlier
        self._earlier = None
        if before is None or len(before.parts) != len(self._parts) or len(before.curve.loss) < taken:
            self._lost = True
            return
        count = sum(step <= taken for step in before.steps)
        self._steps = before.steps[:count]
        self._curve = LossCurve(*(series[:taken] for series in vars(before.curve).values()))
        self._stream = Stream(before.stream.moved[:count], before.stream.gradient[:count])
        self._attention = [*(before.attention or [None] * count)][:count]
        self._answers = [answer for answer in before.answers if answer.step <= taken]
        self._training = before.training_seconds
        self._parts = [
            replace(
                now,
                **{name: getattr(part, name)[:count] for name in SERIES},
                tensors={name: values[:count] for name, values in part.tensors.items()},
            )
            for now, part in zip(self._parts, before.parts, strict=True)
        ]

    # -- while it trains -----------------------------------------------------------------------------------------

    def state(self, step: int, always: bool = False) -> None:
        """Record the model after ``step`` updates: if its answer is due, ``always``, or if wanted and in budget."""
        if step == 0:
            self._snapshot(0)
        if self._lost or (self._steps and self._steps[-1] == step):
            return
        if not (
            always
            or step in self._due
            or (step in self._wanted and self.budget.allows(self._cost, measuring=True))
        ):
            return
        start = time.process_time()
        with self.budget.counted(measuring=True), evaluating(self.model):
            self._measure(step)
        self._cost = time.process_time() - start
        if self._answering is not None and step < self._last:  # the score does not wait for the last answer
            if step not in self.answered():
                self._answering.wants(step)
            self._answering.catch_up(self._cost)  # the first answer is there before the first step
        if self._earlier is None and time.monotonic() - self._written > WRITTEN_EVERY:
            self._write()

    @contextmanager
    def following(self, step: int) -> Iterator[None]:
        """Measure the gradients of a step that starts from a recorded state."""
        if not self._is_measured(step):
            yield
            return
        with gradients(self.layers) as self._norms:
            yield

    def _snapshot(self, step: int) -> None:
        if self.draws and step in self._snapshots:
            self.own.snapshot(step)

    def after_backward(self, step: int) -> None:
        """Record the gradients after the backward pass of a step (from 0)."""
        if self.draws:
            self.own.after_backward(step)
        if not self._is_measured(step):
            return
        with self.budget.counted(measuring=True):
            for part, rows in zip(self.own.parts, self._parts, strict=True):
                rows.gradient[-1] = _short(part.gradient())
            if self.layers:
                self._stream.gradient[-1] = [
                    _short(self._norms.get(number)) for number in range(len(self.layers) + 1)
                ]

    def made(self, made: Made) -> None:
        """Record a step's figures, and the state after it."""
        self._curve.loss.append(_short(made.loss, 5))
        self._curve.rate.append(_short(made.rate))
        self._curve.gradient.append(_short(made.norm))
        self._training += made.seconds
        self.state(made.step + 1)
        self._snapshot(made.step + 1)

    def close(self) -> None:
        """Record the last state in any case, its answer, and write the file. The model still has that state."""
        if self._lost:
            return
        last = len(self._curve.loss)
        self.state(last, always=True)
        if self._answering is not None:
            if last not in self.answered():
                self._answering.wants(last)
            self._answering.catch_up(self._cost, last=True)
        self._write(ended=True)

    def finish(self, inputs: Inputs, fresh_base: FreshBase) -> dict[str, Any]:
        """Return the data of the method's own picture, see :meth:`Recorder.finish`; add those about the trained
        model, such as its merging, to the notes.
        """
        data = self.own.finish(inputs, fresh_base)
        self.about.notes.update({name: data[name] for name in NOTES if name in data})
        if not self._lost:
            self._write(ended=True)
        return data

    # -- one state -----------------------------------------------------------------------------------------------

    def _is_measured(self, step: int) -> bool:
        return not self._lost and bool(self._steps) and self._steps[-1] == step and step != self._skipped

    def _measure(self, step: int) -> None:
        self._steps.append(step)
        attention: list[float] | None = None
        if self.asked is not None:
            stream = example(self.model, self.asked.inputs, self.own.parts, self.layers)
            self._start = self._start or stream
            self._stream.moved.append(
                [_short(_moved(now, start)) for now, start in zip(stream, self._start, strict=True)] or None
            )
            attention = [_short(sum(layer) / len(layer)) for layer in self.own.attention(self.asked.inputs)]
            self._shared_out(attention)
        else:
            self._stream.moved.append(None)
        self._stream.gradient.append(None)
        self._attention.append(attention or None)
        for part, rows, drawn in zip(self.own.parts, self._parts, self._pictured, strict=True):
            rows.share.append(_short(part.share))
            rows.gradient.append(None)
            change, spectrum = part.changed()
            rows.change.append(_short(change))
            rows.spectrum.append([_short(value) for value in spectrum])
            tensors = part.tensors() if drawn else {}
            for name in dict.fromkeys((*rows.tensors, *tensors)):
                earlier = rows.tensors.setdefault(name, [None] * (len(self._steps) - 1))
                earlier.append(tensors.get(name))

    def _shared_out(self, attention: list[float]) -> None:
        """Set the attention shares: a prefix gets that of its layer, virtual tokens the mean over all layers."""
        for part in self.own.parts:
            if part.kind == "columns" and part.layer is not None and part.layer < len(attention):
                part.share = attention[part.layer]
            elif part.kind == "cells" and attention:
                part.share = sum(attention) / len(attention)

    # -- the file ------------------------------------------------------------------------------------------------

    def trajectory(self, ended: bool = False) -> Trajectory:
        """Return the trajectory so far."""
        return replace(
            self.about,
            steps=self._steps,
            curve=self._curve,
            parts=self._parts,
            stream=self._stream,
            attention=self._attention if any(self._attention) else None,
            answers=self._all_answers(),
            seconds=round(self.budget.spent, 3),
            training_seconds=round(self._training, 3),
            ended=ended,
        )

    def write(self) -> None:
        """Write the trajectory so far. Raises OSError if the disk is full."""
        if not self._lost:
            self._write()

    def _all_answers(self) -> list[RecordedAnswer]:
        answers = {answer.step: answer for answer in self._answers}
        if self._answering is not None:
            answers |= {answer.step: answer for answer in self._answering.answers()}
        return [answers[step] for step in sorted(answers)]

    def _write(self, ended: bool = False) -> None:
        with self.budget.counted(measuring=True):
            text = compact_trajectory(fitted_trajectory(self.trajectory(ended)))
            with disk.replacing(self.path) as scratch:
                scratch.write_text(text, "utf-8")
        self._written = time.monotonic()


def _moved(now: torch.Tensor, start: torch.Tensor) -> float:
    """Return ‖h − h₀‖/‖h₀‖, or ‖h‖ if h₀ is 0, as in a model with zero embeddings."""
    size = float(start.norm())
    return float((now - start).norm()) / (size or 1.0)


def _short(value: Any, digits: int = 3) -> Any:
    """Return a number rounded to that many significant digits; ``None`` for None or a number that is not finite,
    such as a share of a frozen path that gives 0."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")
