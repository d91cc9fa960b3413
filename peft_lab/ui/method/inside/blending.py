"""Two trained adapters on one base: what it says when both corrections are added, with weights."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab.errors import PeftLabError
from peft_lab.methods.lora import blending
from peft_lab.models.catalogue import model_title
from peft_lab.runs import store
from peft_lab.runs.summary import RunSummary
from peft_lab.tasks.titles import task_title
from peft_lab.training.scores import Answer
from peft_lab.ui import state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.apart import apart
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.sections.live import answer_text
from peft_lab.ui.runs.shown import finished_of, short_id
from peft_lab.units import Source


def two_adapters(slug: str, identity: str) -> None:
    """Offer to combine the run that is open with another one of the same base, and show what comes of it."""
    st.markdown(f"#### Two adapters on one base {figures.badge(Source.MEASURED)}")
    first = store.get(identity).spec
    others = [line for line in finished_of(slug) if line.id != identity and line.spec]
    fitting = [line for line in others if line.spec and not blending.problem(first, line.spec)]
    st.markdown(
        r"Corrections of the same base add up: $W + w_1\,\Delta W_1 + w_2\,\Delta W_2$. Nothing is trained again."
    )
    if not fitting:
        st.info(_missing(first.model, [blending.problem(first, line.spec) for line in others if line.spec]))
        return
    with st.form(f"{slug}-blend", border=False):
        second = _second(slug, fitting)
        text = st.text_area(
            "Your sentence",
            value=state.remembered(slug, "blend-text", first.task_object().samples[0]),
            key=state.widget_key(slug, "blend-text", first.task),
            height=80,
        )
        asked = st.form_submit_button("Combine them")
    state.remember(slug, "blend-text", text)
    if asked:
        state.remember(slug, "blend-of", (identity, second, text))
    if state.remembered(slug, "blend-of", None) != (identity, second, text):
        return
    try:
        with st.spinner("Loading the base and combining both adapters…"):
            rows = blending.ask(identity, second, text)
    except PeftLabError as error:
        st.markdown(f":red[:material/error: {plain(error)}]")
        return
    _shown(slug, task_title(first.task), task_title(store.get(second).spec.task), rows)


def _missing(model: str, reasons: list[str]) -> str:
    """What to do where no other run fits, or why those that there are do not."""
    if reasons:
        return f"No other run can be combined with this one. {plain(reasons[0])}"
    return (
        f"Train a second LoRA on {plain(model_title(model))}, on another task for example; then both can be "
        "combined here."
    )


def _second(slug: str, lines: list[RunSummary]) -> str:
    titles = apart(
        {line.id: f"{task_title(line.task)} · {line.steps:,} steps · {short_id(line.id)}" for line in lines}
    )
    index = state.one_of(slug, "blend-second", list(titles), next(iter(titles)))
    second: str = st.selectbox(
        "The second adapter",
        list(titles),
        index=index,
        key=state.widget_key(slug, "blend-second"),
        format_func=lambda name: titles[name],
    )
    state.remember(slug, "blend-second", second)
    return second


def _shown(slug: str, first: str, second: str, rows: list[dict[str, Any]]) -> None:
    weights = [row["weight"] for row in rows]
    names = (first, second) if first != second else (f"{first}, first run", f"{second}, second run")
    series = {name: (weights, [row["losses"][number] for row in rows]) for number, name in enumerate(names)}
    left, right = st.columns(2, gap="large")
    with left:
        figure = charts.curves(series, "weight of the second adapter", "held-out loss (nats)", height=300)
        st.plotly_chart(figure, key=f"{slug}-blend-losses", config=charts.CONFIG)
        st.caption(
            f"On {blending.ROWS} held-out rows of each run's task; the first adapter's weight is 1 minus this."
        )
    with right:
        figures.table(
            ("First", "Second", "What it says"),
            [
                (
                    f"{1 - row['weight']:.2f}",
                    f"{row['weight']:.2f}",
                    answer_text(Answer(row["text"], row["answer"], row["scores"])),
                )
                for row in rows
            ],
            numeric=(0, 1),
        )
