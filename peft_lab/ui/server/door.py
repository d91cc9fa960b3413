"""The door of a class: nobody gets further without the cookie that a join code is given for.

It stands before Streamlit, so what it refuses reaches nothing: no page, no WebSocket, no file for download, no upload.
A session, an upload or a download that belongs to another learner is refused, too. Where a class can be joined by
signing in, too, what a provider says of somebody is asked here once, for the same cookie (:mod:`.login`).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import streamlit as st
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peft_lab import journal, palette
from peft_lab.classroom import joining, keys, marks, mode, verified
from peft_lab.classroom.asking import Asker
from peft_lab.classroom.limits import limits
from peft_lab.errors import PeftLabError
from peft_lab.ui.server import downloads, login, sessions
from peft_lab.ui.server.hosts import Hosts, configured, from_environment

JOIN = "join"
OPEN = ("_stcore/health",)  # asked by machines that watch over the server; says nothing of anybody
CLOSED = ("_stcore/agent", "_stcore/metrics")  # nobody in a class needs them
_UPLOAD, _MEDIA = "_stcore/upload_file/", "media/"
_LONGEST_FORM = 4096  # bytes
_TRIES, _PER = 30, 60.0  # wrong codes from one address, in how many seconds: a room may share an address
_COLOURS = palette.variables(
    ink=palette.INK, soft=palette.SOFT, page=palette.PAGE, panel=palette.PANEL, frame=palette.FRAME,
    edge=palette.EDGE, accent=palette.ACCENT,
)  # fmt: skip
_PAGE = (Path(__file__).with_name("join.html")).read_text("utf-8")

_LOGIN = (Path(__file__).with_name("login.html")).read_text("utf-8")


class Door:
    """Lets in who has joined."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._base = str(st.get_option("server.baseUrlPath") or "").strip("/")
        self._hosts = Hosts((*from_environment(), *configured()))
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path, headers = self._below(scope["path"]), Headers(scope=scope)
        who = admitted(headers)
        if path in OPEN:
            await self._app(scope, receive, send)
        elif (
            verified.on()
            and scope["type"] == "http"
            and path in login.OPEN
            and self._root() + path == scope["path"]
        ):
            await self._app(scope, receive, login.forgetting(send, path, self._root()))
        elif verified.on() and scope["type"] == "http" and path == login.BEGIN and scope["method"] == "GET":
            await self._begin(scope)(scope, receive, send)
        elif scope["type"] == "http" and path == JOIN:
            await (await self._join(scope, headers, receive, who))(scope, receive, send)
        elif who is not None and _may(who, path, headers):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: status 403
        elif who is None and "text/html" in headers.get("accept", "") and scope["method"] == "GET":
            signed_in = login.claims(_cookies(headers)) if verified.on() else None
            if signed_in is not None:
                await self._signed_in(scope, headers, path, signed_in)(scope, receive, send)
                return
            query = scope.get("query_string", b"").decode("latin-1")
            wanted = "" if path == login.LOGOUT else f"{path}?{query}" if query else path
            await RedirectResponse(f"{self._root()}{JOIN}?next={quote(wanted)}", 303)(scope, receive, send)
        elif who is None:
            await PlainTextResponse("PEFT Lab: join the class first.\n", 401)(scope, receive, send)
        else:
            await PlainTextResponse("PEFT Lab: this is not yours.\n", 403)(scope, receive, send)

    def _below(self, path: str) -> str:
        found = f"{path.strip('/')}/"
        return (found.removeprefix(f"{self._base}/") if self._base else found).strip("/")

    def _root(self) -> str:
        return f"/{self._base}/" if self._base else "/"

    async def _join(self, scope: Scope, headers: Headers, receive: Receive, who: Asker | None) -> Response:
        if scope["method"] == "GET":
            answer = _form(self._root(), _next(scope), "", who is not None)
            if who is None and marks.COOKIE in headers.get("cookie", ""):  # of somebody who has left
                answer.delete_cookie(marks.COOKIE, path=self._root())
            return answer
        if scope["method"] != "POST" or not self._hosts.is_own_page(headers):
            return PlainTextResponse("PEFT Lab: the code is given on this app's own page.\n", 403)
        given = await _fields(receive)
        wanted, address = given.get("next", ""), str((scope.get("client") or ("",))[0])
        if self._too_many(address):
            problem = "Too many wrong codes came from here. Wait a minute and try again."
            return _form(self._root(), wanted, problem, who is not None, 429)
        try:
            joined, cookie = joining.join(given.get("code", ""), given.get("name", ""), who)
        except PeftLabError as error:
            journal.note("not joined", reason=type(error).__name__)
            if isinstance(error, joining.WrongCode):  # whom a full class turns away has guessed nothing
                self._wrong.setdefault(address, []).append(time.monotonic())
            return _form(self._root(), wanted, str(error), who is not None, 403)
        return self._let_in(scope, joined, cookie, wanted)

    def _let_in(self, scope: Scope, joined: Asker, cookie: str, wanted: str) -> Response:
        journal.note("joined", role="teacher" if joined.teacher else "learner")
        answer = RedirectResponse(self._root() + _inside(wanted), 303)
        lasts = marks.LOGIN_LASTS if joined.login else marks.LASTS
        self._set(answer, scope, marks.COOKIE, cookie, lasts)
        return answer

    def _set(self, answer: Response, scope: Scope, name: str, value: str, lasts: int) -> None:
        answer.set_cookie(
            name, value, max_age=lasts, path=self._root(), httponly=True, samesite="lax",
            secure=scope.get("scheme") == "https",
        )  # fmt: skip

    def _begin(self, scope: Scope) -> Response:
        """Off to the provider; the cookie says where to go on afterwards."""
        answer = RedirectResponse(login.address(), 303)
        self._set(answer, scope, login.WANTED, quote(_next(scope)[:2000]), 600)
        return answer

    def _signed_in(self, scope: Scope, headers: Headers, path: str, said: Mapping[str, Any]) -> Response:
        """Back from the provider, without a cookie of this class, or with one that is too old."""
        query = scope.get("query_string", b"").decode("latin-1")
        wanted = (f"{path}?{query}" if query else path) or unquote(_cookies(headers).get(login.WANTED, ""))
        try:
            joined, cookie = joining.join_verified(said)
        except PeftLabError as error:
            journal.note("not joined", reason=type(error).__name__)
            return _form(self._root(), wanted, str(error), False, 403)
        answer = self._let_in(scope, joined, cookie, wanted)
        if login.WANTED in headers.get("cookie", ""):
            answer.delete_cookie(login.WANTED, path=self._root())
        return answer

    def _too_many(self, address: str) -> bool:
        since = time.monotonic() - _PER
        recent = [at for at in self._wrong.pop(address, []) if at > since]
        if recent:
            self._wrong[address] = recent
        while len(self._wrong) > 1000:
            self._wrong.popitem(last=False)
        return len(recent) >= _TRIES


def ready() -> None:
    """Find out at the start, not at the first learner, whether codes, limits and secret can be used. Raises
    PeftLabError."""
    mode.join_code()
    limits()
    keys.keys()
    login.ready()


def admitted(headers: Headers) -> Asker | None:
    """Who the browser is that sends these headers; two cookies of the name are none."""
    found = _cookies(headers).get(marks.COOKIE)
    return None if found is None else joining.admitted(found)


def _cookies(headers: Headers) -> dict[str, str]:
    """Those that are sent once."""
    sent = [part.strip().partition("=") for line in headers.getlist("cookie") for part in line.split(";")]
    names = [name for name, _, _ in sent]
    return {name: value for name, _, value in sent if names.count(name) == 1}


def _next(scope: Scope) -> str:
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("next", [""])[0]


def _may(who: Asker, path: str, headers: Headers) -> bool:
    """Whether somebody who has joined may have what lies at this path, or take up the session that they name."""
    if path.startswith(CLOSED):
        return False
    if path.startswith(_UPLOAD):
        return sessions.owner_of(path.removeprefix(_UPLOAD).split("/")[0]) == who.owner
    if path.startswith(_MEDIA):
        return downloads.holds_file(who.owner, path.removeprefix(_MEDIA))
    named = headers.get("sec-websocket-protocol", "").split(",")
    session = named[2].strip() if len(named) > 2 else ""
    return not session or sessions.owner_of(session) in (None, who.owner)


async def _fields(receive: Receive) -> dict[str, str]:
    body = b""
    while len(body) <= _LONGEST_FORM:
        message: Message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    read = parse_qs(body[:_LONGEST_FORM].decode("utf-8", "replace"))
    return {name: values[0] for name, values in read.items()}


def _inside(wanted: str) -> str:
    """Where to go on: a path of this app, whatever was asked for."""
    path, mark, query = wanted.partition("?")
    plain = path.strip("/").replace("_", "").replace("-", "")
    if plain and not (plain.isascii() and plain.isalnum()):
        return ""
    return path.strip("/") + mark + quote(query, safe="=&%+,.-_~:;/")


def _form(root: str, wanted: str, problem: str, known: bool, status: int = 200) -> HTMLResponse:
    fill: dict[str, Any] = {
        "ROOT": root,
        "NEXT": wanted[:2000],
        "PROBLEM": problem,
        "NOTE": "You have joined already. Another code changes your role; your work stays. If that was somebody else, "
        "choose Leave in the app's sidebar first."
        if known
        else "",
    }
    ways = _LOGIN if verified.on() else ""
    page = (
        _PAGE.replace("%COLOURS%", _COLOURS)
        .replace("%LOGIN%", ways)
        .replace("%NEXTQUERY%", quote(wanted[:2000]))
    )
    for name, value in fill.items():
        page = page.replace(f"%{name}%", escape(str(value), quote=True))
    return HTMLResponse(page, status, {"cache-control": "no-store"})
