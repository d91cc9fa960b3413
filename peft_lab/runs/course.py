"""Prepare, train, settle and score without a run folder, for runs and ``tools/sweep.py``; store scores of base
models."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peft_lab.classroom import places
from peft_lab.core import content, disk, machine
from peft_lab.core.errors import BadInput, in_short
from peft_lab.core.later import torch
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.shared import adapters_library as library_files
from peft_lab.models import loading
from peft_lab.models.catalogue import looks_external, resolve
from peft_lab.runs.record import versions
from peft_lab.runs.spec import RunSpec
from peft_lab.training import batches
from peft_lab.training.batches import Encoded
from peft_lab.training.evaluation import ROWS_AT_ONCE, Evaluation, Examiner, ModelAnswer
from peft_lab.training.step import Made, Masters, cast_added, fit, rate_at, unfollowed
from peft_lab.training.tasks.base import Row, Task


@dataclass
class Prepared:
    """A training that is ready for its first step. ``rows``: those that the steps will use, encoded. ``available``: how
    many training rows the task has. ``test``: held-out rows to score on."""

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
    labels = None if task.writes else len(task.labels)
    quantization = method.quantization(spec.values) if quantised else None
    attention = attention_for(spec)
    base = loading.load_base(spec.model, labels, quantization, attention=attention, per_token=task.per_token)
    if labels is not None:
        config: Any = base.model.config
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: number for number, label in enumerate(task.labels)}
    return base


def attention_for(spec: RunSpec) -> str:
    """Return the attention kernel of the device in use, for rows of the run's length."""
    return loading.attention_for(machine.in_use().kind, spec.max_length, resolve(spec.model))


def prepare(spec: RunSpec, begins: Callable[[str], object] = lambda phase: None) -> Prepared:
    """Load the model, apply the method, encode the rows; call ``begins`` with each phase's name. Raises
    PeftLabError."""
    method, task = get_method(spec.method), spec.task_object()
    begins("Loading the model")
    base = fresh_base(spec, task)
    seed_everything(spec.seed)
    model = method.apply(base.model, base.entry.shape, spec.values, task.task_type(base.entry.kind))
    if spec.start is not None:
        library_files.put_adapter(model, base.entry.shape, Path(spec.start), task.task_type(base.entry.kind))
    cast_added(model, base.dtype)
    begins("Reading the images" if task.images else "Reading the sentences")
    splits = task.load()
    train = splits.train[: spec.steps * spec.batch]  # any prefix of a split is a fair sample
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
            f"The tokenizer of {base.entry.title} produces token {highest:,}, but the model's weights have only "
            f"{known:,} tokens. Use the tokenizer that belongs to the weights.",
            "model",
        )


def _require_numbers(model: torch.nn.Module, row: Encoded, base: loading.Base) -> None:
    """Check that a model from outside the catalogue computes a finite loss before training. Raises BadInput."""
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
            f"The loss of {title} is {loss} before training. Look for NaN, infinite or huge values in the model's "
            "weights and config.",
            "model",
        )


def planned_batches(spec: RunSpec, passes: int | None = None) -> list[list[Encoded]]:
    """Return the rows of each batch that a run on texts will make, encoded, without loading its model's weights.
    ``passes``: over the rows, at most; ``None``: all steps."""
    task, entry = spec.task_object(), resolve(spec.model)
    tokenizer, start = loading.load_tokenizer(loading.weights_of(spec.model)), loading.decoder_start(entry)
    train = task.load().train
    most = spec.steps if passes is None else min(spec.steps, -(-passes * len(train) // spec.batch))
    needed = [train[number] for number in range(min(len(train), most * spec.batch))]
    rows = batches.encode(task, needed, tokenizer, spec.max_length, start)
    order = batches.plan([len(row) for row in rows], most, spec.batch, spec.seed)
    return [[rows[number] for number in numbers] for numbers in order]


def steps(
    ready: Prepared,
    masters: Masters,
    optimizer: torch.optim.Optimizer,
    follow: Callable[..., Any] = unfollowed,
    restore: Callable[[], int] = lambda: 0,
) -> Iterator[Made]:
    """Seed, then make the steps lazily. ``restore``: restores a checkpoint and returns how many steps it had made."""
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
    return examiner_of(ready.spec, ready.task, ready.base)


def examiner_of(spec: RunSpec, task: Task, base: loading.Base) -> Examiner:
    """Return the examiner of a task for models made from this base."""
    return Examiner(task, base.tokenizer, spec.max_length, base.device, loading.decoder_start(base.entry))


# A score is looked up by everything it depends on: the bytes of weights and tokenizer, the rows and how they are cut,
# how answers are written, precision, kernel, device and threads, the versions of the packages, and the seed if a task
# adds a head with a random start. Scores are stored in ``scores`` beside the runs, in a class in each learner's own
# folder, because they hold the learner's sentences. A file that cannot be read is ignored: the base is scored again.


BASE_SCORE_VERSION = 3  # of the scoring procedure; scores of other versions are ignored
_EVALUATION = {"metrics": dict[str, float], **dict.fromkeys(("loss", "rows", "seconds"), float)}
_ANSWER = {"text": str, "answer": str, "scores": dict[str, float]}


@dataclass
class BaseScore:
    """The known score of one base: its held-out results, and its answers to the learner's sentences, by text. ``key``:
    what it depends on. ``run``: id of the run that scored it."""

    key: Mapping[str, Any]
    evaluation: Evaluation | None = None
    answers: dict[str, ModelAnswer] = field(default_factory=dict)
    run: str = ""

    def said(self, texts: Sequence[str]) -> list[ModelAnswer] | None:
        """Return the answers to all of the texts; ``None`` if one is missing."""
        found = [self.answers[text] for text in texts if text in self.answers]
        return found if len(found) == len(texts) else None

    def complete(self, texts: Sequence[str], rows: int) -> bool:
        """Return whether answers to the texts and, if ``rows`` is not 0, held-out results are all known."""
        return self.said(texts) is not None and (not rows or self.evaluation is not None)


def base_key_of(ready: Prepared, files: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that the score of a run's base depends on. ``files``: of
    :func:`~peft_lab.runs.kept.input_hashes`."""
    return base_key_ahead(
        ready.spec, ready.task, ready.test, files, ready.base.dtype, torch.get_num_threads()
    )


def base_key_ahead(
    spec: RunSpec, task: Task, test: Sequence[Row], files: Mapping[str, Any], dtype: torch.dtype, threads: int
) -> dict[str, Any]:
    """Return :func:`base_key_of` before loading, given the base's ``dtype`` and the process's ``threads``."""
    stored = get_method(spec.method).quantization(spec.values)
    rows = [[row.text, row.target, *([row.turns] if row.turns else [])] for row in test]
    return {
        "version": BASE_SCORE_VERSION,
        "model": spec.model,
        "files": {name: files[name] for name in sorted(files)},
        "task": task.name,
        "rows": hashlib.sha256(json.dumps([task.labels, rows]).encode()).hexdigest(),
        "max_length": spec.max_length,
        "max_new_tokens": task.max_new_tokens,
        "rows_at_once": ROWS_AT_ONCE[task.kind],
        "seed": spec.seed if task.labels else None,
        "quantization": None if stored is None else asdict(stored),
        "attention": attention_for(spec),
        "dtype": str(dtype),
        "device": machine.in_use().describe(),
        "processor": [machine.processor(), platform.machine()],
        "threads": threads,
        "packages": versions(),
    }


def find_base_score(key: Mapping[str, Any]) -> BaseScore:
    """Return the stored score of the base with this key; an empty one if missing or unreadable."""
    data = disk.read_json(_path(key), {})
    if data.get("key") != json.loads(json.dumps(key)) or content.misfit(_FILE, data):
        return BaseScore(key)
    found, answers = data["evaluation"], data["answers"]
    if (found and content.misfit(_EVALUATION, found)) or any(
        content.misfit(_ANSWER, each) for each in answers
    ):
        return BaseScore(key)
    evaluation = Evaluation(**{name: found[name] for name in _EVALUATION}) if found else None
    given = [ModelAnswer(**{name: each[name] for name in _ANSWER}) for each in answers]
    return BaseScore(key, evaluation, {each.text: each for each in given}, data["run"])


def keep_base_score(score: BaseScore) -> None:
    """Store the score for later runs. Raises OSError."""
    path = _path(score.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = None if score.evaluation is None else asdict(score.evaluation)
    answers = [asdict(each) for each in score.answers.values()]
    disk.write_json(path, {"key": score.key, "run": score.run, "evaluation": found, "answers": answers})


_FILE: Mapping[str, Any] = {"run": str, "evaluation": dict | None, "answers": list[dict[str, Any]]}


def _path(key: Mapping[str, Any]) -> Path:
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return places.mine() / "scores" / f"{name[:32]}.json"
