"""Weights and sentences that are missing or damaged, said where they are needed, with a button that fetches them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import streamlit as st

from peft_lab import units
from peft_lab.assets import store as assets
from peft_lab.assets.store import AssetStatus
from peft_lab.classroom import mode
from peft_lab.errors import PeftLabError
from peft_lab.ui.foreign import plain


def offer(where: str, needed: Collection[str] | None = None) -> None:
    """Nothing when all is well. ``needed`` names what matters here (all by default), ``where`` tells buttons apart."""
    wanting = [one for one in assets.status() if not one.present and (needed is None or one.name in needed)]
    if not wanting:
        return
    with st.container(border=True):
        for one in wanting:
            st.markdown(f":red[:material/error:] {_described(one)}")
        size = units.size(sum(one.download_bytes for one in wanting))
        again = all(one.damaged for one in wanting)
        pressed = st.button(
            f"Fetch {'again ' if again else ''}· {size}", key=f"fetch-{where}", icon=":material/download:"
        )
        if pressed:
            _fetch(wanting)


def _described(one: AssetStatus) -> str:
    if one.damaged:
        return (
            f"**{one.title}** is damaged on this disk: {plain(', '.join(one.damaged))} no longer holds what was "
            "fetched. "
            "It cannot be trained until it is fetched again."
        )
    return f"**{one.title}** is not on {mode.machine()} yet. Counting and drawing work without it; training needs it."


def _fetch(wanting: Sequence[AssetStatus]) -> None:
    """Fetch, with a bar. It ends when the page is left: Streamlit raises at the next sign of progress."""
    titles = {one.name: one.title for one in wanting}
    bar = st.progress(0.0)

    def show(name: str, share: float) -> None:
        bar.progress(share, text=f"Fetching {titles[name]}")

    try:
        assets.fetch(titles, show)
    except PeftLabError as error:
        bar.empty()
        st.markdown(f":red[:material/error: {plain(error)}]")
        return
    st.rerun()
