"""Whose session is whose, in a class. Streamlit gives out files and old sessions to whoever knows their names; here
their owner is asked for, too.
"""

from __future__ import annotations

import threading
import time

import streamlit as st
from streamlit.runtime import exists, get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from peft_lab.classroom import asking, joining, marks, mode
from peft_lab.classroom.asking import Asker
from peft_lab.teaching.roll import Place

#: Seconds after the last run of a session that is closed; Streamlit itself lets go of it after minutes. One that is
#: open stays somebody's: parts of its page that are drawn again by themselves are no runs that come by here.
_KEPT = 6 * 3600.0
_lock = threading.Lock()
_sessions: dict[str, tuple[str, float, str]] = {}  # owner, when it last ran (monotonic), page


def who_asks() -> Asker | None:
    """Who this page's thread works for, by the cookie that its browser sent; ``None`` outside of one.

    A browser that has left takes its cookies with it: the run ends here, as Streamlit asked it to.
    """
    context = get_script_run_ctx(suppress_warning=True)
    if context is None:
        return None
    found = joining.admitted(str(st.context.cookies.get(marks.COOKIE, "")))
    if found is None and exists() and not get_instance().is_active_session(context.session_id):
        st.stop()
    return found


asking.told_by(lambda: who_asks())


def begin(page: str = "") -> None:
    """First thing in every run of the app: in a class, note whose session it is, and once it is known, on which page.

    Raises:
        NobodyAsks: a browser without a cookie, or of somebody who is forgotten.
    """
    context = get_script_run_ctx(suppress_warning=True)
    if not mode.on() or context is None:
        return
    who = asking.asker()
    if who is None:
        return
    now = time.monotonic()
    with _lock:
        old = [name for name, (_, at, _) in _sessions.items() if now - at > _KEPT]
        for identity in [name for name in old if not _open(name)]:
            del _sessions[identity]
        before = _sessions.get(context.session_id)
        _sessions[context.session_id] = (who.owner, now, page or (before[2] if before else ""))
    joining.note_visit(who.owner)


def leave() -> None:
    """Let the next person have this browser: nothing that is open in it shows or does any more what is one's own.

    Raises:
        PeftLabError: the disk cannot be written to, and nobody has left.
    """
    who, context = asking.asker(), get_script_run_ctx(suppress_warning=True)
    if who is None:
        return
    joining.leave(who.owner)
    with _lock:
        known = [name for name, (owner, _, _) in _sessions.items() if owner == who.owner]
    active = getattr(get_instance(), "_session_mgr", None) if exists() else None  # Streamlit's inner part
    for name in known:
        found = None if active is None else active.get_active_session_info(name)
        if found is not None and (context is None or name != context.session_id):
            found.session.request_rerun(None)  # which finds nobody there
    st.logout()  # on to where somebody joins; with what a provider said, where one did


def _open(session: str) -> bool:
    return exists() and get_instance().is_active_session(session)


def owner_of(session: str) -> str | None:
    """Whose session it is; ``None`` for one that has not run a page."""
    with _lock:
        found = _sessions.get(session)
    return None if found is None else found[0]


def places_of_all() -> dict[str, Place]:
    """Where everybody is who has a page open, by owner: of several pages the one that was used last."""
    now, found = time.monotonic(), dict[str, Place]()
    active = get_instance()
    with _lock:
        rows = sorted(_sessions.items(), key=lambda row: row[1][1])
    for session, (owner, at, page) in rows:
        if page and active.is_active_session(session):
            found[owner] = Place(page, now - at)
    return found
