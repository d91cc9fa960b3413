"""What the server measures of itself, in the words of Prometheus (its client library counts and writes them).

Every figure is of this process and its children, but runs and learners, which are of the lab folder: behind several
servers on one folder each says the same of them.
"""

from __future__ import annotations

import hmac
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import psutil
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.runtime import get_instance

from peft_lab.classroom import joining, places
from peft_lab.core import asking, journal
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.models.assets import store as assets
from peft_lab.runs import waiting
from peft_lab.runs.view import Status
from peft_lab.ui.server import sessions
from peft_lab.ui.server.door import admitted
from peft_lab.ui.server.hosts import root

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
        "Seconds in which a whole page was drawn, by page; of a draw that was cut short those until then.",
        ("page", "outcome"),
        buckets=BUCKETS,
        registry=_registry(),
    )


@contextmanager
def drawn(page: str) -> Iterator[None]:
    """Time the drawing of a page of this name, and note whether it is drawn to its end."""
    began, outcome = time.perf_counter(), "cut short"
    try:
        yield
        outcome = "whole"
    except Exception as error:  # what Streamlit ends a run with is none
        outcome = "failed"
        journal.note_error("page failed", error, page=page)
        raise
    finally:
        _drawing().labels(page, outcome).observe(time.perf_counter() - began)


class Lab(Collector):
    """What is looked at when it is asked for."""

    def collect(self) -> Iterable[Metric]:
        """Yield every figure below as it is now."""
        yield from _runs()
        yield from _people()
        yield from _processes()


def _runs() -> Iterator[Metric]:
    try:
        found = waiting.standing()
    except PeftLabError:
        return  # the folder cannot be read: no figure, rather than a wrong one
    by_status = GaugeMetricFamily("peft_lab_runs", "Runs in the lab folder, by status.", labels=["status"])
    for status, count in found.items():
        by_status.add_metric([status], count)
    yield by_status
    yield GaugeMetricFamily(
        "peft_lab_queue_length", "Runs in the lab folder that wait for their turn.", found[str(Status.QUEUED)]
    )


def _people() -> Iterator[Metric]:
    active = getattr(get_instance(), "_session_mgr", None)  # Streamlit's inner part; without it, no figure
    if active is not None:
        open_, all_ = active.num_active_sessions(), active.num_sessions()
        family = GaugeMetricFamily(
            "peft_lab_sessions",
            "Pages open in browsers, and those kept for one that may come back.",
            labels=["state"],
        )
        family.add_metric(["open"], open_)
        family.add_metric(["kept"], all_ - open_)
        yield family
    if asking.class_is_on():
        joined = joining.without_teachers(places.owners())
        here = joining.without_teachers(sessions.places_of_all())
        yield GaugeMetricFamily(
            "peft_lab_learners", "Who have joined this class, without teachers.", len(joined)
        )
        yield GaugeMetricFamily(
            "peft_lab_learners_here", "Learners with a page open at this server.", len(here)
        )


def _processes() -> Iterator[Metric]:
    server = psutil.Process()
    memory = GaugeMetricFamily(
        "peft_lab_memory_bytes",
        "Resident memory; of children together, which counts what they share as often as there are children.",
        labels=["of"],
    )
    threads = GaugeMetricFamily("peft_lab_threads", "Threads.", labels=["of"])
    sizes, counted = [], 0
    for child in server.children(recursive=True):
        try:
            sizes.append(child.memory_info().rss)
            counted += child.num_threads()
        except psutil.Error:
            continue  # it has just ended
    memory.add_metric(["server"], server.memory_info().rss)
    memory.add_metric(["children"], sum(sizes))
    threads.add_metric(["server"], server.num_threads())
    threads.add_metric(["children"], counted)
    yield memory
    yield threads
    yield GaugeMetricFamily(
        "peft_lab_children", "Processes that the server has started: answering, training.", len(sizes)
    )


def text() -> bytes:
    """Return all of it, as Prometheus reads it."""
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
    f"PEFT Lab: these figures are for whoever runs this server. Set {METRICS_VARIABLE} there, and send it as "
    "'Authorization: Bearer …'.\n"
)


def metrics_token() -> str:
    """Return the token that is set, or nothing. Raises BadInput for one that is too short."""
    found = os.environ.get(METRICS_VARIABLE, "").strip()
    if found and len(found) < SHORTEST:
        raise BadInput(f"{METRICS_VARIABLE} keeps nobody out: it takes at least {SHORTEST} characters.")
    return found


class Watched:
    """Answers the two, below the app's base path; hands on everything else."""

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
    """Return 200, or 503 with what is wrong, in words that name no folder and nobody."""
    home = assets.home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"written")
    except OSError as error:
        trouble = f"The lab folder cannot be written to ({error.strerror or type(error).__name__})."
        return JSONResponse({"status": "unhealthy", "reason": trouble}, 503)
    return JSONResponse({"status": "ok"}, headers={"cache-control": "no-store"})
