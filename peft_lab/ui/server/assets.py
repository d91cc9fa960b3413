"""Streamlit's own scripts and styles, from memory and compressed once.

Streamlit reads each anew for every browser, in pieces of 64 kB through its threads, and sends them as they are. When a
class opens its first page, thirty browsers ask for two dozen files each; most of what they then wait for is this.
"""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER = "static"
#: As Streamlit has it: names hold a hash of what is in the file.
KEPT_BY_BROWSERS = "public, immutable, max-age=31536000"
_TEXT = {".js": "text/javascript", ".css": "text/css"}
_OTHERWISE = ("range", "if-none-match", "if-modified-since", "if-range")  # answered by Streamlit


@dataclass(frozen=True)
class _Asset:
    body: bytes
    headers: dict[str, str]


def middleware() -> list[Middleware]:
    """For ``st.App``, within whatever decides who may ask."""
    return [Middleware(Assets)]


class Assets:
    """Answers for the files that the installed Streamlit has in its folder; hands on everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        base = str(st.get_option("server.baseUrlPath") or "").strip("/")
        self._below = f"/{base}/{FOLDER}/" if base else f"/{FOLDER}/"
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
