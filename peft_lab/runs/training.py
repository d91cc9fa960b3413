"""Carry out a run: load, adapt, learn, record each step, save, and score base and tuned model on the same held-out
rows, written as events to its folder. The computation is :mod:`peft_lab.runs.course`.

The sample's answer before the first step is given first, as the others are compared with it. Training follows before
any scoring; the base model is scored last, on a fresh copy (wrapping changes a model, and some methods change its
weights at the start). If an earlier run has scored the same base (:mod:`peft_lab.runs.course`), its score comes before
the first step and the base is not reloaded.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from peft_lab.core import machine
from peft_lab.core.errors import RunError
from peft_lab.core.later import torch
from peft_lab.drawing.trajectory import sentence
from peft_lab.drawing.trajectory.format import Budget, Example, Model, Trajectory
from peft_lab.drawing.trajectory.recorder import EncodedExample, TrajectoryRecorder
from peft_lab.engine import build
from peft_lab.methods import recording
from peft_lab.models import loading
from peft_lab.models.shapes import in_head
from peft_lab.runs import checkpoints, course, kept, measuring, record
from peft_lab.runs.course import BaseScore
from peft_lab.runs.record import versions
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.training import batches
from peft_lab.training.batches import size_of
from peft_lab.training.evaluation import Evaluation, Examiner, ModelAnswer, question
from peft_lab.training.step import Made, Masters, Phase
from peft_lab.training.tasks.base import Row

# ----------------------------------------
# Following a run's steps: phases for its recorders, one step's memory, and an event for every step.


TRACKED_STEP = 2  # the third step: optimizer states exist, and the first loss is not delayed


@dataclass
class Following:
    """Passes the phases of every step to the recorder, and measures the memory of one step."""

    ready: course.Prepared
    masters: Masters
    optimizer: torch.optim.Optimizer
    trajectory: TrajectoryRecorder
    measured: dict[str, Any] | None = None

    @contextmanager
    def step(self, step: int, batch: Mapping[str, torch.Tensor]) -> Iterator[Phase]:
        spec, entry = self.ready.spec, self.ready.base.entry
        tracker = None
        if step == tracked_step(spec):
            tracker = measuring.StepTracker(
                self.ready.model, self.masters, self.optimizer, entry.kind, entry.shape.num_layers
            )
        with measuring.tracking(tracker) as tracked, self.trajectory.following(step):

            def heard(phase: str) -> None:
                if phase == "optimizer":
                    self.trajectory.after_backward(step)
                tracked(phase)

            yield heard
        self.measured = None
        if tracker is not None:
            attention = course.attention_for(spec)
            self.measured = {**tracker.result(), **size_of(batch), "attention": attention}


def tracked_step(spec: RunSpec) -> int:
    """Return the step, from 0, whose memory is measured."""
    return min(TRACKED_STEP, spec.steps - 1)


def report_step(run: Run, made: Made, measured: dict[str, Any] | None) -> None:
    """Emit the event of a completed step, and that of its memory if it was measured."""
    run.log.emit(
        "step",
        step=made.step + 1,
        loss=made.loss,
        lr=made.rate,
        grad_norm=made.norm,
        tokens=made.tokens,
        seconds=made.seconds,
        tracked=measured is not None,
    )
    if measured is not None:
        run.log.emit("memory", **measured)


def start_recording(
    ready: course.Prepared, run: str, folder: Path, budget: Budget | None = None, row: Row | None = None
) -> TrajectoryRecorder:
    """Return the recorder of a training that has not begun. ``run``: its id. ``folder``: where its files go. ``row``:
    the example; ``None``: the first held-out row, if there is one."""
    entry, spec = ready.base.entry, ready.spec
    if row is None and ready.test:
        row = ready.test[0]
    earlier = None  # what a resumed run recorded before
    with suppress(RunError):  # damaged
        earlier = kept.kept_trajectory(folder) if checkpoints.latest(folder) else None
    # Activations are recorded for texts only.
    asked = None if row is None or ready.task.images else _example(ready, row)
    about = Trajectory(
        method=spec.method,
        run=run,
        recorded=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        spec=spec.to_dict(),
        machine={"processor": machine.processor(), "cores": machine.cores(), "device": ready.base.device},
        versions=versions(),
        model=_model(ready),
        example=None if asked is None else asked.example,
    )
    return TrajectoryRecorder(
        about,
        recording.start(ready.method, ready.model, entry.shape, spec.values),
        list(build.stacked_layers(ready.model, entry.shape.num_layers)),
        spec.steps,
        tracked_step(spec),
        asked,
        folder / kept.TRAJECTORY,
        budget,
        earlier,
        spec.watched,
    )


def _trainable(ready: course.Prepared) -> tuple[int, int]:
    """Return the numbers of trained parameters: those of the method, and those of the head."""
    named = [(name, p.numel()) for name, p in ready.model.named_parameters() if p.requires_grad]
    head = sum(size for name, size in named if ready.task.labels and in_head(name))
    return sum(size for _, size in named) - head, head


def _model(ready: course.Prepared) -> Model:
    shape = ready.base.entry.shape
    trainable, head = _trainable(ready)
    names = (
        "name",
        "title",
        "kind",
        "hidden",
        "intermediate",
        "heads",
        "kv_heads",
        "head_dim",
        "vocab",
        "total",
    )
    return Model(
        **{name: getattr(shape, name) for name in names},
        layers=shape.num_layers,
        trainable=trainable,
        head=head,
        dtype=str(ready.base.dtype).removeprefix("torch."),
    )


def _example(ready: course.Prepared, row: Row) -> EncodedExample:
    examines, task, tokenizer = course.examiner(ready), ready.task, ready.base.tokenizer
    inputs = examines.reading([question(row)])
    tokens = [
        str(tokenizer.decode([number])).replace(" ", "␣") or "∅" for number in inputs["input_ids"][0].tolist()
    ]

    recorded = sentence.answers_of(ready.spec.model, ready.spec.method, row.text)

    def answer(model: Any, step: int) -> str:
        guesses = [text for text in (recorded.get(step), row.target) if text]
        return examines.answer(model, [question(row)], [guesses])[0].answer

    example = Example(row.text, tuple(tokens), row.target, task.metric)
    return EncodedExample(
        example, inputs, answer, lambda text: task.score([text], [row])[task.metric], task.writes
    )


# ----------------------------------------
# Stopping, in a run's child: who can ask for it, and what happens if its parent process is gone.
#
# A Stop is a file in the run's folder (:meth:`peft_lab.runs.store.Run.ask_to_stop`). SIGTERM, and the end of the app
# or command, mean the same: the run ends after its current step and saves what it has.


STOP_GRACE = 8.0  # seconds that a step and saving may take after SIGTERM or the end of the app

_stop_asked = threading.Event()


def stop_asked(run: Run) -> bool:
    """Return whether the run is to end after its current step."""
    return _stop_asked.is_set() or run.asked_to_stop()


def listen_for_stop() -> None:
    """Treat SIGTERM as a Stop; after :data:`STOP_GRACE` the process ends without saving."""

    def wind_down(_number: int, _frame: object) -> None:
        threading.Thread(target=end_soon, name="winding-down", daemon=True).start()

    signal.signal(signal.SIGTERM, wind_down)


def end_soon() -> None:
    """Stop after the current step, or end without saving if that takes too long. Does not return."""
    _stop_asked.set()
    time.sleep(STOP_GRACE)
    os._exit(1)


REPORT_EVERY = 0.2  # seconds between progress events of an evaluation


class Stopped(Exception):
    """The learner asked the run to stop during the evaluation. Internal to this module."""


@dataclass
class _Running(course.Prepared):
    """A prepared training with the run that gets its events, and the known score of its base."""

    run: Run
    score: BaseScore


def train(run: Run, recording_budget: Budget | None = None) -> tuple[str, str]:
    """Carry out a run from its spec up to its final event, which the caller writes.

    Args:
        recording_budget: what its trajectory may cost; ``None``: as little as a learner's run can spare.

    Returns:
        the type of the final event, ``done`` or ``stopped``, and its message. The caller writes it last.

    Raises:
        PeftLabError: a model that does not load, a loss that is not a number, and the like.
    """
    measuring.reset_process_peak()
    ready = _prepare(run)
    spec = ready.spec
    recorder = start_recording(ready, run.id, run.folder, recording_budget)
    masters = Masters(ready.model)
    machine.in_use().reset_peaks()
    _give_first_answer(ready, recorder)
    taken = _learn(ready, masters, recorder)
    if taken < spec.steps:
        recorder.close()
    process_peak, device_peaks = measuring.process_peak(), machine.in_use().peaks()
    masters.restore()
    kept.save_adapter(run.folder, partial(ready.method.save, ready.model))
    run.log.emit("memory", process_peak_bytes=process_peak, **device_peaks)
    if taken < spec.steps:
        rung = None if stop_asked(run) else checkpoints.ended_by(run)
        if rung is not None:
            return "stopped", checkpoints.told_to_end(rung, taken, spec.steps)
        return "stopped", f"Stopped after {taken} of {spec.steps} steps; the adapter was saved."
    course.settle(ready, masters)
    try:
        _compare(ready, recorder)
    except Stopped:
        return (
            "stopped",
            f"Stopped during the evaluation, after all {spec.steps} steps; the adapter was saved.",
        )
    return "done", ""


def _prepare(run: Run) -> _Running:
    found = course.prepare(run.spec, lambda name: run.log.emit("phase", name=name))
    spec, task, base = found.spec, found.task, found.base
    kept.require_same_model(spec, record.inputs_of(run.events()))  # of a run that goes on
    files = kept.input_hashes(spec, task, base.entry)
    run.log.emit("inputs", files=files)
    score = course.find_base_score(course.base_key_of(found, files))
    if score.complete(spec.probes, len(found.test)):
        _tell_base(run, spec, score)
    trainable, head = _trainable(found)
    run.log.emit(
        "ready",
        trainable=trainable,
        head=head,
        total=base.entry.shape.total,
        dtype=str(base.dtype).removeprefix("torch."),
        device=base.device,
        learning_rate=spec.learning_rate,
        rows=found.available,
    )
    return _Running(**vars(found), run=run, score=score)


def _tell_base(run: Run, spec: RunSpec, score: BaseScore) -> None:
    """Emit an earlier run's results for the same base. ``scored_by``: that run's id."""
    said = score.said(spec.probes)
    if said:
        run.log.emit("probe", which="base", answers=[asdict(each) for each in said], scored_by=score.run)
    if score.evaluation is not None:
        run.log.emit("evaluated", which="base", **asdict(score.evaluation), scored_by=score.run)


def _give_first_answer(ready: _Running, recorder: TrajectoryRecorder) -> None:
    """Record the state before the first step with its answer; runs that begin alike share one that is written token by
    token."""
    spec, asked = ready.spec, recorder.asked
    if asked is None or not asked.writes:
        recorder.state(0)
        return
    text = asked.example.text
    start = course.find_base_score({**ready.score.key, "start": [spec.method, dict(spec.values), spec.seed]})
    if text in start.answers:
        recorder.know(start.answers[text].answer)
    recorder.state(0)
    if text not in start.answers and 0 in recorder.answered():
        start.answers[text] = ModelAnswer(text, recorder.answered()[0])
        with suppress(OSError):  # it only saves the next run some seconds
            course.keep_base_score(start)


# -- learning ----------------------------------------------------------------------------------------------------


def _learn(ready: _Running, masters: Masters, recorder: TrajectoryRecorder) -> int:
    """Make all steps, or those before a stop; return how many. Raises RunError (a loss that is not a number)."""
    spec, run = ready.spec, ready.run
    optimizer = course.optimizer_of(ready, masters)
    following = Following(ready, masters, optimizer, recorder)
    keeper = checkpoints.Keeper(run, masters, optimizer, {"recorder": recorder.own}, recorder.write)
    taken = 0

    def restore() -> int:
        nonlocal taken
        taken = keeper.restore()
        return taken

    going = course.steps(ready, masters, optimizer, following.step, restore)
    if taken:
        recorder.go_on(taken)
    if stop_asked(run):
        return taken
    for made in going:
        _require_numbers(made, run)
        report_step(run, made, following.measured)
        recorder.made(made)
        stop = stop_asked(run) or checkpoints.ended_by(run) is not None
        if stop or made.step + 1 == spec.steps:
            keeper.keep(made.step + 1)
        else:
            keeper.made(made.step + 1)
        if stop:
            return made.step + 1
    return spec.steps


def _require_numbers(made: Made, run: Run) -> None:
    if math.isfinite(made.loss) and math.isfinite(made.norm):
        return
    checkpoints.clear(run.folder)  # resuming would fail again
    if made.step == 0:
        raise RunError(
            "The loss or its gradient is not a number (NaN) at the first step. Look for NaN, infinite or huge "
            f"values in the weights of {run.spec.model}."
        )
    raise RunError(
        f"The loss is not a number (NaN) at step {made.step + 1}: the learning rate {run.spec.learning_rate:g} "
        "is too high. Lower it."
    ).with_works(learning_rate=run.spec.learning_rate / 10)


# -- comparing ---------------------------------------------------------------------------------------------------


def _compare(ready: _Running, recorder: TrajectoryRecorder) -> None:
    """Score the tuned model, save the method's picture, then score a fresh base. Raises Stopped. A learner waits for
    the score, so that the sample's last answer, which takes seconds, comes after it."""
    examines = course.examiner(ready)
    try:
        _examine(ready, examines, "tuned", ready.model)
    finally:
        recorder.close()
    if ready.spec.compared:
        _inference_and_forgetting(ready, examines)
    if ready.test and recorder.draws:
        seen = ready.test[: recorder.own.rows]
        first = loading.decoder_start(ready.base.entry)
        sample = batches.encode(ready.task, seen, ready.base.tokenizer, ready.spec.max_length, first)
        batch = batches.collate(sample, loading.pad_token(ready.base.tokenizer), ready.base.device)
        del batch["labels"]
        found = recorder.finish(
            batch, lambda: course.fresh_base(ready.spec, ready.task, quantised=False).model
        )
        record.write_insight(ready.run, found)
    # One model in memory at a time: a large one would not fit twice.
    del recorder
    kind = ready.base.entry.kind
    known = ready.score.complete(ready.spec.probes, len(ready.test))
    unrelated = ready.spec.compared and kind == "causal-lm"
    if known and not unrelated:
        return
    ready.model = ready.base = None  # type: ignore[assignment]
    gc.collect()
    base = course.fresh_base(ready.spec, ready.task).model
    if not known:
        answers, evaluation = _examine(ready, examines, "base", base)
        score = ready.score
        score.answers.update({each.text: each for each in answers})
        score.evaluation, score.run = evaluation or score.evaluation, ready.run.id
        course.keep_base_score(score)
    if unrelated:
        found = measuring.unrelated_loss(examines, base, lambda: _stop_if_asked(ready.run))
        ready.run.log.emit("unrelated", which="base", **found)


def _inference_and_forgetting(ready: _Running, examines: Examiner) -> None:
    """Time the tuned model beside the unquantised base, and measure its loss on unrelated text."""
    run = ready.run
    if ready.base.entry.kind == "causal-lm":
        found = measuring.unrelated_loss(examines, ready.model, lambda: _stop_if_asked(run))
        run.log.emit("unrelated", which="tuned", **found)
    if ready.test:
        plain = course.fresh_base(ready.spec, ready.task, quantised=False).model
        found = measuring.inference_time(
            examines, plain, ready.model, ready.test, lambda: _stop_if_asked(run)
        )
        run.log.emit("inference", **found)


def _stop_if_asked(run: Run) -> None:
    if stop_asked(run):
        raise Stopped


def _examine(
    ready: _Running, examines: Examiner, which: str, model: torch.nn.Module
) -> tuple[list[ModelAnswer], Evaluation | None]:
    """Score a model, ask it the learner's sentences, and emit both results. Raises Stopped."""
    log, last = ready.run.log, 0.0

    def report(done: int, total: int, right: int | None) -> None:
        nonlocal last
        _stop_if_asked(ready.run)
        if done in (0, total) or time.monotonic() - last > REPORT_EVERY:
            last = time.monotonic()
            log.emit("evaluating", which=which, done=done, total=total, right=right)

    evaluation, answers = None, []
    if ready.test:
        evaluation = examines.evaluate(model, ready.test, report)
        log.emit("evaluated", which=which, **asdict(evaluation))
    if ready.spec.probes:
        answers = examines.answer(model, ready.spec.probes)
        log.emit("probe", which=which, answers=[asdict(answer) for answer in answers])
    return answers, evaluation
