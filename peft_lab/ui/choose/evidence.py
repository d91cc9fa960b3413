"""What speaks for a method: runs of this lab and published ones, side by side and never mixed."""

from __future__ import annotations

import streamlit as st

from peft_lab import published, units
from peft_lab.choose.words import PUBLISHED
from peft_lab.classroom import mode
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model, model_title
from peft_lab.runs import store
from peft_lab.runs.view import Status
from peft_lab.tasks.titles import task_title
from peft_lab.ui import pages
from peft_lab.ui.components import figures
from peft_lab.ui.runs.shown import short_id

MOST_RUNS = 5


def evidence(method: str) -> None:
    """Both tables for a method."""
    st.markdown("#### Evidence")
    own, cited = st.columns(2, gap="large")
    with own:
        st.markdown(f"{'Your runs' if mode.on() else 'Runs'} on {mode.machine()} {figures.badge('measured')}")
        _own(method)
    with cited:
        st.markdown(f"Published, {get_model(published.MODEL).title}, one seed {figures.badge('cited')}")
        _cited(method)


def _own(method: str) -> None:
    runs = [line for line in store.summaries() if line.method == method and line.status == Status.DONE]
    scored = [line for line in runs if line.after is not None and line.before is not None]
    if not scored:
        st.markdown(
            f"No runs with {get_method(method).title} yet. Its Train tab makes one in a minute or two."
        )
    rows = []
    for line in scored[:MOST_RUNS]:
        assert line.before is not None and line.after is not None
        score = f"{line.before:.0%} → {line.after:.0%}"
        what = f"{model_title(line.model)}, {task_title(line.task)}"
        rows.append((short_id(line.id), what, f"{line.steps:,}", score))
    if rows:
        figures.table(("Run", "Model and task", "Steps", "Before → after"), rows, numeric=(2, 3))
    for name in ("compare", "runs"):
        if name in pages.titles():
            st.page_link(pages.page(name, pages.titles()[name]), label=f"Open {pages.titles()[name]}")


def _cited(method: str) -> None:
    shown = [slug for slug in dict.fromkeys((method, "lora", "full")) if slug in PUBLISHED]
    if method not in PUBLISHED:
        st.markdown(f"No published row is of {get_method(method).title}; these are for comparison.")
    rows, tests = [], []
    for slug in shown:
        row = published.rows()[PUBLISHED[slug]]
        right = units.percent(100 * row.accuracy)
        rows.append((row.title, right, units.size(row.reserved), units.seconds(row.seconds)))
        tests.append(f"{units.seconds(row.testing)} ({row.title})")
    figures.table(("Row", "Right answers", "Peak", "Training"), rows, numeric=(1, 2, 3))
    st.markdown(
        f":small[Training is the time of all steps. The final test took another {'; '.join(tests)}.] "
        f"{figures.badge('cited')}"
    )
    st.markdown(f":small[[{published.SOURCE}]({published.ADDRESS})]")
