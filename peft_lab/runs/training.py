"""The training loop: load, adapt, learn, save, and score base and tuned model on the same held-out rows.

Training comes first, so that the first loss is on screen in a second or two; the base model is scored last, on a fresh
copy (wrapping changes a model, and some starts change its weights).
"""

from __future__ import annotations

import gc
import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from peft_lab import insight, machine
from peft_lab.errors import RunError
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec, TaskType
from peft_lab.models import loading
from peft_lab.models.heads import in_head
from peft_lab.runs import inference_forgetting, inputs, kept, measuring, stopping
from peft_lab.runs.following import Following, report
from peft_lab.runs.record import write_insight
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.tasks.base import Row, Task
from peft_lab.training import batches
from peft_lab.training.batches import Encoded
from peft_lab.training.evaluation import Examiner
from peft_lab.training.loop import Made, fit
from peft_lab.training.precision import Masters, cast_added
from peft_lab.training.schedule import rate_at

if TYPE_CHECKING:
    import torch

SNAPSHOTS = 8
REPORT_EVERY = 0.2  # seconds between progress events of an evaluation


class Stopped(Exception):
    """The learner asked the run to stop during the evaluation. Internal to this module."""


@dataclass
class Prepared:
    """A run that is ready for its first step."""

    run: Run
    spec: RunSpec
    method: MethodSpec
    task: Task
    base: loading.Base
    model: torch.nn.Module
    rows: list[Encoded]
    test: list[Row]


def train(run: Run) -> tuple[str, str]:
    """Carry out a run from its spec to its record.

    Returns:
        the type of the final event, ``done`` or ``stopped``, and its message. The caller writes it, last of all.

    Raises:
        PeftLabError: what cannot work: a model that does not load, a loss that is no number.
    """
    measuring.reset_process_peak()
    ready = _prepare(run)
    spec = ready.spec
    recorder = insight.start(ready.method, ready.model, ready.base.entry.shape, spec.values)
    masters = Masters(ready.model)
    machine.in_use().reset_peaks()
    taken = _learn(ready, masters, recorder)
    process_peak, device_peaks = measuring.process_peak(), machine.in_use().peaks()
    masters.restore()
    kept.save_adapter(run.folder, partial(ready.method.save, ready.model))
    run.log.emit("memory", process_peak_bytes=process_peak, **device_peaks)
    if taken < spec.steps:
        return "stopped", f"Stopped after {taken} of {spec.steps} steps; the adapter is saved as it was then."
    cast_added(ready.model, ready.base.dtype)
    try:
        _compare(ready, recorder)
    except Stopped:
        return (
            "stopped",
            f"Stopped during the evaluation; all {spec.steps} steps were taken and the adapter is saved.",
        )
    return "done", ""


def seed_everything(seed: int) -> None:
    """Equal seeds, equal runs: the head's start, the method's start, dropout."""
    from accelerate.utils import set_seed  # type: ignore[import-untyped]

    set_seed(seed)


def fresh_base(spec: RunSpec, task: Task, quantised: bool = True) -> loading.Base:
    """The model a run starts from: the same every time, its random head included."""
    method = get_method(spec.method)
    seed_everything(spec.seed)
    labels = len(task.labels) if task.kind == "classification" else None
    quantization = method.quantization(spec.values) if quantised else None
    base = loading.load_base(spec.model, labels, quantization, attention=_attention(spec))
    if labels is not None:
        config: Any = base.model.config
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: number for number, label in enumerate(task.labels)}
    return base


def _attention(spec: RunSpec) -> str:
    return loading.attention_for(machine.in_use().kind, spec.max_length)


def task_type(task: Task) -> TaskType:
    """PEFT's name for what is trained."""
    return "SEQ_CLS" if task.kind == "classification" else "CAUSAL_LM"


def _prepare(run: Run) -> Prepared:
    spec = run.spec
    method, task = get_method(spec.method), spec.task_object()
    run.log.emit("phase", name="Loading the model")
    base = fresh_base(spec, task)
    seed_everything(spec.seed)
    model = method.apply(base.model, base.entry.shape, spec.values, task_type(task))
    cast_added(model, base.dtype)
    run.log.emit("phase", name="Reading the sentences")
    splits = task.load()
    needed = _needed(spec, len(splits.train))
    rows = batches.encode(task, [splits.train[number] for number in needed], base.tokenizer, spec.max_length)
    run.log.emit("inputs", files=inputs.hashes(spec, task, base.entry))
    named = [(name, p.numel()) for name, p in model.named_parameters() if p.requires_grad]
    head = sum(size for name, size in named if task.labels and in_head(name))
    run.log.emit(
        "ready",
        trainable=sum(size for _, size in named) - head,
        head=head,
        total=base.entry.shape.total,
        dtype=str(base.dtype).removeprefix("torch."),
        device=base.device,
        learning_rate=spec.learning_rate,
        rows=len(splits.train),
    )
    return Prepared(run, spec, method, task, base, model, rows, list(splits.test[: spec.eval_rows]))


def _needed(spec: RunSpec, available: int) -> list[int]:
    """The training rows that the steps will use: no more are encoded. Any prefix of a split is a fair sample."""
    return list(range(min(available, spec.steps * spec.batch)))


# -- learning ----------------------------------------------------------------------------------------------------


def _learn(ready: Prepared, masters: Masters, recorder: insight.Recorder) -> int:
    """All steps, or those before a stop; returns how many were made.

    Raises:
        RunError: a loss that is no number.
    """
    spec, run = ready.spec, ready.run
    optimizer = _optimizer(ready, masters)
    following = Following(ready.base, ready.model, spec, masters, optimizer, recorder, _attention(spec))
    snapshots = {round(spec.steps * part / SNAPSHOTS) for part in range(1, SNAPSHOTS + 1)}
    seed_everything(spec.seed)
    recorder.snapshot(0)
    if stopping.asked(run):
        return 0
    steps = fit(
        ready.model,
        ready.rows,
        batches.plan([len(row) for row in ready.rows], spec.steps, spec.batch, spec.seed),
        masters,
        optimizer,
        rate=lambda step: rate_at(step, spec.steps, spec.warmup, spec.schedule),
        clip=spec.clip,
        pad=loading.pad_token(ready.base.tokenizer),
        device=ready.base.device,
        follow=following.step,
    )
    for made in steps:
        _require_numbers(made, spec)
        report(run, made, following.measured)
        if made.step + 1 in snapshots:
            recorder.snapshot(made.step + 1)
        if stopping.asked(run):
            return made.step + 1
    return spec.steps


def _optimizer(ready: Prepared, masters: Masters) -> torch.optim.Optimizer:
    import torch

    spec, rate = ready.spec, ready.spec.learning_rate
    groups = masters.groups(
        rate, spec.head_learning_rate, lambda name: ready.method.rate_factor(name, spec.values)
    )
    return torch.optim.AdamW(groups, lr=rate, weight_decay=spec.weight_decay, fused=True)


def _require_numbers(made: Made, spec: RunSpec) -> None:
    if not math.isfinite(made.loss) or not math.isfinite(made.norm):
        raise RunError(
            f"At step {made.step + 1} the loss is no longer a number: {spec.learning_rate:g} is too high a learning "
            "rate."
        )


# -- comparing ---------------------------------------------------------------------------------------------------


def _compare(ready: Prepared, recorder: insight.Recorder) -> None:
    """Score the tuned model, note the method's picture, then score a fresh base. Raises Stopped."""
    examiner = Examiner(ready.task, ready.base.tokenizer, ready.spec.max_length, ready.base.device)
    _examine(ready, examiner, "tuned", ready.model)
    if ready.spec.compared:
        _inference_and_forgetting(ready, examiner)
    if ready.test:
        seen = ready.test[: recorder.rows]
        sample = batches.encode(ready.task, seen, ready.base.tokenizer, ready.spec.max_length)
        batch = batches.collate(sample, loading.pad_token(ready.base.tokenizer), ready.base.device)
        del batch["labels"]
        found = recorder.finish(
            ready.model, batch, lambda: fresh_base(ready.spec, ready.task, quantised=False).model
        )
        write_insight(ready.run, found)
    # One model in memory at a time: a large one would not fit twice.
    del recorder
    kind = ready.base.entry.kind
    ready.model = ready.base = None  # type: ignore[assignment]
    gc.collect()
    base = fresh_base(ready.spec, ready.task).model
    _examine(ready, examiner, "base", base)
    if ready.spec.compared and kind == "causal-lm":
        found = inference_forgetting.unrelated(examiner, base, lambda: _stop_if_asked(ready.run))
        ready.run.log.emit("unrelated", which="base", **found)


def _inference_and_forgetting(ready: Prepared, examiner: Examiner) -> None:
    """Time the tuned model beside the base in its own precision, and read it the unrelated text."""
    run = ready.run
    if ready.base.entry.kind == "causal-lm":
        found = inference_forgetting.unrelated(examiner, ready.model, lambda: _stop_if_asked(run))
        run.log.emit("unrelated", which="tuned", **found)
    if ready.test:
        plain = fresh_base(ready.spec, ready.task, quantised=False).model
        found = inference_forgetting.inference(
            examiner, plain, ready.model, ready.test, lambda: _stop_if_asked(run)
        )
        run.log.emit("inference", **found)


def _stop_if_asked(run: Run) -> None:
    if stopping.asked(run):
        raise Stopped


def _examine(ready: Prepared, examiner: Examiner, which: str, model: torch.nn.Module) -> None:
    log = ready.run.log
    if ready.spec.probes:
        answers = examiner.answer(model, ready.spec.probes)
        log.emit("probe", which=which, answers=[asdict(answer) for answer in answers])
    if not ready.test:
        return
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        _stop_if_asked(ready.run)
        if done in (0, total) or time.monotonic() - last > REPORT_EVERY:
            last = time.monotonic()
            log.emit("evaluating", which=which, done=done, total=total)

    log.emit("evaluated", which=which, **asdict(examiner.evaluate(model, ready.test, report)))
