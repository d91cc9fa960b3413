"""Everything that is known of a run that has ended, checked for what an exported file relies on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec, TaskType, classifying_task, plain_task
from peft_lab.models.assets.pins import Asset
from peft_lab.models.assets.store import ASSETS
from peft_lab.models.catalogue import ModelEntry
from peft_lab.models.loading import attention_for
from peft_lab.models.own import is_folder
from peft_lab.runs.spec import RunSpec, entry_of
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.takeaway.calls import PeftCall, peft_call
from peft_lab.training.tasks.base import Row, Task

# What the written training loop follows. A setting added later has to be written there before it may be used here.
# "compared" asks a run for further measurements and changes nothing in what it learns.
_FOLLOWED = frozenset(
    {
        "model", "method", "task", "values", "steps", "batch", "seed", "learning_rate", "head_learning_rate",
        "max_length", "schedule", "warmup", "weight_decay", "clip", "eval_rows", "own_data", "own_source", "probes",
        "start", "compared",
    }
)  # fmt: skip


@dataclass(frozen=True)
class RunOutcome:
    """One run and what came of it: what its adapter's model card tells.

    Attributes:
        values: all knobs. record: the figures at the end (record.py of the runs).
    """

    run: Run
    spec: RunSpec
    method: MethodSpec
    entry: ModelEntry
    task: Task
    values: Mapping[str, Any]
    record: Mapping[str, Any]

    @property
    def classifies(self) -> bool:
        return self.task.kind == "classification"

    @property
    def chats(self) -> bool:
        return self.task.kind == "chat"

    @property
    def task_type(self) -> TaskType:
        return classifying_task(self.entry.kind) if self.classifies else plain_task(self.entry.kind)

    @property
    def apart(self) -> bool:
        """Whether an encoder reads the prompts and a decoder of its own writes."""
        return self.entry.kind == "seq2seq"

    @property
    def loader(self) -> str:
        """The end of the transformers class that loads the base: ``AutoModelFor`` and this."""
        if self.task.images:
            return "ImageClassification"
        return "SequenceClassification" if self.classifies else "Seq2SeqLM" if self.apart else "CausalLM"

    @property
    def dtype(self) -> str:
        return str(self.record["dtype"])

    @property
    def attention(self) -> str:
        """The attention implementation that the run computed with."""
        return attention_for(str(self.record["device"]), self.spec.max_length, self.entry)

    @property
    def mixed(self) -> bool:
        """Whether the model computes in 16 bits and the optimizer remembers in 32."""
        return self.dtype != "float32"

    @property
    def made(self) -> int:
        """Optimizer steps that were made: fewer than asked for when the run was stopped."""
        return len(self.record["loss"])

    @property
    def scored(self) -> bool:
        """Whether both models were scored on held-out rows."""
        return all(self.record["evaluation"].values())

    @property
    def asset(self) -> Asset | None:
        """The pinned file that the weights came from; ``None`` for a model of the learner's own."""
        return ASSETS.get(self.spec.model)

    @property
    def hub_id(self) -> str:
        """Hugging Face id of the base, or the last part of a folder's path: the rest is this machine's alone."""
        if self.asset and self.asset.hub_id:
            return self.asset.hub_id
        return Path(self.spec.model).resolve().name if self.unnamed else self.spec.model

    @property
    def unnamed(self) -> bool:
        """Whether the base is a folder of the learner's, without a name that others could fetch it by."""
        return is_folder(self.spec.model)


@dataclass(frozen=True)
class Facts(RunOutcome):
    """One run with what repeats it.

    Attributes:
        call: the PEFT config; ``None`` for a method that PEFT does not have.
        train: the rows that the steps drew from. test: the rows that were scored.
    """

    call: PeftCall | None
    train: tuple[Row, ...]
    test: tuple[Row, ...]


def outcome(run: Run, entry: ModelEntry | None = None) -> RunOutcome:
    """What is known of a run whose record is written. ``entry``: its model, where it is at hand.

    Raises:
        BadInput: settings that are not what they were. RunError: a folder that cannot be read.
    """
    spec = run.spec
    method, entry = get_method(spec.method), entry or entry_of(spec.model)
    return RunOutcome(
        run=run,
        spec=spec,
        method=method,
        entry=entry,
        task=spec.task_object(),
        values=method.require(entry.shape, spec.values),
        record=run.record(),
    )


def gather(run: Run) -> Facts:
    """The facts of a run that has ended.

    Raises:
        BadInput: a run that has not ended, failed or made no step; rows or settings that are not what they were.
        RunError: a folder that cannot be read. AssetError: sentences that have to be fetched again.
    """
    spec, record = run.spec, run.record()
    _require_ended(run, record)
    for field in fields(spec):
        if field.name not in _FOLLOWED and getattr(spec, field.name) != field.default:
            raise BadInput(f"A script cannot repeat the setting '{field.name}' yet.", field.name)
    known = outcome(run)
    method, entry, task, values = known.method, known.entry, known.task, known.values
    splits = task.load()
    ready = run.view().ready
    if ready.get("rows", len(splits.train)) != len(splits.train):
        raise BadInput(
            f"The run learned from {ready['rows']:,} rows of '{task.name}' and there are {len(splits.train):,} now, "
            "so its batches cannot be repeated.",
            "task",
        )
    drawn = min(len(splits.train), spec.steps * spec.batch)
    return Facts(
        **{field.name: getattr(known, field.name) for field in fields(known)},
        call=peft_call(entry, method, values, known.task_type),
        train=splits.train[:drawn],
        test=splits.test[: spec.eval_rows],
    )


def _require_ended(run: Run, record: Mapping[str, Any]) -> None:
    status = record.get("status")
    if status not in (Status.DONE, Status.STOPPED):
        known = run.view().status
        reason = (
            f"it is {known}" if not known.final else f"it {'was lost' if known is Status.LOST else known}"
        )
        raise BadInput(f"'{run.id}' has no result to take away: {reason}.", "run")
    if not record["loss"]:
        raise BadInput(f"'{run.id}' was stopped before its first step: there is nothing to repeat.", "run")
