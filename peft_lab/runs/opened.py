"""A folder that the adapters library saved, opened: what it holds, and what it scores beside the base."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from peft_lab.classroom import places
from peft_lab.classroom.asking import in_person
from peft_lab.errors import BadInput
from peft_lab.methods.shared import adapters_files as library_files
from peft_lab.methods.shared import adapters_library as library
from peft_lab.runs import course
from peft_lab.runs.spec import RunRequest, entry_of

METHOD = "adapters"  # that such folders are of


def values(place: Path, model: str) -> dict[str, Any]:
    """The knobs of the adapter in a folder, or a zip of one, on a model.

    Raises:
        BadInput: it is not opened, belongs to another model, or, in a class, to somebody else.
    """
    places.require_mine(place)
    return library.values_of(library_files.read_content(place), entry_of(model).shape)


def require_adapters(method: str) -> None:
    """Let a run train on from such a folder. Raises BadInput for another method than that of such folders."""
    if method != METHOD:
        raise BadInput(
            f"--start goes on from bottleneck adapters, with the method '{METHOD}'; leave --method {method} out.",
            "method",
        )


def request(
    place: Path, model: str, task: str, own_data: str | None = None, eval_rows: int | None = None
) -> RunRequest:
    """A run that would train on from the folder, which is what is scored before its first step."""
    return RunRequest(
        model=model, method=METHOD, task=task, values=values(place, model), steps=1, eval_rows=eval_rows,
        own_data=own_data, start=str(place),
    )  # fmt: skip


@in_person
def scores(
    place: str, model: str, task: str, own_data: str | None = None, eval_rows: int | None = None
) -> dict[str, Any]:
    """Base and opened adapter on the same held-out rows; for a worker.

    Returns:
        ``{metric, rows, base, opened}``; base and opened are ``{metrics, loss, rows, seconds}``. Of a classifier the
        base's head is one that starts at random.

    Raises:
        BadInput: as :func:`values`, or a task that does not fit. AssetError: what has to be fetched first.
    """
    for given in (place, own_data):
        if given is not None:
            places.require_mine(given)
    spec = request(Path(place), model, task, own_data, eval_rows).complete()
    ready = course.prepare(spec)
    examines = course.examiner(ready)
    tuned = examines.evaluate(ready.model.eval(), ready.test)
    del ready.model
    base = examines.evaluate(course.fresh_base(spec, ready.task).model.eval(), ready.test)
    return {"metric": ready.task.metric, "rows": tuned.rows, "base": asdict(base), "opened": asdict(tuned)}
