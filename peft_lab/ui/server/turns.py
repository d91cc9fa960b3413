"""A part's turn waits until the end of its page's run has been taken in, and never takes that of another page.

Streamlit runs the script in a thread, whose messages the server's loop takes in one after the other. A request for a
part that comes when the thread has ended, and its last messages are still to be taken in, gets a new thread, and what
the old one had to say is dropped: the end of the page, and that it is drawn. It stayed "drawn again" for good, until
somebody moved something. On a machine that has nothing else to do the moment is too short; with a hundred learners it
was met (bench/RESULTS.md).

A part that is drawn again by a timer asks with the page that it stands on. Where a click on a link to another page
waits to be taken in, Streamlit makes one request of both, with the page that was named last: the old one, and the click
is lost. So does a page that draws itself again (``st.rerun``), as one does when an answer comes that it waited for.
Where the click has been taken in and its page is being drawn, a request for a part of the page before is answered when
that is done: with nothing, as the part is gone, but as a run of the page before, for which the browser empties the
window.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequestType

from peft_lab.core.replacing import Replacement

STARTS = Replacement(
    "thread for a part",
    "streamlit.runtime.app_session",
    "AppSession._create_scriptrunner",
    "A part that is asked for as its page's run ends gets a thread at once, and the page's last messages are dropped.",
)
REQUESTS = Replacement(
    "request of a timer",
    "streamlit.runtime.scriptrunner_utils.script_requests",
    "ScriptRequests.request_rerun",
    "A timer or the page itself, asking right behind a click on a link, names the page before and undoes the click.",
)
PARTS = Replacement(
    "request for a part",
    "streamlit.runtime.app_session",
    "AppSession.request_rerun",
    "A part of the page before, asked for while the next one is drawn, makes the browser empty the window.",
)
PAUSE = 0.01  # seconds between looks whether they have been taken in


def _of_the_page_itself(requests: Any, asked: Any) -> bool:
    """Return whether a run of a page asks for the same page again; ``st.switch_page`` asks for another."""
    context = get_script_run_ctx(suppress_warning=True)
    return (
        context is not None
        and context.script_requests is requests
        and context.page_script_hash == asked.page_script_hash
    )


def _of_the_page_before(session: Any, asked: Any) -> bool:
    """Return whether a part is asked for of another page than the one drawn last or being drawn."""
    known = session._pages_manager
    drawn = {known.current_page_script_hash, known.intended_page_script_hash}
    return bool(asked.fragment_id) and asked.page_script_hash not in drawn


@contextmanager
def in_order() -> Iterator[None]:
    """Drop, while this lasts, no message of a page's run for a part of it, and no click for a timer."""
    own, own_request, own_part = STARTS.original(), REQUESTS.original(), PARTS.original()

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

    def request(requests: Any, asked: Any) -> bool:
        with requests._lock:
            waiting = requests._rerun_data if requests._state is ScriptRequestType.RERUN else None
        if waiting is not None and not (waiting.fragment_id or waiting.fragment_id_queue):
            if asked.is_auto_rerun and asked.fragment_id:
                return True  # the whole page draws that part as well, and another page has none
            if _of_the_page_itself(requests, asked) and waiting.page_script_hash != asked.page_script_hash:
                return True  # whoever looks at it is on their way to another
        return bool(own_request(requests, asked))

    def part(session: Any, asked: Any) -> None:
        if asked and _of_the_page_before(session, asked):
            if asked.is_auto_rerun:
                return
            whole = type(asked)()  # a press there: whoever looks at it is back on that page
            whole.CopyFrom(asked)
            whole.ClearField("fragment_id")
            asked = whole
        own_part(session, asked)

    with STARTS.by(start), REQUESTS.by(request), PARTS.by(part):
        yield
