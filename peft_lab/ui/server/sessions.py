"""Owners of sessions in a class. Streamlit gives files and old sessions to anybody who knows their names;
here their owner is checked, too."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st
from streamlit.runtime import exists, get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from peft_lab.classroom import joining
from peft_lab.core import asking
from peft_lab.core.asking import Asker
from peft_lab.core.errors import Replacement
from peft_lab.runs.queue import PageVisit
from peft_lab.ui import web

#: Seconds after the last run of a session that is closed; Streamlit itself lets go of it after minutes. One that is
#: open stays somebody's: parts of its page that are drawn again by themselves are no runs that come by here.
_KEPT = 6 * 3600.0
_lock = threading.Lock()
_sessions: dict[str, tuple[str, float, str]] = {}  # owner, when it last ran (monotonic), page


def who_asks() -> Asker | None:
    """Return the person behind this page's thread, by the browser's cookie; ``None`` outside of a page. A browser that
    has left has no cookies any more: then the run ends here, as Streamlit requested."""
    context = get_script_run_ctx(suppress_warning=True)
    if context is None:
        return None
    found = joining.admitted(str(st.context.cookies.get(joining.COOKIE, "")))
    if found is None and exists() and not get_instance().is_active_session(context.session_id):
        st.stop()
    return found


asking.told_by(lambda: who_asks())


def begin(page: str = "") -> None:
    """Begin a run of the app: in a class, record the session's owner and, once known, its page. Raises NobodyAsks if
    the browser has no cookie, or that of a deleted person."""
    context = get_script_run_ctx(suppress_warning=True)
    if not asking.class_is_on() or context is None:
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
    """Hand the browser to the next person: no open page shows or does anything of the current one any more. Raises
    PeftLabError if the disk cannot be written to: then nobody has left."""
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
    """Return a session's owner; ``None`` if it has not run a page."""
    with _lock:
        found = _sessions.get(session)
    return None if found is None else found[0]


def places_of_all() -> dict[str, PageVisit]:
    """Return the page of everybody with an open one, by owner; of several, the one used last."""
    now, found = time.monotonic(), dict[str, PageVisit]()
    active = get_instance()
    with _lock:
        rows = sorted(_sessions.items(), key=lambda row: row[1][1])
    for session, (owner, at, page) in rows:
        if page and active.is_active_session(session):
            found[owner] = PageVisit(page, now - at)
    return found


# ----------------------------------------
# A random mark by which a browser's runs are found again after a reload, when Streamlit has begun another session.
#
# The first session of a browser makes the mark and a small component keeps it as a cookie; later sessions are told
# it.


COOKIE = "peft_lab_browser"
_KEPT_MARK = "browser-mark"
_FORM = re.compile(r"[A-Za-z0-9_-]{16,64}")
_JS = web.read("browser_mark.js", COOKIE=COOKIE, YEAR=365 * 24 * 3600)
_mount = st.components.v2.component("peft_browser_mark", html="<span hidden></span>", js=_JS)


def _sent() -> str | None:
    found = str(st.context.cookies.get(COOKIE, ""))
    return found if _FORM.fullmatch(found) else None


def browser_mark() -> str:
    """Return this browser's mark, the same for all its tabs and sessions."""
    mark: str = st.session_state.setdefault(_KEPT_MARK, _sent() or secrets.token_urlsafe(16))
    return mark


def keep_mark() -> None:
    """Store the mark in the browser. Draw it last on a page, as it shows nothing."""
    if _sent() is None:
        _mount(key="browser-mark", data={"mark": browser_mark()})


# ----------------------------------------
# Whose download is whose, in a class. Streamlit serves a file that the app made to whoever knows its address.


DEFERRED = Replacement(
    "deferred download",
    "streamlit.runtime.media_file_manager",
    "MediaFileManager.execute_deferred",
    "A file that is made when its button is pressed is noted for no session, so nobody could be told whose it is.",
)
_MOST = 2000  # files; Streamlit keeps them no longer than the page that asked for them
_downloads_lock = threading.Lock()
_made: OrderedDict[str, set[str]] = OrderedDict()


@contextmanager
def noted() -> Iterator[None]:
    """Record, in a class, the session's owner for every file made on demand within the context."""
    if not asking.class_is_on():
        yield
        return
    own = DEFERRED.original()

    def noting(manager: Any, file: str) -> str:
        asked = getattr(manager, "_deferred_callables", {}).get(file, {})
        address: str = own(manager, file)
        owner = owner_of(str(asked.get("session_id", "")))
        if owner is not None:
            with _downloads_lock:
                _made.setdefault(_name(address), set()).add(owner)
                while len(_made) > _MOST:
                    _made.popitem(last=False)
        return address

    with DEFERRED.by(noting):
        yield


def holds_file(owner: str, file: str) -> bool:
    """Return whether a page of this owner refers to a file that the app made, or had it made. The references are
    internal to Streamlit; under a version without them, nobody gets the file."""
    with _downloads_lock:
        if owner in _made.get(_name(file), ()):
            return True
    used = getattr(get_instance().media_file_mgr, "_files_by_session_and_coord", {})
    return any(
        owner_of(session) == owner and any(_name(each) == _name(file) for each in list(files.values()))
        for session, files in list(used.items())
    )


def _name(address: str) -> str:
    """Return a file's name without folder and suffix: ``/media/abc.csv`` is ``abc``."""
    return address.rpartition("/")[2].partition(".")[0]
