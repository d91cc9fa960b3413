"""The peak memory of one step as a method's page shows it: simulated before a run, measured from then on."""

from __future__ import annotations

import filecmp
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from peft_lab.errors import BadInput, PeftLabError, RunError
from peft_lab.runs import store
from peft_lab.runs.expected import step_ahead
from peft_lab.runs.same import knobs_read
from peft_lab.runs.spec import RunSpec
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.method.sections import settings
from peft_lab.ui.method.sections.memory import ask_step, batch_words, step_now
from peft_lab.ui.runs.shown import last_finished, short_id, shown_run
from peft_lab.units import Finding, Source, size
from peft_lab.workers.pool import get_pool

# What decides which rows are in the measured batch, and how long they are.
OF_THE_BATCH = ("batch", "max_length", "seed", "steps")
URGENCY = 1  # after what an open Memory tab asks for


@dataclass(frozen=True)
class Expected:
    """What is asked of the simulation for the settings as they are.

    Attributes:
        answer: peak in bytes and what the step is; ``None`` where nothing can be asked.
        spec: what Train would train; ``None`` on a model that is not trained here.
        problem: why there is no answer.
    """

    answer: Future[Any] | None
    spec: RunSpec | None = None
    problem: str = ""


@dataclass(frozen=True)
class Peak:
    """One figure or, where there is none yet, what stands in its place."""

    finding: Finding | None
    note: str


def expect(choice: Choice) -> Expected:
    """Ask for the step that Train would measure; on a model that is not trained here, for the Memory tab's step."""
    if not choice.valid:
        return Expected(None, problem="No figure: one of the settings below does not work.")
    try:
        spec = settings.planned(choice)
    except PeftLabError as error:
        return Expected(None, problem=str(error))
    if spec is not None:
        return Expected(get_pool().submit(URGENCY, step_ahead, spec.to_dict()), spec)
    return Expected(ask_step(step_now(choice), URGENCY))


def peak(choice: Choice, expected: Expected) -> Peak:
    """The figure for what is set now.

    A measured one is shown from the moment that the run has it, for as long as the run's settings are those set now.
    """
    measured, beside = _measured(choice), ""
    if measured is not None:
        identity, spec, memory = measured
        if expected.spec is None or alike(spec, expected.spec):
            size_of = f"{batch_words(memory)}, " if "rows" in memory else ""
            found = Finding(memory["peak_bytes"], "bytes", Source.MEASURED)
            return Peak(found, f"{size_of}run {short_id(identity)}")
        beside = f"; {size(memory['peak_bytes'])} measured with other settings"
    if expected.answer is None:
        return Peak(None, expected.problem)
    if not expected.answer.done() or expected.answer.cancelled():
        return Peak(None, "Simulating…")
    try:
        answer = expected.answer.result()
    except PeftLabError as error:
        return Peak(None, f"Cannot be simulated: {error}")
    if expected.spec is not None:
        simulated, batch = answer
        return Peak(Finding(simulated.peak_bytes, "bytes", Source.SIMULATED), batch_words(batch) + beside)
    step = step_now(choice)
    each = "positions" if choice.entry.kind == "vision" else "tokens"
    note = f"batch of {step.setting.batch} × {step.setting.seq} {each} in {step.dtype}"
    return Peak(Finding(answer.peak_bytes, "bytes", Source.SIMULATED), note)


def _measured(choice: Choice) -> tuple[str, RunSpec, dict[str, Any]] | None:
    """Of the run that the page shows, ended or not, else of the last finished one: id, spec, what it measured."""
    shown = shown_run(choice.spec.slug)
    try:
        if shown is not None and _same_subject(shown.spec, choice):
            seen = shown.view()
            if seen.memory.get("peak_bytes"):
                return shown.id, shown.spec, seen.memory
            if not seen.status.final:
                return None
        line = last_finished(choice)
        if line is not None and line.peak_bytes and line.spec is not None:
            return line.id, line.spec, store.get(line.id).view().memory
    except RunError:
        return None
    return None


def _same_subject(spec: RunSpec, choice: Choice) -> bool:
    return (spec.model, spec.method, spec.task) == (choice.entry.name, choice.spec.slug, choice.task)


def alike(spec: RunSpec, now: RunSpec) -> bool:
    """Whether a run of ``spec`` measures the very step that one of ``now`` would: equal knobs, and the same batch."""
    same_batch = all(getattr(spec, name) == getattr(now, name) for name in OF_THE_BATCH)
    try:
        return same_batch and _same_file(spec, now) and knobs_read(spec) == knobs_read(now)
    except BadInput:  # the run had a knob that is gone
        return False


def _same_file(spec: RunSpec, now: RunSpec) -> bool:
    """Whether both train on the same file of the learner, or on none; a run has a copy of its own."""
    if spec.own_data is None or now.own_data is None:
        return spec.own_data == now.own_data
    try:
        return filecmp.cmp(spec.own_data, now.own_data, shallow=False)
    except OSError:
        return False
