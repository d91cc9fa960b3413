"""Start and end of the server, Streamlit's files from memory, and the order of drawing pages and parts."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import gzip
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequestType

import peft_lab
from peft_lab.core import asking, inspector, journal
from peft_lab.core.errors import PeftLabError, Replacement
from peft_lab.training.tasks import all_tasks
from peft_lab.ui import web
from peft_lab.ui.server import sessions
from peft_lab.ui.server.door import root

# ----------------------------------------
# What a server has imported is there for good, and is left out of every search for garbage.
#
# Pages leave cycles behind, so Python searches all objects some times a minute; four fifths of them are modules, rows
# and what belongs to them, and nobody's page is drawn meanwhile.


def set_apart() -> None:
    """Exclude all current objects from garbage collection; the second pass resets Python's counts."""
    gc.collect()
    gc.freeze()
    gc.collect()


# ----------------------------------------
# What is made ready while nobody is there yet, so that the first page finds it: what the first page is drawn by, the
# process that counts, the libraries that other pages need and the sentences.


_begun = threading.Event()


def server_begun() -> bool:
    """Return whether a server prepares services; without one, as under AppTest, pages start them."""
    return _begun.is_set()


def begin_server(first: Callable[[], None]) -> None:
    """Start the preparation in a thread, ``first`` first. Returns at once."""
    _begun.set()
    threading.Thread(target=_ready, args=(first,), name="beginning", daemon=True).start()


def _ready(first: Callable[[], None]) -> None:
    # A browser that comes at once reads scripts while this is made; a process that imports torch would take the second
    # processor from both.
    try:
        first()
    finally:
        inspector.warm()
    import pandas  # noqa: F401  Streamlit imports it for the first table or chart that it draws

    for task in all_tasks():
        with suppress(PeftLabError):  # what is not there is told where it is needed
            task.load()
    set_apart()


# ----------------------------------------
# Where the C library takes small memory from.
#
# glibc gives each new thread a place of its own to take memory from, up to eight for a processor. Streamlit draws
# every page in a new thread, so what outlives a page lies scattered over all of these places, and what was freed
# between goes back to nobody: a server of a class grew by it (bench/RESULTS.md). Python's threads take turns, so two
# places do.


MOST_ARENAS = 2
_M_ARENA_MAX = -8  # malloc.h


def few_arenas() -> None:
    """Limit this process's threads to :data:`MOST_ARENAS` malloc arenas; does nothing without glibc."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # musl has no mallopt
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MOST_ARENAS)


# ----------------------------------------
# How the server begins, and how it ends when it is asked to (SIGTERM).


def ended_in_order(first: Callable[[], None]) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Return a lifespan for ``st.App`` that prepares services and lets the interpreter exit normally.

    Uvicorn stops the server on SIGTERM and then sends itself the signal again, which would kill the process
    before its exit handlers run and leave the workers' semaphores behind. By then nothing is left to stop.

    Args:
        first: prepares what the first page needs.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        few_arenas()
        journal.note("server started", version=peft_lab.__version__, of_class=asking.class_is_on())
        begin_server(first)
        with sessions.noted(), in_order():
            yield
        journal.note("server ended")
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    return lifespan


# ----------------------------------------
# Streamlit's own scripts and styles, from memory and compressed once.
#
# Streamlit reads each anew for every browser, in pieces of 64 kB through its threads, and sends them as they are.
# When a class opens its first page, thirty browsers ask for two dozen files each; most of what they then wait for is
# this.


FOLDER = "static"
#: The app's own fonts, served beside Streamlit's; see tools/subset_fonts.py.
FONTS, FONT = web.FONTS, ".woff2"
#: As Streamlit has it: names hold a hash of what is in the file.
KEPT_BY_BROWSERS = "public, immutable, max-age=31536000"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".woff2": "font/woff2",
}
_ICONS = re.compile(rb"@font-face\{font-family:Material Symbols Rounded;[^}]*\}")
_TEXT_FONT = re.compile(rb"@font-face\{font-family:Source (?:Sans|Serif|Code Pro);")
_OTHERS = f"unicode-range:{web.read('fonts/others.txt')};".encode()
_OTHERWISE = ("range", "if-none-match", "if-modified-since", "if-range")  # answered by Streamlit


def asset_middleware() -> list[Middleware]:
    """Return the middleware for ``st.App``; place it inside any access control."""
    return [Middleware(Assets)]


class Assets:
    """Serves the files of the installed Streamlit's folder; passes on every other request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._below = app, f"{root()}{FOLDER}/"
        folder = Path(st.__file__).with_name("static") / FOLDER
        self._files = {
            file.relative_to(folder).as_posix(): file
            for file in folder.rglob("*")
            if file.suffix in _TYPES and file.suffix != FONT
        } | {f"media/{file.name}": file for file in FONTS.glob(f"*{FONT}")}
        self._files[f"js/{web.CODEMIRROR.name}"] = web.CODEMIRROR
        self._assets: dict[str, asyncio.Task[Response]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        file = self._requested_file(scope)
        if file is None:
            await self._app(scope, receive, send)
            return
        name = file.as_posix()
        if name not in self._assets:  # whoever asks while it is read waits for the same
            self._assets[name] = asyncio.create_task(run_in_threadpool(_read, file))
        try:
            asset = await asyncio.shield(self._assets[name])
        except OSError:  # it cannot be read now: Streamlit says so, and the next who asks tries again
            self._assets.pop(name, None)
            await self._app(scope, receive, send)
            return
        await asset(scope, receive, send)

    def _requested_file(self, scope: Scope) -> Path | None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(self._below):
            return None
        headers = Headers(scope=scope)
        file = self._files.get(scope["path"].removeprefix(self._below))
        if file is None or file.suffix == FONT:  # these are ours, and they are compressed in themselves
            return file
        if "gzip" not in headers.get("accept-encoding", "") or any(name in headers for name in _OTHERWISE):
            return None
        return file


def _without_whole_fonts(style: bytes) -> bytes:
    """Return a file in which Streamlit's text fonts are for letters that ours lack, and its icons are ours alone."""
    style = _ICONS.sub(b"", style)
    return _TEXT_FONT.sub(lambda rule: rule[0] + _OTHERS, style)


def _read(file: Path) -> Response:
    headers = {"content-type": _TYPES[file.suffix], "cache-control": KEPT_BY_BROWSERS}
    if file.suffix == FONT:
        return Response(file.read_bytes(), headers=headers)
    body = gzip.compress(_without_whole_fonts(file.read_bytes()), 9, mtime=0)
    return Response(body, headers=headers | {"content-encoding": "gzip", "vary": "Accept-Encoding"})


# ----------------------------------------
# A part's turn waits until the end of its page's run has been taken in, and never takes that of another page.
#
# Streamlit runs the script in a thread, whose messages the server's loop takes in one after the other. A request for a
# part that comes when the thread has ended, and its last messages are still to be taken in, gets a new thread, and what
# the old one had to say is dropped: the end of the page, and that it is drawn. It stayed "drawn again" for good, until
# somebody moved something. On a machine that has nothing else to do the moment is too short; with a hundred learners it
# was met (bench/RESULTS.md).
#
# A part that is drawn again by a timer asks with the page that it stands on. Where a click on a link to another page
# waits to be taken in, Streamlit makes one request of both, with the page that was named last: the old one, and the
# click is lost. So does a page that draws itself again (``st.rerun``), as one does when an answer comes that it waited
# for. Where the click has been taken in and its page is being drawn, a request for a part of the page before is
# answered when that is done: with nothing, as the part is gone, but as a run of the page before, for which the browser
# empties the window.


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
    """Return whether a page's own run requests that page again; ``st.switch_page`` requests another."""
    context = get_script_run_ctx(suppress_warning=True)
    return (
        context is not None
        and context.script_requests is requests
        and context.page_script_hash == asked.page_script_hash
    )


def _of_the_page_before(session: Any, asked: Any) -> bool:
    """Return whether a request is for a part of another page than the one drawn last or being drawn."""
    known = session._pages_manager
    drawn = {known.current_page_script_hash, known.intended_page_script_hash}
    return bool(asked.fragment_id) and asked.page_script_hash not in drawn


@contextmanager
def in_order() -> Iterator[None]:
    """Patch Streamlit so that a part's run drops no message of its page's run, and a timer no click."""
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
