"""Runs: the runs trained here, newest first; open, stop or delete one."""

from __future__ import annotations

import time

import streamlit as st

from peft_lab.core import asking, units
from peft_lab.core.errors import PeftLabError
from peft_lab.core.field import as_text
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import model_title
from peft_lab.runs import checkpoints, kept, store
from peft_lab.runs.store import Run
from peft_lab.runs.tracking import start as tracking
from peft_lab.runs.view import DAMAGED, RunSummary
from peft_lab.training.tasks import hub
from peft_lab.training.tasks.hub import KeptFile
from peft_lab.training.tasks.own import task_title
from peft_lab.ui import pages, state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.frame import error_line, errors_boxed, part
from peft_lab.ui.components.knobs import restore
from peft_lab.ui.components.rows import Column, RowOf, rows
from peft_lab.ui.foreign import code, plain
from peft_lab.ui.runs.shown import REFRESH, go_on, is_final, show_run, stop, summaries


def own_files() -> None:
    """Draw the stored files, how long they stay, and a way to remove them; nothing if there are none."""
    found = hub.kept_files()
    if not found:
        return
    limits, days = asking.limits_of_asker(), asking.limits().days
    stay = f"Hub rows not used for {days} days are removed at the next download; uploads stay."
    stay = stay if limits is None else f"In this class, files are removed after {limits.days} days."
    st.markdown("## Your data")
    st.markdown(
        f"Files that you uploaded or downloaded from the Hub: {units.size(sum(each.nbytes for each in found))} in "
        f"all. Every run keeps its own copy, so you can remove these files safely. {stay}"
    )
    with st.expander(units.several(len(found), "file")):
        shown = [(plain(each.title), each.origin, units.size(each.nbytes), _day(each)) for each in found]
        figures.table(("File", "Source", "Size", "Last used"), shown, numeric=(2,), fold=True)
        chosen = st.multiselect(
            "Files to remove", found, format_func=lambda each: f"{each.title}, {_day(each)}", key="own-files-chosen",
            placeholder="Choose files",
        )  # fmt: skip
        if st.button("Remove these files", disabled=not chosen, key="own-files-remove"):
            with errors_boxed():
                for each in chosen:
                    hub.remove_file(each.path)
                st.rerun()


def _day(each: KeptFile) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(each.used))


def outside(run: Run) -> None:
    """Draw the progress and loss of a run started outside the lab."""
    seen = run.view()
    left = f", {units.roughly(seen.eta)} left" if seen.eta else ""
    where = f"{run.folder.readlink()}"
    st.markdown(
        f"A run started outside PEFT Lab, in {plain(where)}: step {seen.step:,} of {seen.steps:,}{left}. "
        + figures.badge("measured")
    )
    st.progress(min(1.0, seen.step / seen.steps))
    if seen.losses:
        steps = list(range(1, len(seen.losses) + 1))
        figure = charts.curves(
            {"loss": (steps, seen.losses)},
            "optimizer step",
            "training loss (nats)",
            height=260,
            until=seen.steps,
        )
        charts.draw(figure, "run-outside-loss")


def open_run(line: RunSummary, tab: str = "train") -> None:
    """Switch to the method's page with the run shown on its ``tab``, and its knobs set."""
    if line.spec is not None:
        restore(line.spec)
    show_run(line.method, line.id)
    state.remember(line.method, "tab", tab)
    state.remember(line.method, "part", None, "Inside")  # its first part, the picture
    pages.go_to(line.method)


FIGURES = ("Steps", "Before", "After", "Peak", "Time", "Expected")
COLUMNS = ("Submitted", "Status", "Method", "Model", "Task", *FIGURES)


def runs_page() -> None:
    pages.open_page()
    st.title("Runs")
    st.markdown(
        "Your runs in this class. One run trains at a time; learners take turns."
        if asking.class_is_on()
        else "All runs trained on this machine. One run trains at a time; the others wait."
    )
    going = any(not is_final(line) for line in summaries())

    def table() -> None:
        lines = summaries()
        if not lines:
            st.info("No runs yet. Open a method, such as LoRA, and press Train.")
            pages.link("lora", "Open LoRA", query={"tab": "train"})
            return
        chosen = _table(lines)
        if chosen is not None:
            _chosen(chosen)
        if going and all(is_final(line) for line in lines):
            st.rerun()

    part(table, every=REFRESH if going else None)
    own_files()


def _table(lines: list[RunSummary]) -> RunSummary | None:
    columns = [Column(name, numeric=name in FIGURES) for name in COLUMNS]
    made = [RowOf(line.id, _cells(line)) for line in lines]
    # above the table, whose height is known to the browser only when its script has come
    st.markdown(
        "Choose a row to open, stop or delete the run. *Before* and *After* are the task's main score for the base "
        "model and the tuned model. *Time* excludes waiting; *Expected* is the estimate made before the run. "
        + figures.badge("measured")
    )
    picked = rows(columns, made, "runs-table", "Runs", state.remembered("runs", "chosen", None))
    if picked:
        state.remember("runs", "chosen", picked)
    _errors(lines)
    chosen = state.remembered("runs", "chosen", None)
    return next((line for line in lines if line.id == chosen), None)


def _errors(lines: list[RunSummary]) -> None:
    ratios = kept.forecast_errors(line.kept for line in lines)
    if ratios:
        over, off = "1 run", f"{kept.typical_error(ratios):.0%}"
        if len(ratios) > 1:
            over = f"the last {len(ratios)} runs"
            off += f" (median) and by at most {max(abs(1 / ratio - 1) for ratio in ratios):.0%}"
        st.markdown(
            f"Over {over} on {asking.here()}, estimated and measured training times differ by {off}. "
            f"{figures.badge('measured')}"
        )


def _cells(line: RunSummary) -> tuple[str, ...]:
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
            error_line(line.problem)
        for told in tracking.read_tracking(store.get(line.id).folder).values():
            sentence = plain(told.sentence())
            st.markdown(f":red[:material/error: {sentence}]" if told.problem else sentence)
        elsewhere = line.status != DAMAGED and store.is_adopted(store.get(line.id))
        if elsewhere:
            outside(store.get(line.id))
        does = st.container(horizontal=True, key="run-does")
        kept = None if line.status == DAMAGED else checkpoints.step_of(store.get(line.id))
        readable = line.status != DAMAGED and line.method in pages.method_pages() and not elsewhere
        if readable and does.button("Open", key="run-open", type="primary"):
            open_run(line)
        if not is_final(line) and not elsewhere:
            does.button("Stop", key="run-stop", on_click=stop, args=(line.id,))
        if kept is not None:
            does.button(
                "Continue",
                key="run-go-on",
                on_click=go_on,
                args=(line.id,),
                help=f"Continues from step {kept} of {line.steps}.",
            )
        if is_final(line) and does.button("Delete", key="run-delete"):
            _delete(line.id)
        if line.spec is not None:
            settings = line.spec.to_dict()
            values = settings.pop("values")
            differences = [
                (f"`{name}`", as_text(value))
                for name, value in (values | settings).items()
                if value not in (None, "", [], ())
            ]
            figures.table(("Setting", "Value"), differences)


@st.dialog("Delete this run?")
def _delete(identity: str) -> None:
    st.markdown(
        f"This removes {code(identity)} from the list. Its folder outside PEFT Lab stays."
        if store.is_adopted(store.get(identity))
        else f"This deletes {code(identity)}, its adapter and its curves from {asking.here()}. You cannot undo this."
    )
    yes, no = st.columns(2)
    if yes.button("Delete", type="primary", width="stretch"):
        try:
            store.delete(identity)
        except PeftLabError as error:
            st.error(plain(error))
            return
        st.rerun()
    if no.button("Cancel", width="stretch"):
        st.rerun()
