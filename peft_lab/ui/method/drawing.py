"""The block on a method's page: the drawing of what is set, with the learner's own run or the recorded one in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from peft_lab import units
from peft_lab.counting.count import CountReport
from peft_lab.drawing import TOKENS, strip_of
from peft_lab.errors import PeftLabError
from peft_lab.runs.store import Run
from peft_lab.trajectory import shipped
from peft_lab.trajectory.format import Trajectory
from peft_lab.ui import state
from peft_lab.ui.components.block import Panel, block
from peft_lab.ui.components.figures import badge
from peft_lab.ui.components.knobs import Choice, set_knobs
from peft_lab.ui.components.living.handles import handles
from peft_lab.ui.components.part_details import detail
from peft_lab.ui.components.parts import part
from peft_lab.ui.components.rows import just_chosen
from peft_lab.ui.components.thumb import thumb
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.sections.modules import tree_key
from peft_lab.ui.method.sections.settings import example_task
from peft_lab.ui.runs.shown import shown_run, trajectory_of
from peft_lab.units import Source

REFRESH = 2.0  # seconds between looks at what a run that is going has recorded
STRIP_HIGH = 120.0  # of the drawing on a phone's strip, in its user units: two matrices above each other
SHOWN: tuple[Panel, ...] = ("phases", "layers", "curve", "answers")


def drawing(choice: Choice, report: CountReport | None) -> str | None:
    """Draw it; returns the path that is chosen, in it or in the tree of modules."""
    slug = choice.spec.slug
    key = _key(slug)
    st.markdown(f"### In {plain(choice.shape.title)}")
    in_tree = just_chosen(tree_key(choice))
    if in_tree:
        st.session_state[key] = in_tree
    run = shown_run(slug)
    if run is not None and not run.view().status.final:
        part(lambda: _followed(choice, report, run), every=REFRESH)
    else:
        picked = _block(choice, report, run)
        if picked:
            st.session_state[key] = picked
        if choice.entry.live and recorded(slug, choice.entry.name, run)[0] is None:
            st.caption(
                f"No training of {plain(choice.spec.title)} on this model comes recorded with the app: "
                "the drawing stands still until a run of yours moves it."
            )
    return st.session_state.get(key)


def strip(choice: Choice, report: CountReport | None) -> None:
    """What a phone keeps on top while one scrolls: the count, and the drawing where something is trained."""
    if not choice.valid:
        return
    counted = "Counting…"
    if report is not None:
        counted = (
            f"**{units.count(report.trainable)}** :small[trainable, {units.percent(report.percent)}] "
            f"{badge(Source.COUNTED)}"
        )
    st.markdown(f"{counted} [Knobs](#knobs)")
    thumb(
        choice.spec,
        choice.shape,
        choice.values,
        key=f"strip.{choice.spec.slug}",
        high=STRIP_HIGH,
        anchor="knobs",
    )


def recorded(slug: str, model: str, run: Run | None = None) -> tuple[Trajectory | None, str]:
    """The run's own states, else the recorded training that ships, if it is of this model; and what to call it."""
    mine = run if run is not None and run.spec.model == model else None
    own = None if mine is None else trajectory_of(mine)
    if own is not None:
        return own, "Your run"
    title = "Recorded run"
    if mine is not None:
        title += " (yours kept no states)" if mine.status().final else " (until yours takes its first steps)"
    try:
        found = shipped.on(slug, model)
    except PeftLabError:  # a file of another version; the drawing stands still then
        found = None
    return (found, title) if found is not None else (None, "")


def _key(slug: str) -> str:
    return f"{slug}.selected"


def _followed(choice: Choice, report: CountReport | None, run: Run) -> None:
    """The block while the run goes on. What is chosen in it concerns the whole page."""
    picked = _block(choice, report, run)
    if picked:
        st.session_state[_key(choice.spec.slug)] = picked
        st.rerun()


def _block(choice: Choice, report: CountReport | None, run: Run | None) -> str | None:
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
    free = not going and not state.fixed_on(spec.slug)

    def released(values: Mapping[str, Any]) -> None:
        set_knobs(spec, shape, values)

    return block(
        shape,
        parts,
        quantization=spec.quantization(choice.values),
        selected=st.session_state.get(_key(spec.slug)),
        key=f"block.{spec.slug}",
        tokens=_example(choice),
        details={path: detail(path, report, shape, parts) for path in paths},
        trajectory=trajectory,
        title=title,
        show=SHOWN,
        live_events=live,
        handles=handles(spec, shape, choice.values) if free else (),
        on_values=released,
    )


def _example(choice: Choice) -> tuple[str, ...]:
    """The words in the token strip: of the task's own example."""
    task = example_task(choice)
    return strip_of(task.samples[0]) if task and task.samples else TOKENS
