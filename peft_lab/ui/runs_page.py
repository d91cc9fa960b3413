"""Runs: what was trained here, newest first; open, stop or delete one."""

from __future__ import annotations

import time

import streamlit as st

from peft_lab import units
from peft_lab.errors import PeftLabError
from peft_lab.methods import all_methods
from peft_lab.models import catalogue
from peft_lab.runs import store
from peft_lab.runs.store import RunSummary
from peft_lab.runs.view import Status
from peft_lab.ui import figures, shell, state
from peft_lab.ui.opening import open_run
from peft_lab.ui.parts import part
from peft_lab.ui.runs import stop as ask_to_stop
from peft_lab.ui.runs import summaries

FIGURES = ("Before", "After", "Peak", "Time")  # columns of texts that are figures
REFRESH = 1.0  # seconds, while a run is going


def runs_page() -> None:
    shell.open_page()
    st.title("Runs")
    st.markdown(
        "Everything that was trained on this machine. One run trains at a time; others wait for their turn."
    )
    going = any(not _final(line) for line in summaries())

    def table() -> None:
        lines = summaries()
        if not lines:
            st.info("No runs yet. Open a method and press Train.")
            st.page_link(
                shell.page("lora", shell.titles()["lora"]),
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


def _final(line: RunSummary) -> bool:
    return line.status == store.DAMAGED or Status(line.status).final


def _table(lines: list[RunSummary]) -> RunSummary | None:
    import pandas as pd

    data = pd.DataFrame(
        {
            "Started": [time.strftime("%Y-%m-%d %H:%M", time.localtime(line.created)) for line in lines],
            "Status": [line.status for line in lines],
            "Method": [
                all_methods()[line.method].title if line.method in all_methods() else "–" for line in lines
            ],
            "Model": [_model(line.model) for line in lines],
            "Task": [line.task or "–" for line in lines],
            "Steps": [line.steps for line in lines],
            "Before": [_share(line.before) for line in lines],
            "After": [_share(line.after) for line in lines],
            "Peak": [units.size(line.peak_bytes) if line.peak_bytes else "–" for line in lines],
            "Time": [units.seconds(line.seconds) if line.seconds else "–" for line in lines],
        }
    )
    event = st.dataframe(
        data,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="runs-table",
        column_config={name: st.column_config.TextColumn(alignment="right") for name in FIGURES},
    )
    st.markdown(
        "Choose a row to open, stop or delete it. Before and after: the task's headline metric. "
        + figures.badge("measured")
    )
    rows = event["selection"]["rows"]
    return lines[rows[0]] if rows and rows[0] < len(lines) else None


def _model(name: str) -> str:
    return catalogue()[name].title if name in catalogue() else name or "–"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _chosen(line: RunSummary) -> None:
    with st.container(border=True):
        st.markdown(f"`{line.id}`")
        if line.problem:
            st.markdown(f":red[:material/error: {line.problem}]")
        open_, stop, delete, _ = st.columns([1, 1, 1, 3])
        readable = line.status != store.DAMAGED and line.method in shell.method_pages()
        if readable and open_.button("Open", key="run-open", type="primary", width="stretch"):
            open_run(line)
        if not _final(line) and stop.button("Stop", key="run-stop", width="stretch"):
            ask_to_stop(line.id)
        if _final(line) and delete.button("Delete", key="run-delete", width="stretch"):
            _delete(line.id)
        if line.spec is not None:
            settings = line.spec.to_dict()
            values = settings.pop("values")
            rows = [
                (f"`{name}`", state.as_text(value))
                for name, value in (values | settings).items()
                if value not in (None, "", [], ())
            ]
            figures.table(("Setting", "Value"), rows)


@st.dialog("Delete this run?")
def _delete(identity: str) -> None:
    st.markdown(
        f"`{identity}` with its adapter and its curves is removed from this machine. This cannot be undone."
    )
    yes, no = st.columns(2)
    if yes.button("Delete it", type="primary", width="stretch"):
        try:
            store.delete(identity)
        except PeftLabError as error:
            st.error(str(error))
            return
        st.rerun()
    if no.button("Keep it", width="stretch"):
        st.rerun()
