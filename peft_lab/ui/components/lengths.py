"""The upload of a file with the rows' lengths."""

from __future__ import annotations

import streamlit as st

from peft_lab.advise.plans.wanted import Lengths, read_lengths
from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.frame import error_line


def lengths_file(title: str, key: str) -> Lengths | None:
    """Return the rows' lengths from a file, drawn as a histogram; None without a valid file."""
    with st.expander(title):
        file = st.file_uploader(
            "One token count per line, or JSON Lines with `tokens`", type=["txt", "jsonl", "csv"], key=key
        )
        if file is None:
            return None
        try:
            found = read_lengths(file.getvalue().decode("utf-8", "replace"))
        except BadInput as error:
            error_line(error)
            return None
        rows = units.several(len(found.tokens), "row")
        st.markdown(f"{rows}, {found.mean:,.0f} tokens on average {figures.badge('counted')}")
        bars = found.histogram()
        figure = charts.columns(
            [end for end, _ in bars], [count for _, count in bars], "tokens, up to", "rows", 200
        )
        charts.draw(figure, f"{key}-histogram")
        return found
