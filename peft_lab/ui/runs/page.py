"""Runs: what was trained here, newest first; open, stop or delete one."""

from __future__ import annotations

import time

import streamlit as st

from peft_lab import units
from peft_lab.classroom import mode
from peft_lab.errors import PeftLabError
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import model_title
from peft_lab.runs import adopted, going_on, said, store
from peft_lab.runs.summary import DAMAGED, RunSummary
from peft_lab.runs.view import Status
from peft_lab.tasks.titles import task_title
from peft_lab.tracking import kept as tracking
from peft_lab.ui import pages, state
from peft_lab.ui.components import figures
from peft_lab.ui.components.parts import part
from peft_lab.ui.components.rows import Column, RowOf, rows
from peft_lab.ui.foreign import code, plain
from peft_lab.ui.runs.files import own_files
from peft_lab.ui.runs.opening import open_run
from peft_lab.ui.runs.outside import outside
from peft_lab.ui.runs.shown import go_on, summaries
from peft_lab.ui.runs.shown import stop as ask_to_stop

COLUMNS = (
    "Submitted",
    "Status",
    "Method",
    "Model",
    "Task",
    "Steps",
    "Before",
    "After",
    "Peak",
    "Time",
    "Expected",
)
FIGURES = ("Steps", "Before", "After", "Peak", "Time", "Expected")
REFRESH = 1.0  # seconds, while a run is going


def runs_page() -> None:
    pages.open_page()
    st.title("Runs")
    st.markdown(
        "Everything that you have trained in this class. One run trains at a time; learners take turns."
        if mode.on()
        else "Everything that was trained on this machine. One run trains at a time; others wait for their turn."
    )
    going = any(not _final(line) for line in summaries())

    def table() -> None:
        lines = summaries()
        if not lines:
            st.info("No runs yet. Open a method and press Train.")
            st.page_link(
                pages.page("lora", pages.titles()["lora"]),
                label="Open LoRA",
                icon=":material/arrow_forward:",
                query_params={"tab": "train"},
            )
            return
        chosen = _table(lines)
        if chosen is not None:
            _chosen(chosen)
        if going and all(_final(line) for line in lines):
            st.rerun()

    part(table, every=REFRESH if going else None)
    own_files()


def _final(line: RunSummary) -> bool:
    return line.status == DAMAGED or Status(line.status).final


def _table(lines: list[RunSummary]) -> RunSummary | None:
    columns = [Column(name, numeric=name in FIGURES) for name in COLUMNS]
    made = [RowOf(line.id, _cells(line)) for line in lines]
    # above the table, whose height is known to the browser only when its script has come
    st.markdown(
        "Choose a row to open, stop or delete the run. *Before* and *After* are the task's main score, of the base "
        "model and of the trained one; *Time* begins when a run's turn has come, and *Expected* is what was said of it "
        "before. " + figures.badge("measured")
    )
    picked = rows(columns, made, "runs-table", "Runs", state.remembered("runs", "chosen", None))
    if picked:
        state.remember("runs", "chosen", picked)
    _errors(lines)
    chosen = state.remembered("runs", "chosen", None)
    return next((line for line in lines if line.id == chosen), None)


def _errors(lines: list[RunSummary]) -> None:
    """How far what was said of runs' seconds was off, over all that were said and done on this machine."""
    ratios = said.errors(line.kept for line in lines)
    if ratios:
        over, off = "1 run", f"{said.typical_error(ratios):.0%}"
        if len(ratios) > 1:
            over = f"the latest {len(ratios)} runs"
            off += f" in the median, by {max(abs(1 / ratio - 1) for ratio in ratios):.0%} at most"
        st.markdown(
            f"Expected against measured seconds, {over} on {mode.machine()}: off by {off}. {figures.badge('measured')}"
        )


def _cells(line: RunSummary) -> tuple[str, ...]:
    """One line of the table, in the order of ``COLUMNS``."""
    return (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(line.created)),
        line.status,
        all_methods()[line.method].title if line.method in all_methods() else "–",
        model_title(line.model) or "–",
        task_title(line.task) or "–",
        f"{line.steps:,}",
        _share(line.before),
        _share(line.after),
        units.size(line.peak_bytes) if line.peak_bytes else "–",
        units.seconds(line.seconds) if line.seconds else "–",
        units.roughly(line.kept.seconds) if line.kept else "–",
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _chosen(line: RunSummary) -> None:
    with st.container(border=True):
        st.markdown(code(line.id))
        if line.problem:
            st.markdown(f":red[:material/error: {plain(line.problem)}]")
        for told in tracking.read(store.get(line.id).folder).values():
            sentence = plain(told.sentence())
            st.markdown(f":red[:material/error: {sentence}]" if told.problem else sentence)
        elsewhere = line.status != DAMAGED and adopted.is_adopted(store.get(line.id))
        if elsewhere:
            outside(store.get(line.id))
        does = st.container(horizontal=True, key="run-does")
        kept = None if line.status == DAMAGED else going_on.step_of(store.get(line.id))
        readable = line.status != DAMAGED and line.method in pages.method_pages() and not elsewhere
        if readable and does.button("Open", key="run-open", type="primary"):
            open_run(line)
        if not _final(line) and not elsewhere:
            does.button("Stop", key="run-stop", on_click=ask_to_stop, args=(line.id,))
        if kept is not None:
            does.button(
                "Go on",
                key="run-go-on",
                on_click=go_on,
                args=(line.id,),
                help=f"From step {kept} of {line.steps}, as if it had not ended.",
            )
        if _final(line) and does.button("Delete", key="run-delete"):
            _delete(line.id)
        if line.spec is not None:
            settings = line.spec.to_dict()
            values = settings.pop("values")
            differences = [
                (f"`{name}`", state.as_text(value))
                for name, value in (values | settings).items()
                if value not in (None, "", [], ())
            ]
            figures.table(("Setting", "Value"), differences)


@st.dialog("Delete this run?")
def _delete(identity: str) -> None:
    st.markdown(
        f"{code(identity)} is taken off this list; the folder where its script tells of it stays."
        if adopted.is_adopted(store.get(identity))
        else f"{code(identity)} with its adapter and its curves is removed from {mode.machine()}. "
        "This cannot be undone."
    )
    yes, no = st.columns(2)
    if yes.button("Delete it", type="primary", width="stretch"):
        try:
            store.delete(identity)
        except PeftLabError as error:
            st.error(plain(error))
            return
        st.rerun()
    if no.button("Keep it", width="stretch"):
        st.rerun()
