"""Access control of a class: nobody gets further without the cookie that a join code gives.

It stands before Streamlit, so a refused request reaches nothing: no page, WebSocket, download or upload. A
session, an upload or a download of another learner is refused, too. If a class can be joined by signing in,
the provider's claims are checked here once, for the same cookie. :class:`Hosts` decides which host names the
app answers to.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from html import escape
from importlib import util
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

import psutil
import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import auth_util
from streamlit.errors import StreamlitAuthError
from streamlit.user_info import generate_login_redirect_url
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from peft_lab.classroom import joining, places
from peft_lab.core import asking, disk, journal, palette
from peft_lab.core.asking import Asker, limits
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.ui.server import sessions

# ----------------------------------------
# Signing in at an identity provider (OpenID Connect), by Streamlit's own routes: ``[auth]`` in its secrets.toml.
#
# Streamlit and Authlib do the protocol: code flow with state and nonce, the ID token's signature, issuer and
# audience. What comes of it is Streamlit's cookie ``_streamlit_user``, signed with ``cookie_secret``, which holds
# what ``st.user`` tells a page. The door asks the same cookie, once: it gives the class's own cookie for it, which
# all else goes by.


LOGIN_BEGINS = "join/login"
LOGIN, CALLBACK, LOGOUT = "auth/login", "oauth2callback", "auth/logout"
#: Where who has not joined must get to, to join by signing in.
LOGIN_OPEN = (LOGIN, CALLBACK, LOGOUT)
LOGIN_WANTED = "peft_lab_wanted"
PROVIDER = "default"
SHORTEST_SECRET = 32  # characters


def login_ready() -> None:
    """Check at the start that people can sign in. Raises BadInput with what is missing."""
    if not joining.login_is_on():
        return
    joining.is_listed(joining.WHO_MAY_LOG_IN)
    joining.is_listed(joining.TEACHERS)
    if util.find_spec("authlib") is None:
        raise BadInput("Signing in needs Authlib. Install it: pip install 'peft-lab[oidc]'.")
    try:
        auth_util.validate_auth_credentials(PROVIDER)
    except StreamlitAuthError as error:
        raise BadInput(f"Nobody can sign in: {' '.join(str(error).split())}") from error
    if len(get_cookie_secret()) < SHORTEST_SECRET:
        raise BadInput(
            "cookie_secret in secrets.toml is too short. It signs the login cookies and needs at least "
            f"{SHORTEST_SECRET} characters; make one with 'openssl rand -hex 32'."
        )
    address = urlsplit(auth_util.get_redirect_uri(auth_util.get_secrets_auth_section()) or "")
    if address.path != root() + CALLBACK:
        raise BadInput(f"redirect_uri in secrets.toml must end with this app's path and {CALLBACK}.")


def login_claims(cookies: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the claims in Streamlit's cookie; None unless it signed one for this app's address."""

    def one(name: str) -> bytes | None:
        return decode_signed_value(get_cookie_secret(), name, cookies.get(name, ""))

    if USER_COOKIE_NAME not in cookies or not get_cookie_secret():
        return None
    found = auth_util.get_cookie_with_chunks(one, USER_COOKIE_NAME)
    try:
        said = json.loads(found or b"null")
    except ValueError:
        return None
    if not isinstance(said, dict) or said.get("is_logged_in") is not True or said.get("provider") != PROVIDER:
        return None
    return said if said.get("origin") == auth_util.get_origin_from_redirect_uri() else None


def login_forgetting(send: Send, path: str, root: str) -> Send:
    """Return a ``send`` that deletes the class's cookie at each successful sign-in or sign-out."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            given = [
                each for each in headers.getlist("set-cookie") if each.startswith(f"{USER_COOKIE_NAME}=")
            ]
            cleared = any(each.startswith(f'{USER_COOKIE_NAME}=""') for each in given)
            if path == LOGOUT or (path == CALLBACK and given and not cleared):
                headers.append(
                    "set-cookie", f"{joining.COOKIE}=; Path={root}; Max-Age=0; HttpOnly; SameSite=lax"
                )
        await send(message)

    return sending


JOIN = "join"
OPEN_PATHS = ("_stcore/health",)  # asked by machines that watch over the server; says nothing of anybody
SHOWN = "join/shown"  # asked by learners' pages: which page the teacher shows
CLOSED = ("_stcore/agent", "_stcore/metrics")  # nobody in a class needs them
_UPLOAD, _MEDIA = "_stcore/upload_file/", "media/"
_LONGEST_FORM = 4096  # bytes
_TRIES, _PER = 30, 60.0  # wrong codes from one address, in how many seconds: a room may share an address
_COLOURS = palette.variables(
    ink=palette.INK, soft=palette.SOFT, page=palette.PAGE, panel=palette.PANEL, frame=palette.FRAME,
    edge=palette.EDGE, accent=palette.ACCENT,
)  # fmt: skip


class Door:
    """Admits people who have joined."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._root, self._hosts = app, root(), Hosts()
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path, headers = below(self._root, scope["path"]), Headers(scope=scope)
        who, http = admitted(headers), scope["type"] == "http"
        login = http and joining.login_is_on()
        if path in OPEN_PATHS:
            await self._app(scope, receive, send)
        elif login and path in LOGIN_OPEN and self._root + path == scope["path"]:
            await self._app(scope, receive, login_forgetting(send, path, self._root))
        elif login and path == LOGIN_BEGINS and scope["method"] == "GET":
            await self._begin(scope)(scope, receive, send)
        elif http and path == JOIN:
            await (await self._join(scope, headers, receive, who))(scope, receive, send)
        elif who is not None and http and path == SHOWN:
            await PlainTextResponse(places.shown_version(), 200, {"cache-control": "no-store"})(
                scope, receive, send
            )
        elif who is not None and _may(who, path, headers):
            await self._app(scope, receive, send)
        elif not http:
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: status 403
        elif who is None and "text/html" in headers.get("accept", "") and scope["method"] == "GET":
            signed_in = login_claims(_cookies(headers)) if joining.login_is_on() else None
            if signed_in is not None:
                await self._signed_in(scope, headers, path, signed_in)(scope, receive, send)
                return
            wanted = "" if path == LOGOUT else _with_query(scope, path)
            await RedirectResponse(f"{self._root}{JOIN}?next={quote(wanted)}", 303)(scope, receive, send)
        elif who is None:
            await PlainTextResponse("PEFT Lab: join the class first.\n", 401)(scope, receive, send)
        else:
            await PlainTextResponse("PEFT Lab: you may not open this.\n", 403)(scope, receive, send)

    async def _join(self, scope: Scope, headers: Headers, receive: Receive, who: Asker | None) -> Response:
        if scope["method"] == "GET":
            answer = _form(self._root, _next(scope), "", who is not None)
            if who is None and joining.COOKIE in headers.get("cookie", ""):  # of somebody who has left
                answer.delete_cookie(joining.COOKIE, path=self._root)
            return answer
        if scope["method"] != "POST" or not self._hosts.is_own_page(headers):
            return PlainTextResponse("PEFT Lab: enter the code on this app's own page.\n", 403)
        given = await _fields(receive)
        wanted, address = given.get("next", ""), str((scope.get("client") or ("",))[0])
        if self._too_many(address):
            problem = "Too many wrong codes. Wait a minute and try again."
            return _form(self._root, wanted, problem, who is not None, 429)
        try:
            joined, cookie = joining.join(given.get("code", ""), given.get("name", ""), who)
        except PeftLabError as error:
            journal.note("not joined", reason=type(error).__name__)
            if isinstance(error, joining.WrongCode):  # whom a full class turns away has guessed nothing
                self._wrong.setdefault(address, []).append(time.monotonic())
            return _form(self._root, wanted, str(error), who is not None, 403)
        return self._let_in(scope, joined, cookie, wanted)

    def _let_in(self, scope: Scope, joined: Asker, cookie: str, wanted: str) -> Response:
        journal.note("joined", role="teacher" if joined.teacher else "learner")
        answer = RedirectResponse(self._root + _inside(wanted), 303)
        lasts = joining.LOGIN_LASTS if joined.login else joining.MARK_LASTS
        self._set(answer, scope, joining.COOKIE, cookie, lasts)
        return answer

    def _set(self, answer: Response, scope: Scope, name: str, value: str, lasts: int) -> None:
        answer.set_cookie(
            name, value, max_age=lasts, path=self._root, httponly=True, samesite="lax",
            secure=scope.get("scheme") == "https",
        )  # fmt: skip

    def _begin(self, scope: Scope) -> Response:
        """Return a redirect to the provider; a cookie stores the page to return to."""
        answer = RedirectResponse(generate_login_redirect_url(PROVIDER), 303)
        self._set(answer, scope, LOGIN_WANTED, quote(_next(scope)[:2000]), 600)
        return answer

    def _signed_in(self, scope: Scope, headers: Headers, path: str, said: Mapping[str, Any]) -> Response:
        """Admit a person back from the provider, without this class's cookie or with an expired one."""
        wanted = _with_query(scope, path) or unquote(_cookies(headers).get(LOGIN_WANTED, ""))
        try:
            joined, cookie = joining.join_verified(said)
        except PeftLabError as error:
            journal.note("not joined", reason=type(error).__name__)
            return _form(self._root, wanted, str(error), False, 403)
        answer = self._let_in(scope, joined, cookie, wanted)
        if LOGIN_WANTED in headers.get("cookie", ""):
            answer.delete_cookie(LOGIN_WANTED, path=self._root)
        return answer

    def _too_many(self, address: str) -> bool:
        since = time.monotonic() - _PER
        recent = [at for at in self._wrong.pop(address, []) if at > since]
        if recent:
            self._wrong[address] = recent
        while len(self._wrong) > 1000:
            self._wrong.popitem(last=False)
        return len(recent) >= _TRIES


def door_ready() -> None:
    """Check codes, limits and secret at the start, not at the first learner. Raises PeftLabError."""
    asking.join_code()
    limits()
    joining.class_keys()
    login_ready()


def admitted(headers: Headers) -> Asker | None:
    """Return the person whose cookie these headers hold; a repeated cookie admits nobody."""
    found = _cookies(headers).get(joining.COOKIE)
    return None if found is None else joining.admitted(found)


def _cookies(headers: Headers) -> dict[str, str]:
    """Return the cookies that occur only once."""
    sent = [part.strip().partition("=") for line in headers.getlist("cookie") for part in line.split(";")]
    names = [name for name, _, _ in sent]
    return {name: value for name, _, value in sent if names.count(name) == 1}


def _with_query(scope: Scope, path: str) -> str:
    query = scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path


def _next(scope: Scope) -> str:
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("next", [""])[0]


def _may(who: Asker, path: str, headers: Headers) -> bool:
    """Return whether a member may access this path, and continue the session that the headers name."""
    if path.startswith(CLOSED):
        return False
    if path.startswith(_UPLOAD):
        return sessions.owner_of(path.removeprefix(_UPLOAD).split("/")[0]) == who.owner
    if path.startswith(_MEDIA):
        return sessions.holds_file(who.owner, path.removeprefix(_MEDIA))
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
    """Return the target of a redirect, always a path of this app."""
    path, mark, query = wanted.partition("?")
    plain = path.strip("/").replace("_", "").replace("-", "")
    if plain and not (plain.isascii() and plain.isalnum()):
        return ""
    return path.strip("/") + mark + quote(query, safe="=&%+,.-_~:;/")


def _form(root: str, wanted: str, problem: str, known: bool, status: int = 200) -> HTMLResponse:
    fill = {
        "ROOT": root,
        "NEXT": wanted[:2000],
        "PROBLEM": problem,
        "NOTE": "You have already joined. Another code changes your role and keeps your work. If somebody else "
        "joined here, choose Leave in the app's sidebar first."
        if known
        else "",
    }
    ways = disk.beside(__file__, "login.html") if joining.login_is_on() else ""
    safe = {name: escape(value, quote=True) for name, value in fill.items()}
    around = {"COLOURS": _COLOURS, "LOGIN": ways, "NEXTQUERY": quote(wanted[:2000])}
    page = disk.beside(__file__, "join.html", **around, **safe)
    return HTMLResponse(page, status, {"cache-control": "no-store"})


# ----------------------------------------
# The names that the app answers to.
#
# A page on another site can make its own name point at this machine (DNS rebinding); the browser then lets that page
# read everything here, as both seem to be one site. What gives it away is the name that the browser asks for. A page
# of another port on this machine is another site, too; the ``Origin`` that its browser states gives it away.


VARIABLE = "PEFT_LAB_HOSTS"
_HEADER = re.compile(
    r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?)(?::(?P<port>\d{1,5}))?", re.ASCII
)
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_LONGEST = 260  # a name of 253 characters, a colon and a port
_CONTAINER = ("/.dockerenv", "/run/.containerenv")
_FRESH_SECONDS = 5.0  # a laptop changes networks while the app runs


def root() -> str:
    """Return the app's base path, with a slash at both ends: ``/``, or ``/lab/``."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}/" if base else "/"


def below(root: str, path: str) -> str:
    """Return a request's path below the app's root, without slashes at its ends."""
    return f"/{path.strip('/')}/".removeprefix(root).strip("/")


def name_of(header: str) -> str | None:
    """Return the name or address in a ``Host`` header, lower-case, without port and brackets, or ``None``."""
    found = _HEADER.fullmatch(header.lower()) if len(header) <= _LONGEST else None
    return found["name"].strip("[]").rstrip(".") if found else None


def added_names() -> tuple[str, ...]:
    """Return the host names that the app answers to besides the machine's own.

    ``PEFT_LAB_HOSTS`` holds names separated by commas; ``*.example.org`` means all below it, ``*`` all.
    Streamlit's settings add the name to open the app by, and those allowed for its WebSocket.
    """
    settings = (st.get_option("browser.serverAddress"), *(st.get_option("server.allowedHosts") or ()))
    names = (*os.environ.get(VARIABLE, "").split(","), *(str(name) for name in settings if name))
    return tuple(name.strip().lower().rstrip(".") for name in names if name.strip())


class Hosts:
    """This machine's own names and addresses, and added ones (:func:`added_names` by default)."""

    def __init__(self, added: tuple[str, ...] | None = None) -> None:
        self._added = added_names() if added is None else added
        self._own: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    def allow(self, name: str) -> bool:
        """Return whether the app answers to this name, as :func:`name_of` returns it."""
        return self._is_added(name) or is_loopback(name) or self._is_own(name)

    def is_own_page(self, headers: Headers) -> bool:
        """Return whether a request comes from a page of this app, by its ``Origin``; programs send none.

        Host and port must match the request's. Behind a proxy that forwards another port than it listens on,
        an added name (``PEFT_LAB_HOSTS``) stands for all its ports, unless it is a loopback name.
        """
        stated = headers.getlist("origin")
        if not stated or not st.get_option("server.enableCORS"):
            return True
        if len(stated) > 1:
            return False
        if stated[0] in (st.get_option("server.corsAllowedOrigins") or ()):
            return True
        scheme, separator, origin = stated[0].lower().partition("://")
        name, host = name_of(origin), headers.get("host", "").lower()
        if not separator or name is None or name != name_of(host):
            return False
        if _port(origin, scheme) == _port(host, scheme):
            return True
        return not is_loopback(name) and self._is_added(name)

    def _is_added(self, name: str) -> bool:
        """Return whether a name was added, itself or by a pattern: ``*`` or ``*.example.org``."""
        return any(
            name.endswith(one[1:]) if one.startswith("*.") else one in ("*", name) for one in self._added
        )

    def _is_own(self, name: str) -> bool:
        if name not in self._own and time.monotonic() - self._read_at > _FRESH_SECONDS:
            self._own, self._read_at = own_names(), time.monotonic()
        return name in self._own


def own_names() -> frozenset[str]:
    """Return the machine's host names, and the addresses of its network interfaces."""
    host = socket.gethostname().lower()
    short = host.partition(".")[0]
    inet = (socket.AF_INET, socket.AF_INET6)
    addresses = {
        entry.address.partition("%")[0].lower()
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in inet
    }
    return frozenset({host, short, f"{short}.local"} | addresses)


def is_loopback(name: str) -> bool:
    """Return whether a name or address always means the machine that uses it."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def class_address(seen: str) -> str | None:
    """Return the app's base URL for the learners' machines; ``None`` if none is known that reaches this one.

    Args:
        seen: the base URL in the teacher's browser. If it names this machine only, the machine's address in its
            network takes that name's place.
    """
    parts = urlsplit(seen)
    if not is_loopback(parts.hostname or ""):
        return seen if parts.hostname else None
    listens = str(st.get_option("server.address") or "")
    inside = any(Path(mark).exists() for mark in _CONTAINER)  # its own address leads nowhere outside
    address = None if is_loopback(listens) or inside else lan_address()
    return None if address is None else urlunsplit(parts._replace(netloc=address + f":{parts.port or 80}"))


def lan_address() -> str | None:
    """Return this machine's IPv4 address in its network; ``None`` without a network. Nothing is sent."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # for documentation (RFC 5737): the way out of here leads there, too
        return str(probe.getsockname()[0])
    known = sorted(name for name in own_names() if re.fullmatch(r"[0-9.]+", name))
    return next((name for name in known if not is_loopback(name) and not name.startswith("169.254.")), None)


def _port(host: str, scheme: str) -> int | None:
    """Return the port in a host that :func:`name_of` reads, or the scheme's default."""
    found = _HEADER.fullmatch(host)
    return int(found["port"]) if found and found["port"] else _PORTS.get(scheme)
