"""The page that the browser loads has the app's CSS in it, and asks for the scripts that it will need."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from peft_lab.ui.shell import dress

PAGE = "<!doctype html><html><head><title>x</title></head><body><div id='root'></div></body></html>"
HTML = {"accept": "text/html,*/*"}


async def page(request: Request) -> Response:
    """As a file is served: nothing is sent again that the browser has."""
    if "if-none-match" in request.headers:
        return Response(status_code=304)
    return HTMLResponse(PAGE, headers={"etag": "abc"})


async def facts(request: Request) -> Response:
    return JSONResponse({"page": "</body>"})


async def missing(request: Request) -> Response:
    return HTMLResponse(PAGE, 404)


async def kept(request: Request) -> Response:
    return HTMLResponse(PAGE, headers={"content-disposition": 'attachment; filename="run.html"'})


@pytest.fixture
def client() -> TestClient:
    routes = [
        Route("/facts", facts),
        Route("/missing", missing),
        Route("/kept", kept),
        Route("/{page}", page),
    ]
    return TestClient(Starlette(routes=routes, middleware=dress.middleware()))


def test_the_style_is_the_last_thing_in_the_body(client: TestClient) -> None:
    for headers in (HTML, HTML | {"if-none-match": "abc", "accept-encoding": "gzip"}):
        answer = client.get("/memory", headers=headers)
        assert answer.status_code == 200
        assert answer.text.endswith("</style></body></html>")
        assert ".st-key-bench" in answer.text and ".st-key-home-first" in answer.text
        sent = int(answer.headers["content-length"])
        assert sent == len(answer.content) or (
            answer.headers["content-encoding"] == "gzip" and sent < len(answer.content) / 4
        )
        assert "etag" not in answer.headers


def test_nothing_else_is_touched(client: TestClient) -> None:
    assert client.get("/facts", headers=HTML).json() == {"page": "</body>"}
    assert client.get("/missing", headers=HTML).text == PAGE
    assert client.get("/kept", headers=HTML).text == PAGE, "a file to take along"
    assert client.get("/memory", headers={"accept": "application/json"}).text == PAGE


def test_every_control_is_a_script_that_streamlit_has(client: TestClient) -> None:
    folder = Path(st.__file__).with_name("static") / "static/js"
    for name in (*dress.CONTROLS, *dress.FORMULAS):
        assert list(folder.glob(f"{name}.*.js")), name
    asked = scripts(client.get("/lora", headers=HTML).text)
    assert len(asked) == len(set(asked)) > len(dress.CONTROLS)
    assert all((folder / name).is_file() for name in asked)
    assert any(name.startswith("rehype-katex") for name in asked)
    assert not any(
        name.startswith("rehype-katex") for name in scripts(client.get("/memory", headers=HTML).text)
    )


def scripts(text: str) -> list[str]:
    """Those that the page asks for ahead."""
    return re.findall(r'modulepreload" fetchpriority="low" crossorigin href="\./static/js/([^"]+)"', text)
