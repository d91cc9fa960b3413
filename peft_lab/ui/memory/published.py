"""Published peaks of real trainings beside the same trainings simulated."""

from __future__ import annotations

import streamlit as st

from peft_lab.core import units
from peft_lab.engine import published
from peft_lab.models.catalogue import get_model
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.frame import error_line
from peft_lab.ui.components.waiting import come_back, look
from peft_lab.ui.memory.bars import against, errors
from peft_lab.ui.memory.controls import TAB, form_controls
from peft_lab.workers.pool import get_pool

BAND = 5.0  # percent: what is called close
BAR = 14  # pixels for each row's error
KEY = "memory-published-now"


def published_peaks() -> None:
    rows, outcomes = published.rows(), published.simulated()
    ran = {name: row for name, row in rows.items() if outcomes[name].reserved is not None}
    percents = [published.error(row, outcomes[name]) for name, row in rows.items()]
    agreement = published.agreement(percents)
    model = get_model(published.MODEL).title
    st.markdown(
        f"{agreement.rows} published runs of {model} on one NVIDIA L40S {figures.badge('cited')}, and the same runs "
        f"simulated {figures.badge('simulated')}: reserved memory differs by **{agreement.median:.1f}%** in the "
        f"median and by {agreement.largest:.1f}% at most."
    )
    both = f"{figures.badge('simulated')} {figures.badge('cited')}"
    left, right = st.columns(2, gap="medium")
    titles = [row.title for row in ran.values()]
    reserved = [outcomes[name].reserved or 0 for name in ran]
    with left:
        st.markdown(f"#### Simulated against published {both}")
        figure = against(titles, [row.reserved for row in ran.values()], reserved, BAND)
        st.plotly_chart(figure, key="memory-published", config=charts.CONFIG)
    with right:
        st.markdown(f"#### Error of each row {both}")
        sizes = [one for one in percents if one is not None]
        figure = errors(titles, sizes, BAND, BAR * len(sizes))
        st.plotly_chart(figure, key="memory-errors", config=charts.CONFIG)
    _one_row()
    with st.expander("All rows"):
        st.markdown(
            f"Published {figures.badge('cited')} and simulated {figures.badge('simulated')} peaks, reserved bytes"
        )
        figures.table(
            ("Run", "Trained", "Published", "Simulated", "Error"),
            [_line(row, outcomes[name]) for name, row in rows.items()],
            numeric=(1, 2, 3, 4),
        )
        for name, outcome in outcomes.items():
            if outcome.note:
                st.caption(f"{rows[name].title}: {published.SUPERSEDED[name]} {outcome.note}")
    versions = ", ".join(f"{name} {version}" for name, version in published.simulated_with().items())
    st.caption(
        f"Published: [{published.SOURCE}]({published.ADDRESS}), reserved bytes at the peak. Simulated with "
        f"{versions} by `python -m tools.simulate_published`. One number was not published and is inferred, the "
        "length of the longest batch: it comes from the row of plain LoRA with rank 32 "
        "(`peft_lab/engine/protocol.py`). The allocator's model has no fitted number."
    )


def _line(row: published.PublishedRow, outcome: published.PublishedOutcome) -> tuple[str, ...]:
    error = published.error(row, outcome)
    return (
        row.title,
        units.count(row.trainable),
        units.size(row.reserved),
        outcome.reason if outcome.reserved is None else units.size(outcome.reserved),
        "–" if error is None else f"{error:+.1f}%",
    )


def _one_row() -> None:
    """Draw a row counted and simulated before the learner's eyes, in some seconds."""
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    name = form_controls().draw("row", left)
    if right.button("Count and simulate this run", key="simulate-row", width="stretch"):
        st.session_state[KEY] = name
    if st.session_state.get(KEY) != name:
        return
    counted = look(get_pool().submit(TAB, published.count, name))
    simulated = look(get_pool().submit(TAB, published.simulate, name))
    come_back(counted, simulated)
    problem = counted.error or simulated.error
    if problem is not None:
        error_line(problem)
        return
    report, found = counted.answer, simulated.answer
    if report is None or found is None:
        st.markdown(
            "Counting what this run trained, and simulating its evaluation, its step and the allocator…"
        )
        return
    row, outcome = published.rows()[name], published.PublishedOutcome.of(found)
    kept = published.simulated()[name].reserved
    same = "as stored" if outcome.reserved == kept else f"stored: {units.size(kept or 0)}"
    equal = "✓ equal to" if (report.trainable, report.total) == (row.trainable, row.total) else "other than"
    st.markdown(
        f"**{row.title}**: {units.count(report.trainable)} of {units.count(report.total)} parameters trained "
        f"{figures.badge('counted')}, {equal} what was published: {units.count(row.trainable)} of "
        f"{units.count(row.total)} {figures.badge('cited')}. {units.size(outcome.reserved or 0)} reserved "
        f"{figures.badge('simulated')} in {units.seconds(found.seconds)}, {same}; published {units.size(row.reserved)} "
        f"{figures.badge('cited')}, error {published.error(row, outcome):+.1f}%."
    )
