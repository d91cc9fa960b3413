"""Injected modules: the module tree before and after, identical layers collapsed, and one module in detail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from peft_lab import units
from peft_lab.counting import CountReport, GroupCount
from peft_lab.ui import figures, state
from peft_lab.ui.foreign import code
from peft_lab.ui.knobs import Choice

_MARK = {"frozen": "frozen", "method": "trainable", "head": "task head"}


def modules(choice: Choice, report: CountReport, selected: str | None) -> None:
    """The tree as a table with one row per group of like modules; a selection shows one group's parameters."""
    rows = group_rows(report.tree)
    changed = sum(row.modules for row in rows if row.state == "trainable")
    new = sum(row.modules for row in rows if row.added)
    left, right = st.columns([13, 8], gap="medium")
    with left:
        st.markdown(f"#### The tree after applying {choice.spec.title}")
        st.markdown(
            f"{len(rows)} kinds of module stand for {sum(row.modules for row in rows):,} modules; "
            f"{changed:,} hold trainable parameters, {new:,} are new. {figures.badge(report.source)}"
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
        visible = [row for row in rows if _visible(row, show)]
        picked = _tree_table(choice, visible, show)
    with right:
        _detail(report.tree, picked or selected)


@dataclass
class Row:
    """All modules that differ only in the layer index, with their parameters summed."""

    module: str
    type: str
    modules: int
    parameters: int = 0
    state: str = "frozen"
    added: bool = True


def group_rows(tree: Sequence[GroupCount]) -> list[Row]:
    """One row per module group: its parameters summed, its state, whether the method added it."""
    table: dict[str, Row] = {}
    for group in tree:
        row = table.setdefault(group.module, Row(group.module, group.type, group.count))
        row.parameters += group.parameters
        row.added = row.added and group.added
        if group.role != "frozen":
            row.state = _MARK[group.role]
        elif group.quantised and row.state == "frozen":
            row.state = "quantised"
    return list(table.values())


def _visible(row: Row, show: str) -> bool:
    if show == "Before":
        return not row.added
    return show == "All modules" or row.state in ("trainable", "task head")


def _tree_table(choice: Choice, rows: Sequence[Row], show: str) -> str | None:
    import pandas as pd

    before = show == "Before"
    data = pd.DataFrame(
        {
            "Module": [row.module.replace("{}", "∗") for row in rows],
            "×": [row.modules for row in rows],
            "State": ["as published" if before else row.state for row in rows],
            "Parameters": [row.parameters for row in rows],
        }
    )
    colours = {
        "trainable": "color: #C2410C; font-weight: 600",
        "task head": "color: #C2410C; font-weight: 600",
        "quantised": "color: #2563EB; font-weight: 600",
    }
    styled = data.style.format({"Parameters": "{:,}", "×": "{:,}"}).map(
        lambda v: colours.get(v, ""), subset=["State"]
    )
    event = st.dataframe(
        styled,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"tree.{choice.spec.slug}.{choice.entry.name}.{show}.{len(rows)}",
        height=min(36 * (len(rows) + 1), 560),
        column_config={
            "Module": st.column_config.TextColumn(width=260),
            "×": st.column_config.NumberColumn(width=48, help="How many modules of this kind"),
            "State": st.column_config.TextColumn(width=80),
        },
    )
    chosen = event["selection"]["rows"]
    return rows[chosen[0]].module if chosen and chosen[0] < len(rows) else None


def _detail(tree: Sequence[GroupCount], module: str | None) -> None:
    st.markdown("#### One module")
    groups = [g for g in tree if module and (g.module == module or g.module.startswith(f"{module}."))]
    if not groups:
        st.caption("Choose a row, or a part of the drawing, to see its parameters.")
        return
    st.markdown(code(str(module).replace("{}", "∗")))
    figures.table(
        ("Parameter", "Shape", "Type", "State", "Parameters, all layers"),
        [
            (
                f"`{(g.module + '.' + g.name).removeprefix(str(module) + '.')}`",
                " × ".join(f"{n:,}" for n in g.shape),
                g.dtype,
                "quantised" if g.quantised else _MARK[g.role],
                units.count(g.parameters),
            )
            for g in groups
        ],
        numeric=(1, 4),
    )
