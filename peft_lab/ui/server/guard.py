"""What stands before the app: requests under a foreign name or by a foreign page are refused, and every answer says
what a page may load."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peft_lab.core import asking, journal
from peft_lab.ui.server import metrics
from peft_lab.ui.server.door import Door, door_ready
from peft_lab.ui.server.hosts import VARIABLE, Hosts, below, name_of, root
from peft_lab.ui.server.metrics import Watched

MISDIRECTED = 421
_NOWHERE = "PEFT Lab: there is no page at this address. Open the app's first page and choose one there.\n"
_FOREIGN_PAGE = "PEFT Lab: this is asked by a page of another site or another port.\n"
_READING = ("GET", "HEAD")  # what they change is nothing; a WebSocket has no method
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def middleware() -> list[Middleware]:
    """Return the middleware for ``st.App``."""
    journal.begin()
    metrics.metrics_token()  # one that is too short ends the start, not every answer
    before = [Middleware(Guard), Middleware(Watched)]
    if not asking.class_is_on():
        return before
    door_ready()
    st.set_option("client.showErrorDetails", "none")  # what goes wrong unforeseen names folders of the server
    return [*before, Middleware(Door)]


class Guard:
    """Refuses HTTP requests and WebSockets under foreign names, says where no page is, and adds :func:`headers`."""

    def __init__(self, app: ASGIApp, hosts: Hosts | None = None) -> None:
        self._app, self._hosts, self._root = app, hosts or Hosts(), root()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        nowhere = False

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers())
            await send(message)

        async def send_page(message: Message) -> None:
            nonlocal nowhere
            if message["type"] == "http.response.start" and not nowhere:
                nowhere = is_page(message) and not self._may_be_page(scope["path"])
                if nowhere:
                    await PlainTextResponse(_NOWHERE, 404)(scope, receive, send_with_headers)
            if not nowhere:
                await send_with_headers(message)

        asked = Headers(scope=scope)
        refusal, status, reason = self._refusal(asked.getlist("host")), MISDIRECTED, "foreign host"
        if refusal is None and scope.get("method") not in _READING and not self._hosts.is_own_page(asked):
            refusal, status, reason = _FOREIGN_PAGE, 403, "foreign page"
        if refusal is None:
            if scope["type"] == "websocket" and "origin" in asked:
                # Streamlit compares the two letter by letter, and a proxy may have left the port out
                MutableHeaders(scope=scope)["host"] = asked["origin"].partition("://")[2]
            await self._app(scope, receive, send_page)
            return
        journal.note("refused", reason=reason)
        if scope["type"] == "http":
            await PlainTextResponse(refusal, status)(scope, receive, send_with_headers)
        else:
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: status 403

    def _may_be_page(self, path: str) -> bool:
        """Return whether a page can be there: pages have one name, and the frames of components are no pages.

        Streamlit answers any other path with the app's page too. From there its scripts lie at other addresses, and
        the page stays white.
        """
        name = below(self._root, path)
        return "/" not in name or name.startswith("component/")

    def _refusal(self, asked: list[str]) -> str | None:
        """Return why a request is refused, in one or two sentences; ``None`` if it is not."""
        name = name_of(asked[0]) if len(asked) == 1 else None
        if name is None:
            return "PEFT Lab: this request does not say which host it is for.\n"
        if self._hosts.allow(name):
            return None
        return (
            f"PEFT Lab does not answer to the name {name}. If this name is yours, start PEFT Lab with the environment "
            f"variable {VARIABLE}={name}.\n"
        )


def is_page(start: Message) -> bool:
    """Return whether an answer that starts so is a page; a file to be kept can be HTML as well."""
    found = Headers(raw=start["headers"])
    kept = found.get("content-disposition", "").startswith("attachment")
    return start["status"] == 200 and found.get("content-type", "").startswith("text/html") and not kept


@cache
def headers() -> dict[str, str]:
    """Return what a browser may load for the app's pages, and who may show them in a frame: this app only.

    Streamlit styles its parts with inline styles. Components' scripts and the workers of its widgets come as ``blob:``
    addresses that the page has made itself; pictures and fonts may be written out (``data:``). Its one inline script
    is allowed by its hash.
    """
    return {
        "content-security-policy": "; ".join(
            (
                "default-src 'self'",
                f"script-src 'self' blob: {' '.join(_inline_scripts())}",
                "style-src 'self' 'unsafe-inline'",
                "img-src 'self' data: blob:",
                "font-src 'self' data:",
                "media-src 'self' data: blob:",
                "connect-src 'self' blob: data:",
                "worker-src 'self' blob:",
                "object-src 'none'",
                "base-uri 'self'",
                "form-action 'self'",
                "frame-ancestors 'self'",
            )
        ),
        "x-content-type-options": "nosniff",
        "x-frame-options": "SAMEORIGIN",
        "referrer-policy": "same-origin",
    }


def _inline_scripts() -> list[str]:
    page = Path(st.__file__).with_name("static") / "index.html"
    scripts = _SCRIPT.findall(page.read_text(encoding="utf-8"))
    return [
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts
    ]
