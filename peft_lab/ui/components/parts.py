"""Parts of a page that are drawn again by themselves, each in a container of its own.

When a part's turn comes just after the whole page was drawn, Streamlit takes back what that part had drawn and the
browser has not been sent yet, and sends the rest (ForwardMsgQueue.clear). Whatever followed the part in the same
container would then reach the browser before it, at a position that does not exist, and the browser gives up on the
whole page ("Bad delta path index"). In a container of its own nothing follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

import streamlit as st

from peft_lab import disk as storage
from peft_lab.assets import store as assets
from peft_lab.errors import PeftLabError
from peft_lab.ui.foreign import plain


@contextmanager
def told() -> Iterator[None]:
    """Show what was refused meanwhile, or what the disk or its permissions refuse, as a sentence where the rest of the
    page would stand."""
    try:
        yield
    except PeftLabError as error:
        st.error(plain(error))
    except OSError as error:
        reason = storage.of_file(error, assets.home())
        if reason is None:
            raise
        st.error(plain(reason))


def part(draw: Callable[[], None], every: float | None = None) -> None:
    """Draw a part that can be drawn again without the rest: when one of its controls is used, and each ``every``
    seconds. Not for use within another part: what a part drew is taken back without the parts in it."""

    @wraps(draw)
    def drawn() -> None:
        with told():
            draw()

    with st.container():
        st.fragment(drawn, run_every=every)()
