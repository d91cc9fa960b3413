"""A part's turn waits until the end of its page's run has been taken in.

Streamlit runs the script in a thread, whose messages the server's loop takes in one after the other. A request for a
part that comes when the thread has ended, and its last messages are still to be taken in, gets a new thread, and what
the old one had to say is dropped: the end of the page, and that it is drawn. It stayed "drawn again" for good, until
somebody moved something. On a machine that has nothing else to do the moment is too short; with a hundred learners it
was met (bench/RESULTS.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft_lab.replacing import Replacement

STARTS = Replacement(
    "thread for a part",
    "streamlit.runtime.app_session",
    "AppSession._create_scriptrunner",
    "A part that is asked for as its page's run ends gets a thread at once, and the page's last messages are dropped.",
)
PAUSE = 0.01  # seconds between looks whether they have been taken in


@contextmanager
def in_order() -> Iterator[None]:
    """While this lasts, no message of a page's run is dropped for a part of it."""
    own = STARTS.original()

    def start(session: Any, asked: Any) -> None:
        # A request for the whole page has let go of the thread before: that one's messages are for nobody.
        if asked.fragment_id and session._scriptrunner is not None:
            session._event_loop.call_later(PAUSE, again, session, asked)
        else:
            own(session, asked)

    def again(session: Any, asked: Any) -> None:
        if session._state is type(session._state).SHUTDOWN_REQUESTED:
            return
        if not session.has_fragment(
            asked.fragment_id
        ):  # as for one that comes later; a page without it was drawn
            return
        if session._scriptrunner is None or not session._scriptrunner.request_rerun(asked):
            start(session, asked)

    with STARTS.by(start):
        yield
