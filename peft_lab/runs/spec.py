"""Define what to train, as data: a :class:`RunRequest` is checked and completed before anything runs, and stored
with the run as a :class:`RunSpec`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from peft_lab.core import content, inspector, limits
from peft_lab.core.errors import BadInput
from peft_lab.core.form import Form, choice, number, required, whole
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.shared import adapters_library as library_files
from peft_lab.models import catalogue as models
from peft_lab.models import own as own_models
from peft_lab.models.loading import weights_of
from peft_lab.models.shapes import ModelEntry, a_model
from peft_lab.runs import measuring, preview
from peft_lab.training import tasks
from peft_lab.training.tasks import apart, hub, own
from peft_lab.training.tasks.base import Task

Schedule = Literal["linear", "cosine", "constant"]  # the last only in a plan's scripts
BATCH = {"classification": 32, "tagging": 32, "generation": 8, "chat": 8}
# Few where answers are generated: 24 took 5.3 s on two cores (SmolLM2, bench/RESULTS.md).
_EVAL_ROWS = {"classification": 1000, "tagging": 1000, "generation": 24, "chat": 24}
_COMPARED_ROWS = 64  # what two runs are told apart by
_IMAGES = 500  # all that the digits hold out
PROBES = 8
PROBE_CHARACTERS = 2000
SHORTEST = 8
_TERMS = "as its page on the hub says"


def usual_eval_rows(kind: str, model_kind: str, *, compared: bool = False) -> int:
    """Return the default number of held-out rows; a run that is ``compared`` with others is scored on more."""
    rows = _IMAGES if model_kind == "vision" else _EVAL_ROWS[kind]
    return max(rows, _COMPARED_ROWS) if compared else rows


@dataclass(frozen=True)
class RunRequest(Form):
    """A request for one training run; fields that are ``None`` or left out get the default for model, method and task.

    Attributes:
        model: a live catalogue name, a Hugging Face id or a local folder. values: the method's knobs.
        seed: of the head, the method's start, the order of rows and dropout. Equal specs give equal curves.
        head_learning_rate: ``None`` in a spec without a head.
        eval_rows: held-out rows to score base and tuned model on, at most what the task has; 0 skips scoring.
        own_data: for the task ``own``: the learner's file, or a dataset of the hub
            (:mod:`peft_lab.training.tasks.hub`), whose rows :meth:`complete` fetches. own_source: that dataset with
            its commit.
        start: a folder of the adapters library (or a zip of one) whose adapter is trained further, with its settings.
        probes: the learner's sentences, answered by base and tuned model.
        compared: also measure what a comparison of methods needs (:mod:`peft_lab.runs.measuring`).
    """

    model: str
    method: str
    task: str
    values: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = whole(
        None, "Steps", "Optimizer steps. The default is enough to see the model learn.",
        least=1, most=limits.STEPS, empty="the method's default",
    )  # fmt: skip
    batch: int | None = whole(
        None, "Batch size", "Rows per optimizer step. More rows need more memory.",
        least=1, most=limits.BATCH, empty="the task's default",
    )  # fmt: skip
    seed: int = whole(
        0, "Seed",
        "Sets the initial weights, the order of the rows and dropout. The same seed gives the same curve.",
        least=0, most=2**32 - 1,
    )  # fmt: skip
    learning_rate: float | None = number(
        None, "Learning rate",
        "The highest rate of the schedule. PEFT methods need far higher rates than full fine-tuning.",
        above=0, most=limits.RATE, empty="the method's default", alias="lr",
    )  # fmt: skip
    head_learning_rate: float | None = number(
        None, "Learning rate of the head", "The highest rate for the task head, which starts at random.",
        above=0, most=limits.RATE, empty="the method's default",
    )  # fmt: skip
    max_length: int | None = whole(
        None, "Maximum length", "Tokens per row. Longer rows are cut.",
        least=SHORTEST, most=1_000_000, empty="the task's default",
    )  # fmt: skip
    schedule: Schedule = choice(
        "linear", "Schedule", "How the learning rate falls to zero.", {"linear": "linear", "cosine": "cosine"}
    )
    warmup: float = number(
        0.1, "Warm-up", "Share of the steps during which the learning rate rises.", least=0, most=0.9
    )
    weight_decay: float = number(0.0, "Weight decay", "Weight decay of AdamW.", least=0, most=1)
    clip: float = number(
        1.0, "Clipping", "Gradients are scaled down to this norm. 0: no clipping.", least=0, most=1000
    )
    eval_rows: int | None = whole(
        None, "Held-out rows",
        "These rows score the base and the tuned model; no run trains on them. More rows give more reliable scores.",
        least=0, most=limits.HELD_OUT_ROWS, empty="the task's default", alias="rows",
    )  # fmt: skip
    own_data: str | None = None
    own_source: str | None = None
    start: str | None = None
    probes: tuple[str, ...] = ()
    compared: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "values": dict(self.values), "probes": list(self.probes)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from the output of :meth:`to_dict`, also after JSON. Raises BadInput."""
        told = content.read_typed(cls, data, "A run")
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in data.get("values", {}).items()}
        return cls(**{**told, "values": values})

    def task_object(self) -> Task:
        """Return the task, or the learner's file as one. Raises UnknownName, BadInput."""
        if self.task != own.NAME:
            return tasks.get_task(self.task)
        if self.own_data is None:
            raise BadInput(
                "The task 'own' needs your data. Give a CSV or JSON Lines file (text,label or prompt,completion, "
                "or messages), tagged words (JSON Lines with tokens,tags or CoNLL) or a folder of images.",
                "own_data",
            )
        task = apart.load_file(self.own_data)
        return (
            task
            if self.own_source is None
            else replace(task, source=hub.source(self.own_source), license=_TERMS)
        )

    def complete(self) -> RunSpec:
        """Return the request as a spec, every default filled in. Raises BadInput, whose ``field`` names the first
        setting that cannot work, or AssetError (weights or sentences have to be fetched first)."""
        if self.task == own.NAME and self.own_data is not None and hub.is_hub(self.own_data):
            path, fetched = hub.kept_hub_file(self.own_data)
            return replace(self, own_data=path, own_source=str(fetched.asked)).complete()
        spec, entry, task = get_method(self.method), entry_of(self.model), self.task_object()
        if models.looks_external(self.model):
            own_models.require(self.model)
        else:
            weights_of(self.model)
        if task.images and entry.kind == "vision":
            _check_images(self, entry)
        if entry.kind not in task.model_kinds:
            raise BadInput(_mismatch(entry, task), "task")
        values = spec.require(entry.shape, spec.task_values(task.start_text) | dict(self.values))
        if self.start is not None:
            _require_start(Path(self.start), entry, spec, values, task)
        rate = spec.learning_rate(entry.kind, values) if self.learning_rate is None else self.learning_rate
        # a new head needs larger steps than most methods, or it decides the comparison
        asked, usual = self.head_learning_rate, spec.head_learning_rate
        head_rate = None if task.writes else asked if asked is not None else rate if usual is None else usual
        found: dict[str, Any] = {
            "values": values,
            "steps": spec.usual_steps(entry.kind) if self.steps is None else self.steps,
            "batch": BATCH[task.kind] if self.batch is None else self.batch,
            "learning_rate": rate,
            "head_learning_rate": head_rate,
            "max_length": _length(task, entry, spec, values) if self.max_length is None else self.max_length,
            "eval_rows": usual_eval_rows(task.kind, entry.kind, compared=self.compared)
            if self.eval_rows is None
            else self.eval_rows,
        }
        full = RunSpec(**{**vars(self), **found})
        _check_ranges(full, entry, spec)
        task.load()
        if task.kind == "chat":
            preview.require(full.model, str(full.own_data), full.max_length)
        if self.compared and entry.kind == "causal-lm":
            tasks.get_task(measuring.UNRELATED_TASK).load()
        return full


@dataclass(frozen=True)
class RunSpec(RunRequest):
    """One complete training run, made by :meth:`RunRequest.complete` and stored with the run."""

    steps: int = required(RunRequest, "steps")
    batch: int = required(RunRequest, "batch")
    learning_rate: float = required(RunRequest, "learning_rate")
    max_length: int = required(RunRequest, "max_length")
    eval_rows: int = required(RunRequest, "eval_rows")

    @property
    def entry(self) -> ModelEntry:
        """Return the model. Raises BadInput if it is gone: a folder that was deleted since."""
        return entry_of(self.model)

    @property
    def watched(self) -> bool:
        """Return whether a learner follows its answers: they gave a sentence. Sweeps and comparisons have none."""
        return bool(self.probes)

    @property
    def method_spec(self) -> MethodSpec:
        """Return the method."""
        return get_method(self.method)


def _check_ranges(run: RunSpec, entry: ModelEntry, spec: MethodSpec) -> None:
    room = _room(entry, spec, run.values)
    if entry.kind != "vision" and room is not None:
        replace(run.field("max_length"), max=room).check(run.max_length)
    run.check()
    if len(run.probes) > PROBES:
        raise BadInput(
            f"A run can answer at most {PROBES} sentences, not {len(run.probes)}. Remove some.", "probes"
        )
    for probe in run.probes:
        if not probe.strip() or len(probe) > PROBE_CHARACTERS:
            message = f"A sentence to answer has {len(probe)} characters. Use 1 to {PROBE_CHARACTERS}."
            raise BadInput(message, "probes")


def _require_start(
    place: Path, entry: ModelEntry, spec: MethodSpec, values: Mapping[str, Any], task: Task
) -> None:
    """Check that the folder can be opened and has the run's settings. Raises BadInput if not."""
    if spec.slug != "adapters":
        raise BadInput(
            f"A folder of the adapters library needs the method 'adapters', not '{spec.slug}'.",
            "start",
        )
    found = library_files.values_of(library_files.read_content(place), entry.shape)
    for name, value in found.items():
        if values[name] != value:
            raise BadInput(
                f"The folder has {name} {value}, but the settings have {values[name]}. Set {name} to {value}.",
                name,
            )
    labels = library_files.labels_of(place)
    if not task.writes and labels and labels != task.labels:
        raise BadInput(
            f"The folder's head has the labels {', '.join(labels)}, but '{task.name}' has {', '.join(task.labels)}.",
            "start",
        )


def _check_images(run: RunRequest, entry: ModelEntry) -> None:
    """Check that a vision model gets no settings for texts. Raises BadInput if it does."""
    limit = entry.shape.max_positions
    if run.max_length not in (None, limit):
        raise BadInput(
            f"For {entry.title}, an image always has {limit:,} positions. Leave the maximum length out.",
            "max_length",
        )
    if run.probes:
        raise BadInput(f"{entry.title} reads images, not text. Remove the sentence to answer.", "probes")


def entry_of(name: str) -> ModelEntry:
    """Return the model by name; if outside the catalogue, read in the inspector, as that imports torch."""
    if not models.looks_external(name):
        return models.resolve(name)
    return inspector.ask(models.resolve, name)


def _mismatch(entry: ModelEntry, task: Task) -> str:
    writers, own_kind = " or ".join(map(a_model, task.model_kinds)), a_model(entry.kind)
    does = f"needs {writers}" if task.writes else "needs an encoder"
    fitting = [other.name for other in tasks.all_tasks() if entry.kind in other.model_kinds]
    if task.images:
        return f"'{task.name}' has images and needs a model that reads them; {entry.title} is {own_kind}."
    if entry.kind == "vision":
        does = f"{does}; {entry.title} is {own_kind}"
        return f"'{task.name}' {does}. Choose {', '.join(fitting)}, or your own folder of images."
    return f"'{task.name}' {does}; {entry.title} is {own_kind}. Choose {', '.join(fitting)}."


def _room(entry: ModelEntry, spec: MethodSpec, values: Mapping[str, Any]) -> int | None:
    """Return the positions left for text; ``None`` for models without a fixed number of them."""
    limit = entry.shape.max_positions
    return None if limit is None else limit - spec.virtual_tokens(values)


def _length(task: Task, entry: ModelEntry, spec: MethodSpec, values: Mapping[str, Any]) -> int:
    room = _room(entry, spec, values)
    if entry.kind == "vision":  # every image takes them all
        return int(room or 1)
    return task.max_length if room is None else min(task.max_length, room)
