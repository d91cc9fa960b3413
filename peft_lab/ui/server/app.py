"""What a server has imported is there for good, and is left out of every search for garbage.

Pages leave cycles behind, so Python searches all objects some times a minute; four fifths of them are modules, rows and
what belongs to them, and nobody's page is drawn meanwhile.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import gzip
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

import peft_lab
from peft_lab.core import asking, journal
from peft_lab.core.errors import PeftLabError
from peft_lab.training.tasks import all_tasks
from peft_lab.ui.server import sessions, turns
from peft_lab.ui.server.hosts import root
from peft_lab.workers import inspector


def set_apart() -> None:
    """Leave all objects of now out of garbage searches; the second search makes Python count anew what stays."""
    gc.collect()
    gc.freeze()
    gc.collect()


# ----------------------------------------
# What is made ready while nobody is there yet, so that the first page finds it: what the first page is drawn by, the
# process that counts, the libraries that other pages need and the sentences.


_begun = threading.Event()


def server_begun() -> bool:
    """Return whether a server makes ready; without one, as under AppTest, a page starts what it needs."""
    return _begun.is_set()


def begin_server(first: Callable[[], None]) -> None:
    """Begin with it, ``first`` first. Returns at once."""
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
    """Let all threads of this process share :data:`MOST_ARENAS` of them. Nothing happens under another C library, or
    once
    there are more."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # musl has no mallopt
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MOST_ARENAS)


# ----------------------------------------
# How the server begins, and how it ends when it is asked to (SIGTERM).


def ended_in_order(first: Callable[[], None]) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Return a lifespan for ``st.App`` that makes ready, and lets the interpreter end as after its last line.

    Uvicorn stops the server on SIGTERM and then sends itself the signal once more, which would kill the process before
    its exit handlers ran: the semaphores of worker processes would stay behind. By then nothing is left to be stopped.

    Args:
        first: makes ready what the first page needs.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        few_arenas()
        journal.note("server started", version=peft_lab.__version__, of_class=asking.class_is_on())
        begin_server(first)
        with sessions.noted(), turns.in_order():
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
#: As Streamlit has it: names hold a hash of what is in the file.
KEPT_BY_BROWSERS = "public, immutable, max-age=31536000"
_TEXT = {".js": "text/javascript", ".css": "text/css"}
_OTHERWISE = ("range", "if-none-match", "if-modified-since", "if-range")  # answered by Streamlit


@dataclass(frozen=True)
class _Asset:
    body: bytes
    headers: dict[str, str]


def asset_middleware() -> list[Middleware]:
    """Return the middleware for ``st.App``; it goes within whatever decides who may ask."""
    return [Middleware(Assets)]


class Assets:
    """Answers for the files that the installed Streamlit has in its folder; hands on everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._below = app, f"{root()}{FOLDER}/"
        folder = Path(st.__file__).with_name("static") / FOLDER
        self._files = {
            file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.suffix in _TEXT
        }
        self._assets: dict[str, asyncio.Task[_Asset]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        file = self._asked(scope)
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
        await Response(asset.body, headers=asset.headers)(scope, receive, send)

    def _asked(self, scope: Scope) -> Path | None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(self._below):
            return None
        headers = Headers(scope=scope)
        if "gzip" not in headers.get("accept-encoding", "") or any(name in headers for name in _OTHERWISE):
            return None
        return self._files.get(scope["path"].removeprefix(self._below))


def _read(file: Path) -> _Asset:
    body = gzip.compress(file.read_bytes(), 6, mtime=0)
    headers = {
        "content-type": f"{_TEXT[file.suffix]}; charset=utf-8",
        "content-encoding": "gzip",
        "vary": "Accept-Encoding",
        "cache-control": KEPT_BY_BROWSERS,
    }
    return _Asset(body, headers)
