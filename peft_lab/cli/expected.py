"""How long ``train`` will take: said before it starts, once this machine was measured, as Train's button says it."""

from __future__ import annotations

from contextlib import suppress

from peft_lab.cli import output
from peft_lab.errors import PeftLabError
from peft_lab.models.catalogue import resolve
from peft_lab.runs import forecast, said, store
from peft_lab.runs.forecast import Forecast
from peft_lab.runs.run_work import run_work
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.timing import here
from peft_lab.workers import inspector


def tell(spec: RunSpec) -> Forecast | None:
    """Say it on stderr; ``None`` where nothing is said: before the machine was measured, and of runs of a kind that is
    not predicted. Why a run of another kind cannot be is said instead."""
    if not here.complete() or not forecast.predicts(resolve(spec.model).kind, spec.task):
        return None
    try:
        work = inspector.get_inspector(inspector.Worker.MEMORY).ask(run_work, spec.to_dict())
        past = store.summaries()
        found = forecast.forecast(work, spec, past)
    except PeftLabError as error:
        output.note(f"note: how long it will take is not known: {error}")
        return None
    words = said.told(found.seconds, said.errors(line.kept for line in past))
    output.note(f"Train: {words}. {said.made_of(found.like)}")
    return found


def keep(run: Run, found: Forecast | None) -> None:
    """Keep with the run what was said of it."""
    if found is not None:
        with suppress(OSError):  # a run trains no worse where that cannot be written
            forecast.note(run, found)
