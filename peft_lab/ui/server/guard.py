"""The outermost checks: foreign names and foreign pages are refused; responses limit what pages load."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil
import streamlit as st
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime import get_instance

from peft_lab.classroom import joining, places
from peft_lab.core import asking, disk, journal
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.runs import waiting
from peft_lab.runs.view import Status
from peft_lab.ui import pages
from peft_lab.ui.server import sessions
from peft_lab.ui.server.door import VARIABLE, Door, Hosts, admitted, below, door_ready, name_of, root

MISDIRECTED = 421
_NOWHERE = "PEFT Lab: this address has no page. Open the app's home page and choose a page there.\n"
_FOREIGN_PAGE = "PEFT Lab: this request came from a page of another site or port. Use the app's own pages.\n"
_READING = ("GET", "HEAD")  # what they change is nothing; a WebSocket has no method
_NO_PAGE = ("text/javascript", "text/css", "font/woff2")
_AS_TYPED = "x-content-type-options"
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def middleware() -> list[Middleware]:
    """Return the middleware for ``st.App``."""
    journal.begin()
    metrics_token()  # one that is too short ends the start, not every answer
    before = [Middleware(Guard), Middleware(MetricsApp)]
    if not asking.class_is_on():
        return before
    door_ready()
    st.set_option("client.showErrorDetails", "none")  # what goes wrong unforeseen names folders of the server
    return [*before, Middleware(Door)]


class Guard:
    """Refuses requests under foreign host names, answers 404 where no page is, and adds :func:`headers`."""

    def __init__(self, app: ASGIApp, hosts: Hosts | None = None) -> None:
        self._app, self._hosts, self._root = app, hosts or Hosts(), root()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        nowhere = False

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers_of(message))
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
        """Return whether a page can be at this path: pages have one name, and component frames are no pages.

        Streamlit answers any other path with the app's page too. Its scripts' relative addresses then fail,
        and the page stays white.
        """
        name = below(self._root, path)
        return "/" not in name or name.startswith("component/")

    def _refusal(self, asked: list[str]) -> str | None:
        """Return why a request is refused, in one or two sentences; ``None`` if it is allowed."""
        name = name_of(asked[0]) if len(asked) == 1 else None
        if name is None:
            return "PEFT Lab: this request names no host. Send one Host header.\n"
        if self._hosts.allow(name):
            return None
        return (
            f"PEFT Lab does not answer to the host name {name}. If it is your server's name, start PEFT Lab with "
            f"the environment variable {VARIABLE}={name}.\n"
        )


def is_page(start: Message) -> bool:
    """Return whether the response is a page; a download can be HTML as well."""
    found = Headers(raw=start["headers"])
    kept = found.get("content-disposition", "").startswith("attachment")
    return start["status"] == 200 and found.get("content-type", "").startswith("text/html") and not kept


@cache
def headers() -> dict[str, str]:
    """Return headers that limit what the app's pages may load, and who may frame them: this app only.

    Streamlit styles its parts with inline styles. Components' scripts and widgets' workers have ``blob:``
    addresses made by the page itself; pictures and fonts may be inline (``data:``). Its inline script, and the one
    that folds the navigation, are allowed by their hashes.
    """
    page = Path(st.__file__).with_name("static") / "index.html"
    scripts = [*_SCRIPT.findall(page.read_text(encoding="utf-8")), pages.folding_script()]
    hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts]
    policy = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", "blob:", *(f"'sha256-{each}'" for each in hashes)]),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "media-src": "'self' data: blob:",
        "connect-src": "'self' blob: data:",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        **dict.fromkeys(("base-uri", "form-action", "frame-ancestors"), "'self'"),
    }
    return {
        "content-security-policy": "; ".join(f"{name} {allowed}" for name, allowed in policy.items()),
        "x-content-type-options": "nosniff",
        "x-frame-options": "SAMEORIGIN",
        "referrer-policy": "same-origin",
    }


def headers_of(start: Message) -> dict[str, str]:
    """Return the headers that a response needs: all, or of a script, style sheet or font, which load nothing, one. Home
    loads 80 of them, and a line of 1.5 Mbit/s carries the policy that none of them reads for 0.2 s."""
    kind = Headers(raw=start["headers"]).get("content-type", "").partition(";")[0]
    return {name: text for name, text in headers().items() if kind not in _NO_PAGE or name == _AS_TYPED}


# ----------------------------------------
# What the server measures of itself, in the words of Prometheus (its client library counts and writes them).
#
# Every figure is of this process and its children, but runs and learners, which are of the lab folder: behind several
# servers on one folder each says the same of them.


TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds


@cache
def _registry() -> CollectorRegistry:
    found = CollectorRegistry()
    found.register(Lab())
    ProcessCollector(registry=found)
    return found


@cache
def _drawing() -> Histogram:
    return Histogram(
        "peft_lab_page_seconds",
        "Seconds to draw a page, by page and outcome. A draw that was cut short counts up to the moment it was cut.",
        ("page", "outcome"),
        buckets=BUCKETS,
        registry=_registry(),
    )


@contextmanager
def drawn(page: str) -> Iterator[None]:
    """Measure the time to draw a page, and whether it was drawn to its end."""
    began, outcome = time.perf_counter(), "cut short"
    try:
        yield
        outcome = "whole"
    except Exception as error:  # what Streamlit ends a run with is none
        outcome = "failed"
        journal.note("page failed", error, page=page)
        raise
    finally:
        _drawing().labels(page, outcome).observe(time.perf_counter() - began)


class Lab(Collector):
    """Figures that are collected when they are requested."""

    def collect(self) -> Iterable[Metric]:
        """Yield every figure below with its current value."""
        yield from _runs()
        yield from _people()
        yield from _processes()


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a family of figures, one for each value of its label."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, figure in values.items():
        family.add_metric([value], figure)
    return family


def _runs() -> Iterator[Metric]:
    try:
        found = waiting.standing()
    except PeftLabError:
        return  # the folder cannot be read: no figure, rather than a wrong one
    yield _gauge("peft_lab_runs", "Runs in the lab folder, by status.", "status", found)
    queued = found[str(Status.QUEUED)]
    yield GaugeMetricFamily("peft_lab_queue_length", "Queued runs in the lab folder.", queued)


def _people() -> Iterator[Metric]:
    active = getattr(get_instance(), "_session_mgr", None)  # Streamlit's inner part; without it, no figure
    if active is not None:
        open_ = active.num_active_sessions()
        what = "Sessions with an open page, and sessions kept for a browser that may return."
        yield _gauge(
            "peft_lab_sessions", what, "state", {"open": open_, "kept": active.num_sessions() - open_}
        )
    if asking.class_is_on():
        joined = joining.without_teachers(places.owners())
        here = joining.without_teachers(sessions.places_of_all())
        what = "Learners who have joined this class, without teachers."
        yield GaugeMetricFamily("peft_lab_learners", what, len(joined))
        yield GaugeMetricFamily(
            "peft_lab_learners_here", "Learners with a page open at this server.", len(here)
        )


def _processes() -> Iterator[Metric]:
    server = psutil.Process()
    sizes, threads = [], 0
    for child in server.children(recursive=True):
        try:
            sizes.append(child.memory_info().rss)
            threads += child.num_threads()
        except psutil.Error:
            continue  # it has just ended
    what = "Resident memory of the server and of all child processes. What children share is counted once per child."
    memory = {"server": server.memory_info().rss, "children": sum(sizes)}
    yield _gauge("peft_lab_memory_bytes", what, "of", memory)
    yield _gauge("peft_lab_threads", "Threads.", "of", {"server": server.num_threads(), "children": threads})
    what = "Child processes of the server, which compute answers and train."
    yield GaugeMetricFamily("peft_lab_children", what, len(sizes))


def text() -> bytes:
    """Return all figures in Prometheus's format."""
    return generate_latest(_registry())


# ----------------------------------------
# What machines ask that watch over the server: ``healthz`` of anybody, ``metrics`` of who may read them.
#
# Where a token is set (``PEFT_LAB_METRICS_TOKEN``), whoever sends it may: ``Authorization: Bearer …``. In a class
# its teacher may, too, and without a token nobody else. For a single user who has set none they are open, as all
# else is.


METRICS_VARIABLE = "PEFT_LAB_METRICS_TOKEN"
SHORTEST = 16  # characters: it can be tried as often as one likes
HEALTH, METRICS = "healthz", "metrics"
_REFUSED = (
    f"PEFT Lab: only the operator of this server can read these metrics. Set {METRICS_VARIABLE} on the server and "
    "send it as 'Authorization: Bearer …'.\n"
)


def metrics_token() -> str:
    """Return the token, or an empty text. Raises BadInput if it is too short."""
    found = os.environ.get(METRICS_VARIABLE, "").strip()
    if found and len(found) < SHORTEST:
        raise BadInput(f"{METRICS_VARIABLE} is too short. It needs at least {SHORTEST} characters.")
    return found


class MetricsApp:
    """Serves health and metrics, below the app's base path; passes on every other request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._root, self._token = app, root(), metrics_token()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = f"/{scope['path'].strip('/')}" if scope["type"] == "http" else ""
        if asked == self._root + HEALTH:
            await (await run_in_threadpool(_health))(scope, receive, send)
        elif asked == self._root + METRICS:
            await (await run_in_threadpool(self._metrics, Headers(scope=scope)))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _metrics(self, headers: Headers) -> Response:
        if not self._may(headers):
            return PlainTextResponse(_REFUSED, 403)
        return Response(text(), media_type=TYPE, headers={"cache-control": "no-store"})

    def _may(self, headers: Headers) -> bool:
        kind, _, sent = headers.get("authorization", "").partition(" ")
        if self._token and kind.lower() == "bearer":
            return hmac.compare_digest(sent.strip().encode(), self._token.encode())
        if asking.class_is_on():
            who = admitted(headers)
            return who is not None and who.teacher
        return not self._token


def _health() -> Response:
    """Return 200, or 503 with the reason, which names no folder and no person."""
    home = disk.home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"written")
    except OSError as error:
        trouble = f"PEFT Lab cannot write to its folder ({error.strerror or type(error).__name__})."
        return JSONResponse({"status": "unhealthy", "reason": trouble}, 503)
    return JSONResponse({"status": "ok"}, headers={"cache-control": "no-store"})
