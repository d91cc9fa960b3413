"""Prepare, train, settle and score without a run folder, for runs and ``tools/sweep.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.core import machine
from peft_lab.core.errors import BadInput, in_short
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec, TaskType, classifying_task, plain_task
from peft_lab.methods.shared import adapters_library as library_files
from peft_lab.models import loading
from peft_lab.models.catalogue import looks_external, resolve
from peft_lab.models.shapes import ModelKind
from peft_lab.runs.spec import RunSpec
from peft_lab.training import batches
from peft_lab.training.batches import Encoded
from peft_lab.training.evaluation import Examiner
from peft_lab.training.loop import Made, fit, unfollowed
from peft_lab.training.step import Masters, cast_added, rate_at
from peft_lab.training.tasks.base import Row, Task

if TYPE_CHECKING:
    import torch

    from peft_lab.training.loop import Follow


@dataclass
class Prepared:
    """A training that is ready for its first step.

    Attributes:
        rows: those that the steps will use, encoded. available: how many training rows the task has.
        test: held-out rows to score on.
    """

    spec: RunSpec
    method: MethodSpec
    task: Task
    base: loading.Base
    model: torch.nn.Module
    rows: list[Encoded]
    available: int
    test: list[Row]


def seed_everything(seed: int) -> None:
    """Seed all random generators: equal seeds give the same head, method start and dropout."""
    from accelerate.utils import set_seed

    set_seed(seed)


def fresh_base(spec: RunSpec, task: Task, quantised: bool = True) -> loading.Base:
    """Load the model a run starts from, the same every time, its randomly initialised head included."""
    method = get_method(spec.method)
    seed_everything(spec.seed)
    labels = len(task.labels) if task.kind == "classification" else None
    quantization = method.quantization(spec.values) if quantised else None
    base = loading.load_base(spec.model, labels, quantization, attention=attention_for(spec))
    if labels is not None:
        config: Any = base.model.config
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: number for number, label in enumerate(task.labels)}
    return base


def attention_for(spec: RunSpec) -> str:
    """Return the attention kernel of the device in use, for rows of the run's length."""
    return loading.attention_for(machine.in_use().kind, spec.max_length, resolve(spec.model))


def task_type(task: Task, kind: ModelKind) -> TaskType:
    """Return PEFT's task type for the task on a model of this ``kind``."""
    return classifying_task(kind) if task.kind == "classification" else plain_task(kind)


def prepare(spec: RunSpec, begins: Callable[[str], object] = lambda phase: None) -> Prepared:
    """Load the model, apply the method, read and encode the rows; call ``begins`` with each phase's name.

    Raises:
        PeftLabError: a model that does not load, data that cannot be read.
    """
    method, task = get_method(spec.method), spec.task_object()
    begins("Loading the model")
    base = fresh_base(spec, task)
    seed_everything(spec.seed)
    model = method.apply(base.model, base.entry.shape, spec.values, task_type(task, base.entry.kind))
    if spec.start is not None:
        library_files.put_adapter(model, base.entry.shape, Path(spec.start), task_type(task, base.entry.kind))
    cast_added(model, base.dtype)
    begins("Reading the images" if task.images else "Reading the sentences")
    splits = task.load()
    needed = needed_rows(spec, len(splits.train))
    train = [splits.train[number] for number in needed]
    rows = batches.encode(task, train, base.tokenizer, spec.max_length, loading.decoder_start(base.entry))
    _require_known(rows, base)
    if looks_external(spec.model):
        _require_numbers(model, rows[0], base)
    test = list(splits.test[: spec.eval_rows])
    return Prepared(spec, method, task, base, model, rows, len(splits.train), test)


def _require_known(rows: Sequence[Encoded], base: loading.Base) -> None:
    """Check that the weights have every token the tokenizer gives. Raises BadInput if not."""
    if base.entry.kind == "vision":
        return
    given = [loading.pad_token(base.tokenizer), *(max(row.ids) for row in rows)]
    highest, known = max(given), base.entry.shape.vocab
    if highest >= known:
        raise BadInput(
            f"The tokenizer of {base.entry.title} gives token {highest:,}, and its weights know {known:,} tokens: the "
            "two do not belong together.",
            "model",
        )


def _require_numbers(model: torch.nn.Module, row: Encoded, base: loading.Base) -> None:
    """Check that a model from outside the catalogue computes a finite loss before training, since its config
    and weights may hold anything; raises BadInput if not. Leaves the training's random state as it is."""
    import torch

    title = base.entry.title
    batch = batches.collate([row], loading.pad_token(base.tokenizer), base.device)
    trains = model.training
    try:
        with torch.random.fork_rng(), torch.no_grad():
            loss = float(batches.loss_of(model.train(), batch))
    except Exception as error:  # whatever the code of its architecture raises
        raise BadInput(
            f"{title} cannot read a row of this task: {in_short(error).rstrip('.')}.", "model"
        ) from error
    model.train(trains)
    if not math.isfinite(loss):
        raise BadInput(
            f"{title} gives no numbers (its loss is {loss}) before anything is learned: look for NaN, infinite or huge "
            "values in its weights and its config.",
            "model",
        )


def planned_batches(spec: RunSpec, passes: int | None = None) -> list[list[Encoded]]:
    """Return the rows of each batch that a run on texts will make, encoded, without loading its model's weights.

    Args:
        passes: over the rows, at most; ``None``: all steps.
    """
    task, entry = spec.task_object(), resolve(spec.model)
    tokenizer, start = loading.load_tokenizer(loading.weights_of(spec.model)), loading.decoder_start(entry)
    train = task.load().train
    most = spec.steps if passes is None else min(spec.steps, -(-passes * len(train) // spec.batch))
    needed = [train[number] for number in range(min(len(train), most * spec.batch))]
    rows = batches.encode(task, needed, tokenizer, spec.max_length, start)
    order = batches.plan([len(row) for row in rows], most, spec.batch, spec.seed)
    return [[rows[number] for number in numbers] for numbers in order]


def needed_rows(spec: RunSpec, available: int) -> list[int]:
    """Return the indices of the training rows that the steps use. Any prefix of a split is a fair sample."""
    return list(range(min(available, spec.steps * spec.batch)))


def steps(
    ready: Prepared,
    masters: Masters,
    optimizer: torch.optim.Optimizer,
    follow: Follow = unfollowed,
    restore: Callable[[], int] = lambda: 0,
) -> Iterator[Made]:
    """Seed, then make the steps lazily, one per iteration. ``optimizer``: that of :func:`optimizer_of`.

    ``restore``: restores a checkpoint, if there is one, and returns how many steps it had made.
    """
    spec = ready.spec
    seed_everything(spec.seed)
    first = restore()
    return fit(
        ready.model,
        ready.rows,
        batches.plan([len(row) for row in ready.rows], spec.steps, spec.batch, spec.seed),
        masters,
        optimizer,
        rate=lambda step: rate_at(step, spec.steps, spec.warmup, spec.schedule),
        clip=spec.clip,
        pad=loading.pad_token(ready.base.tokenizer),
        device=ready.base.device,
        follow=follow,
        first=first,
    )


def optimizer_of(ready: Prepared, masters: Masters) -> torch.optim.Optimizer:
    """Return AdamW over the trained parameters, with the head's own learning rate."""
    import torch

    spec, rate = ready.spec, ready.spec.learning_rate
    groups = masters.groups(
        rate, spec.head_learning_rate, lambda name: ready.method.rate_factor(name, spec.values)
    )
    return torch.optim.AdamW(groups, lr=rate, weight_decay=spec.weight_decay, fused=True)


def settle(ready: Prepared, masters: Masters) -> None:
    """Bring the model, after the last step, to the state and precision in which it is stored."""
    masters.restore()
    cast_added(ready.model, ready.base.dtype)


def examiner(ready: Prepared) -> Examiner:
    """Return the examiner that scores a model on the task's held-out rows."""
    start = loading.decoder_start(ready.base.entry)
    return Examiner(ready.task, ready.base.tokenizer, ready.spec.max_length, ready.base.device, start)
