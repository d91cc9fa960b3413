"""Ask base and tuned model of an ended run the same texts. Called through the inspector ``answers``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from peft_lab.classroom import places
from peft_lab.core import inspector
from peft_lab.core.asking import in_person
from peft_lab.core.errors import BadInput
from peft_lab.core.later import torch
from peft_lab.methods import get_method
from peft_lab.methods.shared import adapters_library as library_files
from peft_lab.runs import course, kept, record, store
from peft_lab.runs.spec import PROBE_CHARACTERS, RunRequest, entry_of
from peft_lab.training.evaluation import Examiner
from peft_lab.training.step import cast_added

FULL = "full"
KEPT = 2  # runs whose models stay loaded

_loaded: OrderedDict[Path, tuple[Examiner, torch.nn.Module, torch.nn.Module]] = OrderedDict()


def ask(identity: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Call :func:`respond` in the inspector process. Raises BadInput for an empty or too long text, and as there."""
    for text in texts:
        if not text.strip() or len(text) > PROBE_CHARACTERS:
            raise BadInput(f"The text has {len(text):,} characters. Enter 1 to {PROBE_CHARACTERS:,}.", "text")
    return inspector.get_inspector(inspector.Worker.ANSWERS).ask(respond, identity, list(texts))


@in_person
def respond(identity: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return the answers of a run's base and tuned model to each text.

    The first call for a run loads both models; those of the two latest runs stay loaded.

    Returns:
        ``{text, base, tuned}`` for each text; base and tuned are ``{text, answer, scores}``: a label and all labels'
        probabilities, or generated text and no scores.

    Raises:
        RunError: no such run, or its adapter is missing or damaged. BadInput: its model's folder has changed
            since, or its models read images.
    """
    examiner, base, tuned = _models(identity)
    pairs = zip(examiner.answer(base, texts), examiner.answer(tuned, texts), strict=True)
    return [{"text": first.text, "base": asdict(first), "tuned": asdict(second)} for first, second in pairs]


def _models(identity: str) -> tuple[Examiner, torch.nn.Module, torch.nn.Module]:
    run = store.get(identity)
    if run.folder in _loaded:
        _loaded.move_to_end(run.folder)
        return _loaded[run.folder]
    kept.kept_adapter(run.folder)
    kept.require_same_model(run.spec, record.inputs_of(run.events()))
    while len(_loaded) >= KEPT:
        _loaded.popitem(last=False)
    spec = run.spec
    task = spec.task_object()
    if task.images:
        raise BadInput("The models of this run take images as input, so they cannot answer text.", "text")
    base, second = course.fresh_base(spec, task), course.fresh_base(spec, task)
    tuned = get_method(spec.method).load(second.model, run.adapter)
    cast_added(tuned, base.dtype)
    _loaded[run.folder] = course.examiner_of(spec, task, base), base.model.eval(), tuned.eval()
    return _loaded[run.folder]


@lru_cache(maxsize=1)
def _base(model: str, task: str) -> tuple[Examiner, torch.nn.Module]:
    spec = RunRequest(model, FULL, task).complete()
    base = course.fresh_base(spec, spec.task_object())
    return course.examiner_of(spec, spec.task_object(), base), base.model.eval()


def base_answer(model: str, task: str, text: str) -> str:
    """Return what an untrained model answers to a text of a task; for a worker. Raises AssetError."""
    examiner, base = _base(model, task)
    return examiner.answer(base, [text])[0].answer


# ----------------------------------------
# Opening a folder that the adapters library saved: its knobs, and its score beside the base's.


OPENED_METHOD = "adapters"  # the method of such folders


def opened_values(place: Path, model: str) -> dict[str, Any]:
    """Return the knobs of the adapter in a folder, or a zip of one, on a model. Raises BadInput."""
    places.require_mine(place)
    return library_files.values_of(library_files.read_content(place), entry_of(model).shape)


def require_adapters(method: str) -> None:
    """Check that the method is the one whose folders a run can start from. Raises BadInput if not."""
    if method != OPENED_METHOD:
        raise BadInput(
            f"--start continues bottleneck adapters (method '{OPENED_METHOD}'). Leave --method {method} out.",
            "method",
        )


def opened_request(
    place: Path, model: str, task: str, own_data: str | None = None, eval_rows: int | None = None
) -> RunRequest:
    """Return the request of a run that starts from the folder; its model before the first step is scored."""
    return RunRequest(
        model=model, method=OPENED_METHOD, task=task, values=opened_values(place, model), steps=1, eval_rows=eval_rows,
        own_data=own_data, start=str(place),
    )  # fmt: skip


@in_person
def opened_scores(
    place: str, model: str, task: str, own_data: str | None = None, eval_rows: int | None = None
) -> dict[str, Any]:
    """Score base and opened adapter on the same held-out rows; for a worker.

    Returns:
        ``{metric, rows, base, opened}``; base and opened are ``{metrics, loss, rows, seconds}``. A classifier's
        base has a randomly initialised head.

    Raises:
        BadInput: as :func:`opened_values`, or an unsuitable task. AssetError: a file has to be fetched first.
    """
    for given in (place, own_data):
        if given is not None:
            places.require_mine(given)
    spec = opened_request(Path(place), model, task, own_data, eval_rows).complete()
    ready = course.prepare(spec)
    examines = course.examiner(ready)
    tuned = examines.evaluate(ready.model.eval(), ready.test)
    del ready.model
    base = examines.evaluate(course.fresh_base(spec, ready.task).model.eval(), ready.test)
    return {"metric": ready.task.metric, "rows": tuned.rows, "base": asdict(base), "opened": asdict(tuned)}
