"""Runs as the pages show them: which one on which page, and a cache of finished ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from peft_lab.core.errors import PeftLabError, RunError
from peft_lab.core.field import as_text
from peft_lab.core.units import roughly
from peft_lab.drawing.trajectory.format import Trajectory, shipped_on
from peft_lab.models.catalogue import model_title
from peft_lab.runs import store
from peft_lab.runs.kept import TRAJECTORY
from peft_lab.runs.queue import get_queue
from peft_lab.runs.store import Run
from peft_lab.runs.view import DAMAGED, RunSummary, RunView, Status, has_ended, scoring
from peft_lab.training.tasks.own import task_title
from peft_lab.ui import state
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.frame import errors_boxed, part, show_tab
from peft_lab.ui.components.knobs import Choice, apart
from peft_lab.ui.foreign import plain
from peft_lab.ui.server.sessions import browser_mark

# Seconds between looks at a run that is going. Each takes a tenth of a second of one core, and a training step, which
# divides every product between all cores, waits for that core.
REFRESH = 1.0
TRAIN = "Train"  # the title of a method's tab, and of the button there
_FINAL = frozenset(str(status) for status in Status if status.final)


def shown_run(slug: str) -> Run | None:
    """Return the run that the learner started or opened on this method's page, while its folder exists; without one,
    this browser's run that has not ended, so that a newly opened page finds it."""
    identity = state.remembered(slug, "run", "")
    if not identity:
        under_way = live_run(slug)
        if under_way is not None:
            show_run(slug, under_way.id)
        return under_way
    try:
        run = store.get(identity)
        run.view()  # a damaged one is told of in the list of runs; nothing can be drawn of it
        return run
    except PeftLabError:
        state.remember(slug, "run", "")
        return None


def under_way(slug: str) -> RunView | None:
    """Return the view of the page's run if it has not ended."""
    run = shown_run(slug)
    try:
        view = run.view() if run is not None else None
    except RunError:
        return None
    return view if view is not None and not view.status.final else None


def standing_bar(slug: str) -> bool:
    """Draw how far the page's run is, refreshed until it ends; return False if none is under way."""
    if under_way(slug) is None:
        return False

    def standing() -> None:
        view = under_way(slug)
        if view is None:
            st.rerun()
        else:
            st.progress(min(1.0, view.progress), text=_words(view))
            st.caption("Changes apply to your next run.")

    part(standing, every=2 * REFRESH)
    return True


def _words(view: RunView) -> str:
    if view.status is Status.RUNNING:
        if not view.step:
            return f"Taking the first of {view.steps} steps"
        left = f" · {roughly(view.eta)} left" if view.eta else ""
        return f"Step {view.step} of {view.steps}{left}"
    return {Status.QUEUED: "Queued", Status.STARTING: "Starting"}.get(view.status) or scoring(view)


def stop(identity: str) -> None:
    """Ask a run to stop, or draw why not. An ``on_click`` runs even if the page is redrawn before its button."""
    with errors_boxed():
        get_queue().stop(identity)


def go_on(identity: str) -> None:
    """Continue a run that ended too early, or draw why it cannot; for ``on_click``."""
    with errors_boxed():
        get_queue().go_on(identity)


def live_run(slug: str) -> Run | None:
    """Return this browser's newest run of this method that has not ended."""
    mark = browser_mark()
    for line in summaries():
        if line.method == slug and not is_final(line):
            run = store.get(line.id)
            if store.started_by(run) == mark:
                return run
    return None


def is_final(line: RunSummary) -> bool:
    """Return whether a run is over: it has ended, or cannot be read."""
    return line.status in (*_FINAL, DAMAGED)


def show_run(slug: str, identity: str) -> None:
    """Show the run ``identity`` on every tab of the method's page."""
    state.remember(slug, "run", identity)
    state.remember(slug, "inside-run", identity)


def last_finished(choice: Choice) -> RunSummary | None:
    """Return the newest finished run of this method on this model and task, with any knobs; the page's run comes first,
    so that the headline and the curves below it agree."""
    fitting = [line for line in summaries() if _fits(line, choice)]
    shown = state.remembered(choice.spec.slug, "run", "")
    return next((line for line in fitting if line.id == shown), fitting[0] if fitting else None)


def finished_of(slug: str) -> list[RunSummary]:
    """Return a method's finished runs, newest first, without outside ones, which recorded nothing."""
    done = [line for line in summaries() if line.method == slug and line.status == Status.DONE]
    return [line for line in done if not store.is_adopted(store.get(line.id))]


def summaries() -> list[RunSummary]:
    """Return all runs, newest first. Ended ones are read once, as their files no longer change."""
    return [_summary(run) for run in store.runs()]


def _summary(run: Run) -> RunSummary:
    kept = _ended()
    stamp = run.stamp()
    known = kept.get(run.folder)
    if known is not None and known[0] == stamp:
        return known[1]
    line = store.summary(run)
    if line.status in _FINAL and has_ended(run.events()):
        kept[run.folder] = (stamp, line)
    return line


@st.cache_resource
def _ended() -> dict[Path, tuple[int, RunSummary]]:
    return {}


def _fits(line: RunSummary, choice: Choice) -> bool:
    same = (line.method, line.model, line.task) == (choice.spec.slug, choice.entry.name, choice.task)
    return same and line.status == Status.DONE and not store.is_adopted(store.get(line.id))


def stale(choice: Choice, run: Run) -> str:
    """Return how the run's settings differ from the current ones; empty if they do not."""
    spec = run.spec
    if (spec.model, spec.task) != (choice.entry.name, choice.task):
        return f"This run trained {plain(model_title(spec.model))} on {plain(task_title(spec.task))}."
    changed = [name for name, value in spec.values.items() if value != choice.values.get(name)]
    if not changed:
        return ""
    listed = ", ".join(f"{name} = {as_text(spec.values[name])}" for name in changed[:4])
    return f"This run was made with {listed}; the settings have been changed since."


def read_insight(identity: str) -> dict[str, Any]:
    """Return a run's record for its method's picture; ``{}`` if there is none or the run is gone."""
    return _picture_of(identity)[0]


def read_arrays(identity: str) -> dict[str, Any]:
    """Return a run's arrays for its method's picture; ``{}`` if there are none or the run is gone."""
    return _picture_of(identity)[1]


def _picture_of(identity: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        run = store.get(identity)
        return _pictures(run.folder, run.stamp())
    except RunError:
        return {}, {}


# Shared by all sessions, so keyed by folder; users who may not open the run are refused earlier. A run that continued
# after its end has another stamp and new pictures. Not cache_data: it warns in the log if this is imported before the
# server runs, and it copies data that nobody changes.
@st.cache_resource(max_entries=8, show_spinner=False)
def _pictures(folder: Path, stamp: int) -> tuple[dict[str, Any], dict[str, Any]]:
    run = Run(folder.name, folder)
    arrays = run.arrays()
    for array in arrays.values():
        array.setflags(write=False)
    return run.insight(), arrays


def trajectory_of(run: Run) -> Trajectory | None:
    """Return a run's recorded states so far; None if they cannot be read."""
    try:
        changed = (run.folder / TRAJECTORY).stat().st_mtime_ns
    except OSError:
        return None
    return _trajectory(run.folder, changed)


@st.cache_resource(max_entries=16, show_spinner=False)
def _trajectory(folder: Path, changed: int) -> Trajectory | None:
    try:
        return Run(folder.name, folder).trajectory()
    except RunError:
        return None


def recorded(slug: str, model: str, run: Run | None = None) -> tuple[Trajectory | None, str]:
    """Return the run's own states, or the shipped recording if it is of this model, and a title."""
    mine = run if run is not None and run.spec.model == model else None
    own = None if mine is None else trajectory_of(mine)
    if own is not None:
        return own, "Your run"
    title = "Recorded run"
    if mine is not None:
        title += " (yours saved no states)" if mine.status().final else " (until yours takes its first steps)"
    try:
        found = shipped_on(slug, model)
    except PeftLabError:  # a file of another version; the drawing stands still then
        found = None
    return (found, title) if found is not None else (None, "")


def short_id(identity: str) -> str:
    """Return the distinctive part of a run's id: ``20261125-001502``."""
    return identity[:15]


def nothing_to_open(slug: str, what: str) -> None:
    """Draw what will be shown here after a run of one's own, with a button that leads to it."""
    going = under_way(slug) is not None
    with st.container(horizontal=True, vertical_alignment="center", key="inside-own"):
        when = "When your run has ended, this page shows" if going else "Train once to see"
        st.markdown(f"{when} {what} in your own run.", width="content")
        key = state.widget_key(slug, "to-train")
        st.button(f"Open {TRAIN}", key=key, type="tertiary", icon=":material/arrow_forward:", on_click=show_tab,
                  args=(slug, TRAIN))  # fmt: skip


def pick_run(slug: str, runs: list[RunSummary], model: str) -> str:
    """Draw the choice of a finished run, at first the page's; those on ``model`` come first."""
    runs = sorted(runs, key=lambda line: line.model != model)
    ids = [line.id for line in runs]
    # what tells them apart comes first: on a phone the end is cut
    titles = apart(
        {
            line.id: f"{short_id(line.id)} · {line.steps:,} steps · {task_title(line.task)} · {model_title(line.model)}"
            for line in runs
        }
    )
    shown = state.remembered(slug, "run", ids[0])
    return choose(slug, "inside-run", "Run", titles, shown if shown in ids else ids[0])
