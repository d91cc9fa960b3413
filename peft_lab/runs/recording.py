"""Record a run: its trajectory, the example that its states are measured on, and each step's event."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.core import machine
from peft_lab.core.errors import RunError
from peft_lab.drawing.trajectory.format import Budget, Example, Model, Trajectory
from peft_lab.drawing.trajectory.passing import Asked
from peft_lab.drawing.trajectory.recorder import TrajectoryRecorder
from peft_lab.engine import build
from peft_lab.methods import recording
from peft_lab.models.shapes import in_head
from peft_lab.runs import checkpoints, course, kept, measuring
from peft_lab.runs.record import versions
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.training.batches import size_of
from peft_lab.training.evaluation import question
from peft_lab.training.loop import Made
from peft_lab.training.step import Masters, Phase

if TYPE_CHECKING:
    import torch

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


def start(
    ready: course.Prepared, run: str, folder: Path, budget: Budget | None = None, row: Row | None = None
) -> TrajectoryRecorder:
    """Return the recorder of a training that has not begun.

    Args:
        run: its id. folder: where its files go.
        row: the example; ``None``: the first held-out row, if there is one.
    """
    entry, spec = ready.base.entry, ready.spec
    if row is None and ready.test:
        row = ready.test[0]
    # Activations are recorded for texts only.
    asked = None if row is None or ready.task.images else _asked(ready, row)
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
        _earlier(folder),
    )


def _earlier(folder: Path) -> Trajectory | None:
    """Return the trajectory a resumed run recorded before; ``None`` without a checkpoint or if damaged."""
    if checkpoints.latest(folder) is None:
        return None
    with suppress(RunError):
        return kept.kept_trajectory(folder)
    return None


def _model(ready: course.Prepared) -> Model:
    shape = ready.base.entry.shape
    named = [(name, p.numel()) for name, p in ready.model.named_parameters() if p.requires_grad]
    head = sum(size for name, size in named if ready.task.labels and in_head(name))
    return Model(
        name=shape.name,
        title=shape.title,
        kind=shape.kind,
        layers=shape.num_layers,
        hidden=shape.hidden,
        intermediate=shape.intermediate,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab=shape.vocab,
        total=shape.total,
        trainable=sum(size for _, size in named) - head,
        head=head,
        dtype=str(ready.base.dtype).removeprefix("torch."),
    )


def _asked(ready: course.Prepared, row: Row) -> Asked:
    examines, task, tokenizer = course.examiner(ready), ready.task, ready.base.tokenizer
    inputs = examines.reading([question(row)])
    tokens = [
        str(tokenizer.decode([number])).replace(" ", "␣") or "∅" for number in inputs["input_ids"][0].tolist()
    ]

    def answer(model: Any) -> str:
        return examines.answer(model, [question(row)])[0].answer

    def score(text: str) -> float:
        return task.score([text], [row])[task.metric]

    return Asked(
        Example(row.text, tuple(tokens), row.target, task.metric),
        inputs,
        answer,
        score,
        task.kind != "classification",
    )
