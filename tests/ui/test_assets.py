"""Streamlit's scripts and styles are sent as it would send them, compressed once, and nothing else is answered."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from streamlit.web.server.starlette.starlette_static_routes import create_streamlit_static_handler

from peft_lab.ui.server import app as assets

STATIC = Path(st.__file__).with_name("static")
NAMES = sorted(file.relative_to(STATIC).as_posix() for file in (STATIC / "static").rglob("*.*"))
TEXTS = [name for name in NAMES if name.endswith((".js", ".css"))]


async def below(request: Request) -> Response:
    return PlainTextResponse("below")


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = Starlette(routes=[Route("/{path:path}", below)], middleware=assets.asset_middleware())
    with TestClient(app) as found:
        yield found


@pytest.fixture(scope="module")
def streamlit_itself() -> TestClient:
    return TestClient(Starlette(routes=[Mount("/", create_streamlit_static_handler(str(STATIC), ""))]))


def test_every_script_and_style_is_what_streamlit_sends(
    client: TestClient, streamlit_itself: TestClient
) -> None:
    assert len(TEXTS) > 100
    for name in TEXTS[::7] + [name for name in TEXTS if "/index." in name]:
        ours, own = client.get(f"/{name}"), streamlit_itself.get(f"/{name}")
        assert ours.status_code == own.status_code == 200
        assert own.content == (STATIC / name).read_bytes(), name
        assert ours.content == assets._without_whole_fonts(own.content), name
        assert name.endswith(".css") or ours.content == own.content, name
        for header in ("content-type", "cache-control"):
            assert ours.headers[header] == own.headers[header], name
        assert ours.headers["content-encoding"] == "gzip" and ours.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"/{TEXTS[0]}", {"accept-encoding": "identity"}),
        (f"/{TEXTS[0]}", {"range": "bytes=0-10"}),
        (f"/{TEXTS[0]}", {"if-none-match": "abc"}),
        ("/static/js/there-is-none.js", {}),
        ("/static/../index.html", {}),
        ("/static/%2e%2e/%2e%2e/__init__.py", {}),
        ("/static//js/../../index.html", {}),
        (f"/elsewhere/{TEXTS[0]}", {}),
        ("/lora", {}),
        *((f"/{name}", {}) for name in NAMES if name not in TEXTS[:1] and not name.endswith((".js", ".css")))
    ],
)  # fmt: skip
def test_all_else_is_left_to_streamlit(client: TestClient, path: str, headers: dict[str, str]) -> None:
    assert client.get(path, headers=headers).text == "below"


def test_nothing_but_reading_is_answered(client: TestClient) -> None:
    assert client.head(f"/{TEXTS[0]}").headers.get("content-encoding") is None


def test_a_file_is_compressed_once_for_all_who_ask_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compressed: list[int] = []
    original = gzip.compress

    def counted(data: bytes, level: int, mtime: int) -> bytes:
        compressed.append(len(data))
        return original(data, level, mtime=mtime)

    monkeypatch.setattr(gzip, "compress", counted)
    made = assets.Assets(Starlette(routes=[Route("/{path:path}", below)]))
    bodies: list[bytes] = []

    async def ask() -> None:
        async def send(message: dict[str, object]) -> None:
            body = message.get("body")
            if isinstance(body, bytes):
                bodies.append(body)

        headers = [(b"accept-encoding", b"gzip")]
        scope = {"type": "http", "method": "GET", "path": f"/{TEXTS[0]}", "headers": headers}
        await made(scope, None, send)  # type: ignore[arg-type]

    async def all_at_once() -> None:
        await asyncio.gather(*(ask() for _ in range(20)))

    asyncio.run(all_at_once())
    assert len(compressed) == 1 and len(bodies) == 20
    assert {gzip.decompress(body) for body in bodies} == {(STATIC / TEXTS[0]).read_bytes()}


def test_one_that_cannot_be_read_is_streamlits_to_tell_and_asked_for_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.read_bytes

    def faulty(path: Path) -> bytes:
        raise OSError("no")

    monkeypatch.setattr(Path, "read_bytes", faulty)
    name = next(name for name in TEXTS if "BidiComponent" in name)
    app = Starlette(routes=[Route("/{path:path}", below)], middleware=assets.asset_middleware())
    with TestClient(app) as fresh:
        assert fresh.get(f"/{name}").text == "below"
        monkeypatch.setattr(Path, "read_bytes", original)
        assert fresh.get(f"/{name}").content == (STATIC / name).read_bytes()


def test_below_a_base_path(monkeypatch: pytest.MonkeyPatch) -> None:
    real = st.get_option
    monkeypatch.setattr(
        st, "get_option", lambda name: "/lab/" if name == "server.baseUrlPath" else real(name)
    )
    app = Starlette(routes=[Route("/{path:path}", below)], middleware=assets.asset_middleware())
    with TestClient(app) as found:
        assert found.get(f"/lab/{TEXTS[0]}").content == (STATIC / TEXTS[0]).read_bytes()
        assert found.get(f"/{TEXTS[0]}").text == "below"
