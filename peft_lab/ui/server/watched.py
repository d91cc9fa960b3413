"""What machines ask that watch over the server: ``healthz`` of anybody, ``metrics`` of who may read them.

Where a token is set (``PEFT_LAB_METRICS_TOKEN``), whoever sends it may: ``Authorization: Bearer …``. In a class its
teacher may, too, and without a token nobody else. For a single user who has set none they are open, as all else is.
"""

from __future__ import annotations

import hmac
import os
import tempfile

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from peft_lab.assets import store as assets
from peft_lab.classroom import mode
from peft_lab.errors import BadInput
from peft_lab.ui.server.door import admitted

VARIABLE = "PEFT_LAB_METRICS_TOKEN"
SHORTEST = 16  # characters: it can be tried as often as one likes
HEALTH, METRICS = "healthz", "metrics"
_REFUSED = (
    f"PEFT Lab: these figures are for whoever runs this server. Set {VARIABLE} there, and send it as 'Authorization: "
    "Bearer …'.\n"
)


def token() -> str:
    """The one that is set, or nothing. Raises BadInput for one that is too short."""
    found = os.environ.get(VARIABLE, "").strip()
    if found and len(found) < SHORTEST:
        raise BadInput(f"{VARIABLE} keeps nobody out: it takes at least {SHORTEST} characters.")
    return found


class Watched:
    """Answers the two, below the app's base path; hands on everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        base = str(st.get_option("server.baseUrlPath") or "").strip("/")
        self._base = f"/{base}" if base else ""
        self._token = token()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = f"/{scope['path'].strip('/')}" if scope["type"] == "http" else ""
        if asked == f"{self._base}/{HEALTH}":
            await (await run_in_threadpool(_health))(scope, receive, send)
        elif asked == f"{self._base}/{METRICS}":
            await (await run_in_threadpool(self._metrics, Headers(scope=scope)))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _metrics(self, headers: Headers) -> Response:
        from peft_lab.ui.server import metrics

        if not self._may(headers):
            return PlainTextResponse(_REFUSED, 403)
        return Response(metrics.text(), media_type=metrics.TYPE, headers={"cache-control": "no-store"})

    def _may(self, headers: Headers) -> bool:
        kind, _, sent = headers.get("authorization", "").partition(" ")
        if self._token and kind.lower() == "bearer":
            return hmac.compare_digest(sent.strip().encode(), self._token.encode())
        if mode.on():
            who = admitted(headers)
            return who is not None and who.teacher
        return not self._token


def _health() -> Response:
    """Whether the app can serve: 200, or 503 with what is wrong, in words that name no folder and nobody."""
    home = assets.home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"written")
    except OSError as error:
        trouble = f"The lab folder cannot be written to ({error.strerror or type(error).__name__})."
        return JSONResponse({"status": "unhealthy", "reason": trouble}, 503)
    return JSONResponse({"status": "ok"}, headers={"cache-control": "no-store"})
