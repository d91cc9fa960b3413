"""The block on a method's page: the current settings drawn, with the learner's or the recorded run in it."""

from __future__ import annotations

import filecmp
import html
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from peft_lab.core import units
from peft_lab.core.errors import BadInput, PeftLabError, RunError
from peft_lab.core.field import as_text
from peft_lab.core.units import Finding, Source, size
from peft_lab.drawing.block import TOKENS, strip_of
from peft_lab.drawing.trajectory.format import Trajectory
from peft_lab.methods.counting.count import CountReport
from peft_lab.runs import store
from peft_lab.runs.record import knobs_read
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.ui import state, theme
from peft_lab.ui.components import own_data
from peft_lab.ui.components.block import Panel, block, handles, thumb
from peft_lab.ui.components.figures import badge, detail
from peft_lab.ui.components.frame import part
from peft_lab.ui.components.knobs import OWN_TASK, Choice, set_knobs
from peft_lab.ui.components.rows import just_chosen
from peft_lab.ui.components.waiting import Look, look
from peft_lab.ui.foreign import plain
from peft_lab.ui.method import settings
from peft_lab.ui.method.parts import ask_step, batch_words, step_now, tree_key
from peft_lab.ui.method.settings import example_task
from peft_lab.ui.method.tabs import EXPERIMENTS, EXPORT, INSIDE
from peft_lab.ui.runs.shown import REFRESH, TRAIN, last_finished, recorded, short_id, shown_run

STRIP_HIGH = 120.0  # of the drawing on a phone's strip, in its user units: two matrices above each other
#: The tabs beside which settings and drawing fold to a strip, and how many knobs that names.
FOLDED = (INSIDE, EXPERIMENTS, EXPORT)
KNOBS = 4
_FOLD = "bench"
SHOWN: tuple[Panel, ...] = ("phases", "layers", "curve", "answers")


def drawing(choice: Choice, report: CountReport | None) -> str | None:
    """Draw the block; return the path chosen in it or in the tree of modules."""
    slug = choice.spec.slug
    key = f"{slug}.selected"
    st.markdown(f"### In {plain(choice.shape.title)}")
    in_tree = just_chosen(tree_key(choice))
    if in_tree:
        st.session_state[key] = in_tree
    run = shown_run(slug)

    def followed() -> None:  # during a run; a choice in it draws the whole page anew
        picked = _block(choice, report, run, key)
        if picked:
            st.session_state[key] = picked
            st.rerun()

    if run is not None and not run.view().status.final:
        part(followed, every=2 * REFRESH)
    else:
        picked = _block(choice, report, run, key)
        if picked:
            st.session_state[key] = picked
        if choice.entry.live and recorded(slug, choice.entry.name, run)[0] is None:
            st.caption(
                f"The app has no recorded training of {plain(choice.spec.title)} on this model, so the drawing does "
                "not move until you train."
            )
    return st.session_state.get(key)


def folded(tab: str) -> bool:
    """Return whether settings and drawing are folded beside this tab: once unfolded they stay so for the session. A
    stop of a path says what to move, so there they are unfolded at first."""
    return tab in FOLDED and not state.remembered(_FOLD, "unfolded", bool(state.carried().get("stop")))


def folding(tab: str) -> DeltaGenerator:
    """Return the place for :func:`strip`, with the button that unfolds below it where they are folded."""
    place = st.container(key="bench-strip-now")
    place.html(theme.KEPT_ROOM)
    if folded(tab):
        st.button(
            "Settings and drawing", key="bench-unfold", on_click=state.remember, args=(_FOLD, "unfolded", True),
            width="stretch",
        )  # fmt: skip
    return place


def fold_button(tab: str) -> None:
    """Draw the button that folds settings and drawing beside the tabs that can do without."""
    if tab in FOLDED and not folded(tab):
        st.button(
            "Fold settings and drawing", key="bench-fold", on_click=state.remember, args=(_FOLD, "unfolded", False),
            icon=":material/left_panel_close:", type="tertiary",
        )  # fmt: skip


def strip(choice: Choice, report: CountReport | None, spec: RunSpec | None) -> None:
    """Draw the strip: the count, the drawing, and the settings where those are folded (not on a phone). ``spec``: the
    run that Train would start."""
    if not choice.valid:
        return
    counted = "Counting…"
    if report is not None:
        counted = (
            f"**{units.count(report.trainable)}** :small[trainable, {units.percent(report.percent)}] "
            f"{badge(Source.COUNTED)}"
        )
    st.markdown(f"{counted} [Settings](#knobs)")
    key = f"strip.{choice.spec.slug}"
    thumb(choice.spec, choice.shape, choice.values, key=key, high=STRIP_HIGH, anchor="knobs")
    # what decides most: the first knobs, and the settings of the next run
    knobs = [knob for knob in choice.spec.knobs if not knob.advanced][:KNOBS]
    said = {"Model": choice.entry.title}
    said |= {knob.label: as_text(choice.values[knob.name]).replace(",", ", ") for knob in knobs}
    if spec is not None:
        said["Learning rate"] = f"{spec.learning_rate:g}"
        said |= {"Steps": f"{spec.steps}", "Batch size": f"{spec.batch}"}
    rows = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>"
        for name, text in said.items()
        if text
    )
    st.html(f'<dl class="bench-set">{rows}</dl>')


def _block(choice: Choice, report: CountReport | None, run: Run | None, key: str) -> str | None:
    spec, shape = choice.spec, choice.shape
    parts = spec.parts(shape, choice.values)
    paths = {*(group.path for group in shape.groups), *(one.at for one in parts)}
    trajectory, title = recorded(spec.slug, choice.entry.name, run)
    going = run is not None and not run.view().status.final
    live: tuple[dict[str, Any], ...] = ()
    if trajectory is not None and going and run is not None:
        done = len(trajectory.curve.loss)
        live = tuple(
            {"step": step, "loss": loss} for step, loss in enumerate(run.view().losses, 1) if step > done
        )
    on_task = trajectory is not None and trajectory.spec["task"] == choice.task
    # the open tab shows the answers
    beside = (run is not None or on_task) and state.remembered(spec.slug, "tab", "idea") == TRAIN.lower()
    free = not going and not state.fixed_on(spec.slug)
    return block(
        shape,
        parts,
        quantization=spec.quantization(choice.values),
        selected=st.session_state.get(key),
        key=f"block.{spec.slug}",
        tokens=_example(choice, trajectory if on_task else None),
        details={path: detail(path, report, shape, parts) for path in paths},
        trajectory=trajectory,
        title=title,
        show=SHOWN[:-1] if beside else SHOWN,
        live_events=live,
        handles=handles(spec, shape, choice.values) if free else (),
        on_values=lambda values: set_knobs(spec, choice.entry, values),
    )


def _example(choice: Choice, trajectory: Trajectory | None) -> tuple[str, ...]:
    """Return the words of the token strip: the row that the run was recorded on, or the task's example."""
    if trajectory is not None and trajectory.example is not None:
        return strip_of(trajectory.example.text)
    task = example_task(choice)
    return strip_of(task.samples[0]) if task and task.samples else TOKENS


# ----------------------------------------
# The peak memory of one step as a method's page shows it: simulated before a run, measured from then on.


# What decides which rows are in the measured batch, and how long they are.
OF_THE_BATCH = ("batch", "max_length", "seed", "steps")
URGENCY = 1  # after what an open Memory tab asks for


@dataclass(frozen=True)
class ExpectedStep:
    """A request for the simulation of the current settings.

    Attributes:
        answer: peak in bytes, and the step; ``None`` if there is nothing to simulate.
        spec: the run that Train would start; ``None`` for a model that is not trained here.
        problem: why there is no answer.
    """

    answer: Look[Any] | None
    spec: RunSpec | None = None
    problem: str = ""


def expect(choice: Choice) -> ExpectedStep:
    """Request the step that Train would measure; for a model not trained here, the Memory part's step."""
    if not choice.valid:
        return ExpectedStep(None, problem="Not available: one of the settings below does not work.")
    try:
        spec = settings.planned(choice)
    except PeftLabError as error:
        missing = choice.task == OWN_TASK and own_data.chosen_file(choice.entry.kind) is None
        return ExpectedStep(None, problem=f"Choose your file on {TRAIN} first." if missing else str(error))
    if spec is not None:
        return ExpectedStep(look(settings.ask_run_step(spec, URGENCY)), spec)
    return ExpectedStep(look(ask_step(step_now(choice), URGENCY)))


def peak(choice: Choice, expected: ExpectedStep) -> tuple[Finding | None, str]:
    """Return the figure for the current settings with a note, or the note that replaces it. A measured one is shown as
    soon as the run has it, while the run's settings are the current ones."""
    measured, beside = _measured(choice), ""
    if measured is not None:
        identity, spec, memory = measured
        if expected.spec is None or alike(spec, expected.spec):
            found = Finding(memory["peak_bytes"], "bytes", Source.MEASURED, f"Run {short_id(identity)}.")
            batch = batch_words(memory) if "rows" in memory else f"run {short_id(identity)}"
            return found, batch.removeprefix("batch of ")
        beside = f"{size(memory['peak_bytes'])} were measured with other settings."
    if expected.answer is None:
        return None, expected.problem
    answer, error = expected.answer.answer, expected.answer.error
    if answer is None:
        return None, "Simulating…" if error is None else f"Cannot be simulated: {error}"
    if expected.spec is not None:
        simulated, batch = answer
        found = Finding(simulated.peak_bytes, "bytes", Source.SIMULATED, beside)
        return found, batch_words(batch).removeprefix("batch of ")
    step = step_now(choice)
    each = "positions" if choice.entry.kind == "vision" else "tokens"
    note = f"batch of {step.setting.batch} × {step.setting.seq} {each} in {step.dtype}"
    return Finding(answer.peak_bytes, "bytes", Source.SIMULATED), note


def _measured(choice: Choice) -> tuple[str, RunSpec, dict[str, Any]] | None:
    """Return id, spec and memory of the page's run, or else of the last finished one."""
    shown, subject = shown_run(choice.spec.slug), (choice.entry.name, choice.spec.slug, choice.task)
    try:
        if shown is not None and (shown.spec.model, shown.spec.method, shown.spec.task) == subject:
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


def alike(spec: RunSpec, now: RunSpec) -> bool:
    """Return whether runs of both specs measure the same step: equal knobs, same batch of equal files (a run has its
    own copy)."""
    if any(getattr(spec, name) != getattr(now, name) for name in OF_THE_BATCH):
        return False
    mine, other = spec.own_data, now.own_data
    try:
        same = mine == other if mine is None or other is None else filecmp.cmp(mine, other, shallow=False)
        return same and knobs_read(spec) == knobs_read(now)
    except (BadInput, OSError):  # the run had a knob that is gone, or its file is
        return False
