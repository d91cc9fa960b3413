"""Collect what is known of an ended run, and check what an exported file relies on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.models.assets.fetching import Asset
from peft_lab.models.assets.store import ASSETS
from peft_lab.models.heads import AUTO_CLASSES, TaskType
from peft_lab.models.loading import attention_for
from peft_lab.models.own import is_folder
from peft_lab.models.shapes import ModelEntry
from peft_lab.runs.spec import RunSpec, entry_of
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.takeaway.applied import PeftCall, peft_call
from peft_lab.training.tasks.base import Row, Task

# The settings that the written training loop implements. A new setting must be written there before it is added
# here. "compared" asks for further measurements and does not change the training.
_FOLLOWED = frozenset(
    {
        "model", "method", "task", "values", "steps", "batch", "seed", "learning_rate", "head_learning_rate",
        "max_length", "schedule", "warmup", "weight_decay", "clip", "eval_rows", "own_data", "own_source", "probes",
        "start", "compared",
    }
)  # fmt: skip


@dataclass(frozen=True)
class RunOutcome:
    """One run and its results, as its model card needs them.

    Attributes:
        values: all knobs. record: the final figures, of :mod:`peft_lab.runs.record`.
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
        """Return whether a task head answers, for the row or for every token."""
        return not self.task.writes

    @property
    def chats(self) -> bool:
        return self.task.kind == "chat"

    @property
    def task_type(self) -> TaskType:
        return self.task.task_type(self.entry.kind)

    @property
    def apart(self) -> bool:
        """Return whether the model is an encoder-decoder: one reads the prompt, the other writes."""
        return self.entry.kind == "seq2seq"

    @property
    def loader(self) -> str:
        """Return the name of the transformers class that loads the base."""
        return AUTO_CLASSES[self.task_type]

    @property
    def replaces_head(self) -> bool:
        """Return whether the model may come with a head for other classes, which is replaced."""
        return self.task.images or (self.classifies and not self.entry.live)

    @property
    def dtype(self) -> str:
        return str(self.record["dtype"])

    @property
    def attention(self) -> str:
        """Return the attention implementation that the run used."""
        return attention_for(str(self.record["device"]), self.spec.max_length, self.entry)

    @property
    def mixed(self) -> bool:
        """Return whether the model computes in 16 bits with the optimizer in 32."""
        return self.dtype != "float32"

    @property
    def made(self) -> int:
        """Return how many optimizer steps were made: fewer than requested if the run was stopped."""
        return len(self.record["loss"])

    @property
    def scored(self) -> bool:
        """Return whether both base and tuned model were scored on held-out rows."""
        return all(self.record["evaluation"].values())

    @property
    def asset(self) -> Asset | None:
        """Return the pinned file that the weights came from; ``None`` for the learner's own model."""
        return ASSETS.get(self.spec.model)

    @property
    def hub_id(self) -> str:
        """Return the base's Hugging Face id, or only the last part of a folder's path, as the rest is private."""
        if self.asset and self.asset.hub_id:
            return self.asset.hub_id
        return Path(self.spec.model).resolve().name if self.unnamed else self.spec.model

    @property
    def base_at(self) -> str:
        """Return where the base came from, as text."""
        return "a folder on the trainer's machine" if self.unnamed else self.entry.source

    @property
    def pipeline(self) -> str:
        """Return what the tuned model does, in Hugging Face's words."""
        if self.task.images:
            return "image-classification"
        if self.task.per_token:
            return "token-classification"
        if self.classifies:
            return "text-classification"
        return "text2text-generation" if self.apart else "text-generation"

    @property
    def unnamed(self) -> bool:
        """Return whether the base is a learner's folder, without a public name."""
        return is_folder(self.spec.model)


@dataclass(frozen=True)
class RunFacts(RunOutcome):
    """One run with what is needed to repeat it.

    Attributes:
        call: the PEFT config; ``None`` for a method that PEFT does not have.
        train: the rows that the steps drew from. test: the rows that were scored.
    """

    call: PeftCall | None
    train: tuple[Row, ...]
    test: tuple[Row, ...]


def outcome(run: Run, entry: ModelEntry | None = None) -> RunOutcome:
    """Return the facts of a run whose record is written. ``entry``: its model, if already resolved. Raises BadInput if
    settings are no longer valid; RunError if a folder cannot be read."""
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


def gather(run: Run) -> RunFacts:
    """Return the facts of a run that has ended. Raises BadInput if the run has not ended, failed or made no step, or
    its rows or settings have changed; RunError if a folder cannot be read; AssetError if data must be downloaded
    again."""
    spec, record = run.spec, run.record()
    if record.get("status") not in (Status.DONE, Status.STOPPED):
        status = run.view().status
        verb = "was " if status is Status.LOST else "" if status.final else "is "
        raise BadInput(f"'{run.id}' has no result to export: it {verb}{status}.", "run")
    if not record["loss"]:
        raise BadInput(f"'{run.id}' was stopped before its first step, so there is nothing to repeat.", "run")
    for field in fields(spec):
        if field.name not in _FOLLOWED and getattr(spec, field.name) != field.default:
            raise BadInput(f"A script cannot repeat the setting '{field.name}'.", field.name)
    known = outcome(run)
    method, entry, task, values = known.method, known.entry, known.task, known.values
    splits = task.load()
    ready = run.view().ready
    if ready.get("rows", len(splits.train)) != len(splits.train):
        raise BadInput(
            f"The run learned from {ready['rows']:,} rows of '{task.name}', and now there are {len(splits.train):,}, "
            "so its batches cannot be repeated.",
            "task",
        )
    drawn = min(len(splits.train), spec.steps * spec.batch)
    return RunFacts(
        **{field.name: getattr(known, field.name) for field in fields(known)},
        call=peft_call(entry, method, values, known.task_type),
        train=splits.train[:drawn],
        test=splits.test[: spec.eval_rows],
    )
