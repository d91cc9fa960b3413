"""What a run's trajectory is recorded of: the run as data, and the example that its states are measured on."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab import machine
from peft_lab.errors import RunError
from peft_lab.memory import build
from peft_lab.models.heads import in_head
from peft_lab.runs import checkpoints, course, kept
from peft_lab.runs.following import tracked_step
from peft_lab.runs.versions import versions
from peft_lab.training.evaluation import question
from peft_lab.trajectory.answering import Asked
from peft_lab.trajectory.format import Example, Model, Trajectory
from peft_lab.trajectory.recorder import TrajectoryRecorder, watching
from peft_lab.trajectory.states import Budget

if TYPE_CHECKING:
    from peft_lab.tasks.base import Row


def start(
    ready: course.Prepared, run: str, folder: Path, budget: Budget | None = None, row: Row | None = None
) -> TrajectoryRecorder:
    """The recorder of a training that has not begun.

    Args:
        run: its id. folder: where its files go.
        row: the example; ``None``: the first held-out row, if it has any.
    """
    entry, spec = ready.base.entry, ready.spec
    if row is None and ready.test:
        row = ready.test[0]
    # What passes through is followed for texts alone.
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
        ready.model,
        watching(spec.method, ready.model, entry.shape, spec.values),
        list(build.stacked_layers(ready.model, entry.shape.num_layers)),
        spec.steps,
        tracked_step(spec),
        asked,
        folder / kept.TRAJECTORY,
        budget,
        _earlier(folder),
    )


def _earlier(folder: Path) -> Trajectory | None:
    """Of a run that goes on, what it recorded before it ended too early."""
    if checkpoints.latest(folder) is None:
        return None
    with suppress(RunError):
        return kept.trajectory(folder)
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
