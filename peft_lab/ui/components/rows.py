"""A table whose rows can be chosen, by pointer and keyboard, with every column in view: narrow, a row folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import streamlit as st

from peft_lab.core import palette
from peft_lab.ui import theme

FOLD_BELOW = 400  # CSS pixels under which the cells of a row stand under its first one

CSS = f"""
.host {{ container-type: inline-size; max-height: 36rem; overflow: auto;
  border: 1px solid var(--st-border-color); border-radius: 0.5rem;
  font-family: var(--st-font); color: var(--st-text-color); }}
table {{ border-collapse: collapse; width: 100%; font-size: 0.88rem; }}
th, td {{ padding: 0.3rem 0.5rem; text-align: left; vertical-align: top; }}
thead th {{ position: sticky; top: 0; z-index: 1; background: var(--st-secondary-background-color); font-weight: 600; }}
tbody tr {{ border-top: 1px solid var(--st-border-color); cursor: pointer; }}
tbody tr:hover {{ background: var(--st-secondary-background-color); }}
tbody tr.chosen {{ background: color-mix(in srgb, var(--st-primary-color) {palette.TINT}%, transparent);
  box-shadow: inset 3px 0 0 var(--st-primary-color); }}
.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.trained {{ color: {palette.TRAINED.css}; font-weight: 600; }}
.packed {{ color: {palette.QUANTISED.css}; font-weight: 600; }}
button {{ all: unset; cursor: pointer; overflow-wrap: anywhere; }}
button:focus-visible {{ outline: 2px solid var(--st-primary-color); outline-offset: 2px; }}
@container (max-width: {FOLD_BELOW}px) {{
  thead {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }}
  tbody tr {{ display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); padding: 0.25rem 0; }}
  tbody th {{ grid-column: 1 / -1; padding-bottom: 0; }}
  tbody td {{ padding-top: 0.1rem; overflow-wrap: break-word; }}
  tbody td.n {{ white-space: normal; text-align: left; }}
  tbody td::before {{ content: attr(data-label); display: block; font-size: 0.85em; opacity: 0.72; font-weight: 400;
    color: var(--st-text-color); }}
}}
"""

HTML = '<div class="host" tabindex="-1"><table><thead></thead><tbody></tbody></table></div>'

# Rows are built again only when they changed: one that is being used keeps the focus.
JS = """
export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".host");
  const table = host.querySelector("table");
  const drawn = JSON.stringify([data.columns, data.rows]);

  const cell = (tag, column, text, kind) => {
    const made = document.createElement(tag);
    made.className = [column.numeric ? "n" : "", kind].filter(Boolean).join(" ");
    made.dataset.label = column.title;
    if (column.help) made.title = column.help;
    if (text !== null) made.textContent = text;
    return made;
  };

  if (table.drawn !== drawn) {
    const focused = host.getRootNode().activeElement?.closest?.("tr")?.dataset.id;
    table.setAttribute("aria-label", data.label);
    const head = document.createElement("tr");
    for (const column of data.columns) {
      const made = cell("th", column, column.title, "");
      made.scope = "col";
      head.append(made);
    }
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...data.rows.map((row) => {
      const line = document.createElement("tr");
      line.dataset.id = row.id;
      row.cells.forEach((text, index) => {
        const column = data.columns[index];
        if (index > 0) return line.append(cell("td", column, text, row.kinds[index] ?? ""));
        const first = cell("th", column, null, row.kinds[0] ?? "");
        first.scope = "row";
        first.style.fontWeight = "400";
        const button = document.createElement("button");
        // a path may break after its dots
        for (const piece of text.split(/(?<=[._])/)) button.append(piece, document.createElement("wbr"));
        first.append(button);
        line.append(first);
      });
      return line;
    }));
    table.drawn = drawn;
    if (focused) table.querySelector(`tr[data-id="${CSS.escape(focused)}"] button`)?.focus({ preventScroll: true });
  }

  const mark = (id) => {
    for (const line of table.tBodies[0].rows) {
      line.classList.toggle("chosen", line.dataset.id === id);
      line.querySelector("button").setAttribute("aria-pressed", String(line.dataset.id === id));
    }
  };
  mark(data.selected);
  table.onclick = (event) => {
    const line = event.target.closest("tbody tr");
    if (!line) return;
    mark(line.dataset.id);
    setTriggerValue("chosen", line.dataset.id);
  };
}
"""

_mount = st.components.v2.component("peft_rows", html=HTML, css=CSS, js=JS)


@dataclass(frozen=True)
class Column:
    title: str
    numeric: bool = False
    help: str = ""


@dataclass(frozen=True)
class RowOf:
    """One row. ``kinds``: by column, ``trained`` or ``packed`` for a cell in the colour of that state."""

    id: str
    cells: Sequence[str]
    kinds: Sequence[str] = ()


def rows(
    columns: Sequence[Column], lines: Sequence[RowOf], key: str, label: str, selected: str | None = None
) -> str | None:
    """Show the table; the id of the row that was just chosen, in the one run that this caused, else ``None``."""
    result = _mount(
        key=key,
        data={
            "columns": [asdict(column) for column in columns],
            "rows": [{"id": line.id, "cells": list(line.cells), "kinds": list(line.kinds)} for line in lines],
            "selected": just_chosen(key) or selected,
            "label": label,
        },
        on_chosen_change=lambda: None,
    )
    chosen: str | None = result.chosen
    return chosen


def just_chosen(key: str) -> str | None:
    """The same, before the table is drawn in that run."""
    found: dict[str, Any] = st.session_state.get(key) or {}
    chosen: str | None = found.get("chosen")
    return chosen


# ----------------------------------------
# Lines of a file or a console, folded where a line is too long: nothing has to be scrolled sideways.


NARROW = 35  # letters in a line of code on a phone, and in a narrow column


def listing(text: str, name: str, across: int = NARROW) -> None:
    """As it was written; its room is kept until what draws it has come.

    Args:
        name: of its container, no other's on the page. across: letters in a line on a wide page.
    """
    wide, narrow = (
        min(theme.MOST_LINES, sum(max(1, ceil(len(line) / width)) for line in text.split("\n")))
        for width in (across, NARROW)
    )
    with st.container(key=f"lines-{wide}-narrow-{narrow}-{name}"):
        st.code(text, language=None, wrap_lines=True)  # the colours of code are too pale here
