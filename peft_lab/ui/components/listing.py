"""Lines of a file or a console, folded where a line is too long: nothing has to be scrolled sideways."""

from __future__ import annotations

from math import ceil

import streamlit as st

from peft_lab.ui import rooms

NARROW = 35  # letters in a line of code on a phone, and in a narrow column


def listing(text: str, name: str, across: int = NARROW) -> None:
    """As it was written; its room is kept until what draws it has come.

    Args:
        name: of its container, no other's on the page. across: letters in a line on a wide page.
    """
    wide, narrow = (
        min(rooms.MOST_LINES, sum(max(1, ceil(len(line) / width)) for line in text.split("\n")))
        for width in (across, NARROW)
    )
    with st.container(key=f"lines-{wide}-narrow-{narrow}-{name}"):
        st.code(text, language=None, wrap_lines=True)  # the colours of code are too pale here
