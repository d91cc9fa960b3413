"""One published run: how it was made, and the ways to open its settings in the lab."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from peft_lab import published, units
from peft_lab.compare import cited
from peft_lab.published import BENCHMARKS, METAMATH, PublishedRow
from peft_lab.ui import pages, state
from peft_lab.ui.components import figures


def draw(row: PublishedRow) -> None:
    """Settings, times and config of a run, and the pages that open it."""
    interval = BENCHMARKS[row.benchmark].interval
    figures.table(
        ("How it was run", ""),
        [
            ("Learning rate", f"{row.learning_rate:g}"),
            ("Optimizer", row.optimizer),
            (
                "Weight decay",
                "as its optimizer has it" if row.weight_decay is None else f"{row.weight_decay:g}",
            ),
            ("Schedule", row.scheduler or "constant"),
            ("Steps", f"{units.count(row.steps)} of {row.batch} rows"),
            ("Date", row.created),
            ("Versions", ", ".join(f"{name} {version}" for name, version in row.versions.items())),
            (
                f"Training, by {interval} steps",
                units.span(min(row.intervals), max(row.intervals)),
            ),
        ],
    )
    _open(row)
    with st.expander("Its adapter config, and the seconds of its steps"):
        if row.config is None:
            st.markdown("Full fine-tuning has no adapter config.")
        else:
            st.code(json.dumps(row.config, indent=1, sort_keys=True), language="json")
        st.markdown(
            f"{figures.badge('cited')} Seconds of each {interval} steps: "
            f"{', '.join(f'{each:.1f}' for each in row.intervals)}."
        )


def _open(row: PublishedRow) -> None:
    if row.benchmark != METAMATH:
        st.markdown(
            "PEFT Lab counts and simulates language models only: settings for images cannot be opened here."
        )
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        _button("memory", {"tab": "published", "row": row.experiment}, "Count and simulate it on Memory")
        found = cited.lab_page(row)
        if found is not None:
            slug, values = found
            settings = {name: state.as_text(value) for name, value in values.items()}
            _button(slug, {"model": published.MODEL, **settings}, f"Open {pages.titles()[slug]} with this")


def _button(target: str, query: dict[str, Any], label: str) -> None:
    """A button, as a link that carries settings is read only by a page that begins afresh, and the same as a link."""
    if st.button(label, icon=":material/arrow_forward:", key=f"published-open-{target}"):
        state.begin_afresh(target)
        st.switch_page(pages.page(target, pages.titles()[target]), query_params=query)
    st.markdown(f"[as a link]({target}?{urlencode(query)})", width="content")
