"""The score of a base model before training, stored for later runs that begin from the same base.

A score is looked up by everything it depends on: the bytes of weights and tokenizer, the rows and how they are cut,
how answers are written, precision, kernel, device and threads, the versions of the packages, and the seed where a
task adds a head with a random start. Scores lie in ``scores`` beside the runs, in a class in each learner's own
folder, because they hold the learner's sentences. A file that cannot be read is ignored: the base is scored again.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.classroom import places
from peft_lab.core import disk, kinds, machine
from peft_lab.methods import get_method
from peft_lab.runs import course
from peft_lab.runs.record import versions
from peft_lab.runs.spec import RunSpec
from peft_lab.training.evaluation import ROWS_AT_ONCE, Answer, Evaluation
from peft_lab.training.tasks.base import Row, Task

if TYPE_CHECKING:
    import torch

VERSION = 2  # of the scoring procedure; scores of other versions are ignored
_EVALUATION = {"metrics": dict[str, float], **dict.fromkeys(("loss", "rows", "seconds"), float)}
_ANSWER = {"text": str, "answer": str, "scores": dict[str, float]}


@dataclass
class BaseScore:
    """The known score of one base: its held-out results, and its answers to the learner's sentences, by text.

    Attributes:
        key: what it depends on. run: id of the run that scored it.
    """

    key: Mapping[str, Any]
    evaluation: Evaluation | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    run: str = ""

    def said(self, texts: Sequence[str]) -> list[Answer] | None:
        """Return the answers to all of the texts; ``None`` if one is missing."""
        found = [self.answers[text] for text in texts if text in self.answers]
        return found if len(found) == len(texts) else None

    def complete(self, texts: Sequence[str], rows: int) -> bool:
        """Return whether answers to the texts and, if ``rows`` is not 0, held-out results are all known."""
        return self.said(texts) is not None and (not rows or self.evaluation is not None)


def key_of(ready: course.Prepared, files: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that the score of a run's base depends on.

    Args:
        files: SHA-256 of what the run was made from (:func:`peft_lab.runs.kept.input_hashes`).
    """
    import torch

    return key_ahead(ready.spec, ready.task, ready.test, files, ready.base.dtype, torch.get_num_threads())


def key_ahead(
    spec: RunSpec, task: Task, test: Sequence[Row], files: Mapping[str, Any], dtype: torch.dtype, threads: int
) -> dict[str, Any]:
    """Return :func:`key_of` before loading, given the base's ``dtype`` and the process's ``threads``."""
    stored = get_method(spec.method).quantization(spec.values)
    return {
        "version": VERSION,
        "model": spec.model,
        "files": {name: files[name] for name in sorted(files)},
        "task": task.name,
        "rows": _rows_hash(task, test),
        "max_length": spec.max_length,
        "max_new_tokens": task.max_new_tokens,
        "rows_at_once": ROWS_AT_ONCE[task.kind],
        "seed": spec.seed if task.labels else None,
        "quantization": None if stored is None else asdict(stored),
        "attention": course.attention_for(spec),
        "dtype": str(dtype),
        "device": machine.in_use().describe(),
        "processor": [machine.processor(), platform.machine()],
        "threads": threads,
        "packages": versions(),
    }


def find(key: Mapping[str, Any]) -> BaseScore:
    """Return the stored score of the base with this key; an empty one if missing or unreadable."""
    data = disk.read_json(_path(key), {})
    if data.get("key") != _plain(key) or kinds.misfit(_FILE, data):
        return BaseScore(key)
    found, answers = data["evaluation"], data["answers"]
    if (found and kinds.misfit(_EVALUATION, found)) or any(kinds.misfit(_ANSWER, each) for each in answers):
        return BaseScore(key)
    evaluation = Evaluation(**{name: found[name] for name in _EVALUATION}) if found else None
    given = [Answer(**{name: each[name] for name in _ANSWER}) for each in answers]
    return BaseScore(key, evaluation, {each.text: each for each in given}, data["run"])


def keep(score: BaseScore) -> None:
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


def _plain(key: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(key))


def _rows_hash(task: Task, rows: Sequence[Row]) -> str:
    content = json.dumps(
        [task.labels, [[row.text, row.target, *([row.turns] if row.turns else [])] for row in rows]]
    )
    return hashlib.sha256(content.encode()).hexdigest()
