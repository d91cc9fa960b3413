"""Answers from another process that may take a while: the page is drawn without and comes back by itself.

Every look costs the server some milliseconds, whatever is seen: a run of the script, if only of one part. Where many
wait, as when a class opens its first page, they look less often, or they would be what they wait for.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from peft_lab.core import asking, units
from peft_lab.core.errors import PeftLabError
from peft_lab.models.assets import store as assets
from peft_lab.models.assets.store import AssetStatus
from peft_lab.ui.components.frame import part
from peft_lab.ui.foreign import plain

LOOKS = (0.25, 0.4375, 0.875, 1.75)  # seconds between looks at an answer that is still to come
#: Looks a second of all pages together, if all had the interval that a page gets. An interval stays what it was when
#: its page began to wait, so thirty that come one after the other look 40 times a second, not 120.
MOST = 16
_lock = threading.Lock()
_waiting: dict[str, tuple[Future[Any], ...]] = {}  # by session


def is_open(asked: Future[Any]) -> bool:
    """Whether there is nothing to draw yet: it is still to come, or too many others pushed it out."""
    return not asked.done() or asked.cancelled()


def come_back(undrawn: Sequence[Future[Any]]) -> None:
    """Draw the page again as soon as one of the answers is there, or at once for one that came since the page looked.

    Args:
        undrawn: what was open when the page looked (:func:`is_open`). Never what it found there, or it would begin
            again for ever.
    """
    # What was pushed out is asked for again with the next answer; where none is to come, at once.
    open_ = tuple(future for future in undrawn if not future.cancelled()) or tuple(undrawn)
    if not open_:
        return

    seen = False

    def watch() -> None:
        nonlocal seen
        # Not while the page itself is drawn: that would begin it again before a press has come to its button.
        if seen and any(future.done() for future in open_):
            st.rerun()
        seen = True

    part(watch, every=every(_pages_waiting(open_)))


def every(pages: int) -> float:
    """Seconds between the looks of each, while so many pages wait."""
    return next((seconds for seconds in LOOKS if pages / seconds <= MOST), LOOKS[-1])


def _pages_waiting(open_: tuple[Future[Any], ...]) -> int:
    """This one, and those that wait for what has not come yet."""
    context = get_script_run_ctx(suppress_warning=True)
    with _lock:
        for session in [name for name, asked in _waiting.items() if any(one.done() for one in asked)]:
            del _waiting[session]
        _waiting[context.session_id if context is not None else ""] = open_
        return len(_waiting)


# ----------------------------------------
# Weights and sentences that are missing or damaged, said where they are needed, with a button that fetches them.


def offer_fetch(where: str, needed: Collection[str] | None = None) -> None:
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
    return f"**{one.title}** is not on {asking.here()} yet. Counting and drawing work without it; training needs it."


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
