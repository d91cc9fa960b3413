"""Atlas: filters, cards by family, one type in full or two side by side."""

from __future__ import annotations

import streamlit as st

from peft_lab.atlas import all_types, entries, get_entry, lineage
from peft_lab.core.units import Source
from peft_lab.ui import pages, state
from peft_lab.ui.atlas import list
from peft_lab.ui.atlas.details import details
from peft_lab.ui.atlas.list import NOBODY, SCOPE
from peft_lab.ui.components import figures


def atlas_page() -> None:
    pages.open_page()
    state.read_address(SCOPE, list.atlas_readers())
    many, beside = len(all_types()), len(entries()) - len(all_types())
    st.title("Atlas")
    st.markdown(
        f"All {many} types of the PEFT library, and {beside} variants of LoRA that it has inside: what each does to W, "
        "what it trains, and what it can do. Counts and capabilities are not typed in: the library itself was asked. "
        f"{figures.badge(Source.COUNTED)}"
    )
    with st.container(key="atlas-details", border=True):
        _chosen()
    st.markdown("## Who changes whom")
    st.markdown(
        f"{len(lineage()[''])} lines of descent, each entry under the one that it changes. In italics: a setting of "
        f"LoRA, not a type of its own. {figures.badge(Source.COUNTED)}"
    )
    _take(list.family_tree(_both()))
    st.markdown("## By family")
    st.markdown(
        "Each picture is ΔW of a real instance: orange adds to W, blue takes away, what is blank is zero. "
        f"{figures.badge(Source.MEASURED)}"
    )
    found = list.filters()
    if not found:
        st.markdown("No type matches; ask for less.")
    _take(list.cards(found, _both()))
    state.write_address(list.atlas_address(str(list.remembered_choice("model"))))


def _both() -> tuple[str, str]:
    """Return the names of the types that are looked at."""
    return str(list.remembered_choice("type")), str(list.remembered_choice("beside"))


def _take(clicked: str | None) -> None:
    """Look at the type that was clicked just now, if there was one."""
    if clicked is not None and clicked != list.remembered_choice("type"):
        state.remember(SCOPE, "type", clicked)
        state.renew(SCOPE)
        st.rerun()


def _chosen() -> None:
    left, right = st.columns([2, 1])
    with right:
        model = list.chosen_model()
    with left:
        name, other = list.chosen_pair()
    if other == NOBODY:
        details(get_entry(name), model, "left")
        return
    for cell, each, side in zip(st.columns(2, gap="large"), (name, other), ("left", "right"), strict=True):
        with cell:
            details(get_entry(each), model, side, narrow=True)
