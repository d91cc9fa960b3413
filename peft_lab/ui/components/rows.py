"""A table whose rows are chosen by pointer or keyboard; on narrow screens rows fold, hiding no column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import streamlit as st

from peft_lab.core import palette
from peft_lab.ui import theme, web

FOLD_BELOW = 400  # CSS pixels under which the cells of a row stand under its first one

CSS = web.read(
    "rows.css",
    TINT=palette.TINT,
    TRAINED=palette.TRAINED.css,
    QUANTISED=palette.QUANTISED.css,
    FOLD_BELOW=FOLD_BELOW,
    SIMULATED=palette.SIMULATED.css,
    RIGHT=palette.MEASURED.css,
    WRONG=palette.WRONG.css,
)
HTML = '<div class="host" tabindex="-1"><table><thead></thead><tbody></tbody></table></div>'
# Rows are built again only when they changed: one that is being used keeps the focus.
_mount = st.components.v2.component("peft_rows", html=HTML, css=CSS, js=web.read("rows.js"))


@dataclass(frozen=True)
class Column:
    """One column. ``wide``: of a flat table, it is left out where the table is narrow."""

    title: str
    numeric: bool = False
    help: str = ""
    wide: bool = False


@dataclass(frozen=True)
class RowOf:
    """One row. ``kinds``: per column, ``trained`` or ``packed`` for a cell in that state's colour, ``right`` or
    ``wrong`` for a first letter that is a mark, or ``bar-78`` for a bar of that many percent. Of the first cell what
    follows a line break stands small below the rest."""

    id: str
    cells: Sequence[str]
    kinds: Sequence[str] = ()


def rows(
    columns: Sequence[Column],
    lines: Sequence[RowOf],
    key: str,
    label: str,
    selected: str | None = None,
    flat: bool = False,
) -> str | None:
    """Show the table; return the id of the row just chosen, in the run caused by that, else ``None``. ``flat``: rows
    never fold, and one of them is always chosen, as in a list of radio buttons."""
    room = "flat" if flat else min(len(lines), theme.MOST_ROWS)  # kept until the table's script has come
    with st.container(key=f"rows-{room}-{key}"):
        result = _mount(
            key=key,
            data={
                "columns": [asdict(column) for column in columns],
                "rows": [asdict(line) for line in lines],
                "selected": just_chosen(key) or selected,
                "label": label,
                "flat": flat,
            },
            on_chosen_change=lambda: None,
        )
    chosen: str | None = result.chosen
    return chosen


def just_chosen(key: str) -> str | None:
    """Return the id as :func:`rows` does, before the table is drawn in that run."""
    found: dict[str, Any] = st.session_state.get(key) or {}
    chosen: str | None = found.get("chosen")
    return chosen


# ----------------------------------------
# Lines of a file or a console, folded where a line is too long: nothing has to be scrolled sideways.


NARROW = 35  # letters in a line of code on a phone, and in a narrow column


def listing(text: str, name: str, across: int = NARROW) -> None:
    """Draw code as written, with its height reserved until the browser draws it. ``name``: of its container, unique on
    the page; ``across``: letters per line on a wide page."""
    wide, narrow = (
        min(theme.MOST_LINES, sum(max(1, ceil(len(line) / width)) for line in text.split("\n")))
        for width in (across, NARROW)
    )
    with st.container(key=f"lines-{wide}-narrow-{narrow}-{name}"):
        st.code(text, language=None, wrap_lines=True)  # the colours of code are too pale here
