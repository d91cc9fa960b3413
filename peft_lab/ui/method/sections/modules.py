"""Injected modules: the module tree before and after, identical layers collapsed, and one module in detail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from peft_lab import units
from peft_lab.counting.count import CountReport, GroupCount
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.part_details import HEADER, detail
from peft_lab.ui.components.part_details import plain as shown_path
from peft_lab.ui.components.rows import Column, RowOf, rows
from peft_lab.ui.foreign import code, plain

_KIND = {"trainable": "trained", "task head": "trained", "quantised": "packed"}
_MARK = {"frozen": "frozen", "method": "trainable", "head": "task head"}


def modules(choice: Choice, report: CountReport, selected: str | None) -> None:
    """The tree as a table with one row per group of like modules; a selection shows one group's parameters."""
    lines = group_rows(report.tree)
    changed = sum(row.modules for row in lines if row.state == "trainable")
    new = sum(row.modules for row in lines if row.added)
    left, right = st.columns([11, 9], gap="medium")
    with left:
        st.markdown(f"#### The tree after applying {choice.spec.title}")
        st.markdown(
            f"{len(lines)} kinds of module stand for {sum(row.modules for row in lines):,} modules; "
            f"{changed:,} {'holds' if changed == 1 else 'hold'} trainable parameters, "
            f"{new:,} {'is' if new == 1 else 'are'} new. {figures.badge(report.source)}"
        )
        shown = ("All modules", "Trainable only", "Before")
        show = st.segmented_control(
            "Show",
            shown,
            default=state.remembered("modules", "show", shown[0]),
            key=state.widget_key("modules", "show"),
            required=True,
            label_visibility="collapsed",
        )
        state.remember("modules", "show", show)
        visible = [row for row in lines if _visible(row, show)]
        picked = _tree_table(choice, visible, show, selected)
    with right:
        _detail(choice, report, picked or selected)


@dataclass
class ModuleRow:
    """All modules that differ only in the layer index, with their parameters summed."""

    module: str
    type: str
    modules: int
    parameters: int = 0
    state: str = "frozen"
    added: bool = True


def group_rows(tree: Sequence[GroupCount]) -> list[ModuleRow]:
    """One row per module group: its parameters summed, its state, whether the method added it."""
    table: dict[str, ModuleRow] = {}
    for group in tree:
        row = table.setdefault(group.module, ModuleRow(group.module, group.type, group.count))
        row.parameters += group.parameters
        row.added = row.added and group.added
        if group.role != "frozen":
            row.state = _MARK[group.role]
        elif group.quantised and row.state == "frozen":
            row.state = "quantised"
    return list(table.values())


def _visible(row: ModuleRow, show: str) -> bool:
    if show == "Before":
        return not row.added
    return show == "All modules" or row.state in ("trainable", "task head")


def tree_key(choice: Choice) -> str:
    return f"tree.{choice.spec.slug}"


def _tree_table(choice: Choice, lines: Sequence[ModuleRow], show: str, selected: str | None) -> str | None:
    before = show == "Before"
    columns = (
        Column("Module"),
        Column("×", numeric=True, help="How many modules of this kind"),
        Column("State"),
        Column("Parameters", numeric=True),
    )
    made = [
        RowOf(
            row.module,
            (
                shown_path(row.module),
                f"{row.modules:,}",
                "as published" if before else row.state,
                units.count(row.parameters),
            ),
            () if before else ("", "", _KIND.get(row.state, "")),
        )
        for row in lines
    ]
    return rows(columns, made, tree_key(choice), "Modules of the model", selected)


def _detail(choice: Choice, report: CountReport, module: str | None) -> None:
    st.markdown("#### One module")
    if not module:
        st.caption("Choose a row, or a part of the drawing, to see its parameters.")
        return
    found = detail(module, report, choice.shape, choice.spec.parts(choice.shape, choice.values))
    st.markdown(code(found.title))
    if found.note:
        st.caption(plain(found.note))
        return
    figures.table(HEADER, [(code(name), what, number) for name, what, number in found.rows], numeric=(2,))
