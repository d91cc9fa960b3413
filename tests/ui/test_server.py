"""How Streamlit's server is made to serve: files compressed once, pages dressed, fonts cut, doors folded."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from streamlit.web.server.starlette.starlette_static_routes import create_streamlit_static_handler

from peft_lab.atlas import all_types
from peft_lab.ui import pages, web
from peft_lab.ui.server import app, guard
from peft_lab.ui.server import app as assets
from peft_lab.ui.shell import dress
from tools import subset_fonts

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
def dressed() -> TestClient:
    routes = [
        Route("/facts", facts),
        Route("/missing", missing),
        Route("/kept", kept),
        Route("/{page}", page),
    ]
    return TestClient(Starlette(routes=routes, middleware=dress.middleware()))


def test_the_style_is_the_last_thing_in_the_body(dressed: TestClient) -> None:
    for headers in (HTML, HTML | {"if-none-match": "abc", "accept-encoding": "gzip"}):
        answer = dressed.get("/memory", headers=headers)
        assert answer.status_code == 200
        assert answer.text.endswith("</style></body></html>")
        assert ".st-key-bench" in answer.text and ".st-key-home-first" in answer.text
        sent = int(answer.headers["content-length"])
        assert sent == len(answer.content) or (
            answer.headers["content-encoding"] == "gzip" and sent < len(answer.content) / 4
        )
        assert "etag" not in answer.headers


def test_nothing_else_is_touched(dressed: TestClient) -> None:
    assert dressed.get("/facts", headers=HTML).json() == {"page": "</body>"}
    assert dressed.get("/missing", headers=HTML).text == PAGE
    assert dressed.get("/kept", headers=HTML).text == PAGE, "a file to take along"
    assert dressed.get("/memory", headers={"accept": "application/json"}).text == PAGE


def test_every_control_is_a_script_that_streamlit_has(dressed: TestClient) -> None:
    folder = Path(st.__file__).with_name("static") / "static/js"
    for name in (*dress.CONTROLS, *dress.FORMULAS):
        assert list(folder.glob(f"{name}.*.js")), name
    asked = scripts(dressed.get("/lora", headers=HTML).text)
    assert len(asked) == len(set(asked)) > len(dress.CONTROLS)
    assert all((folder / name).is_file() for name in asked)
    assert any(name.startswith("rehype-katex") for name in asked)
    assert not any(
        name.startswith("rehype-katex") for name in scripts(dressed.get("/memory", headers=HTML).text)
    )


def scripts(text: str) -> list[str]:
    """Those that the page asks for ahead."""
    return re.findall(r'modulepreload" fetchpriority="low" crossorigin href="\./static/js/([^"]+)"', text)


RULES = web.read("fonts/fonts.css")

AGAIN = "run python -m tools.subset_fonts"


def test_every_icon_is_in_the_font_of_icons() -> None:
    held = set(web.read("fonts/icons.txt").split())
    assert len(held) > 100
    assert not subset_fonts.icon_words() - held, AGAIN


def test_rules_name_the_files_and_the_files_fit_a_slow_line() -> None:
    files = {file.name: file.stat().st_size for file in web.FONTS.glob("*.woff2")}
    assert set(re.findall(r"\./static/media/([^)]+)\)", RULES)) == set(files)
    assert sum(files.values()) < 130_000
    assert RULES.encode() in dress.STYLE


def test_streamlits_fonts_are_for_other_letters_only() -> None:
    [style] = (Path(st.__file__).parent / "static/static/css").glob("index.*.css")
    text = app._without_whole_fonts(style.read_bytes()).decode()
    rules = [rule for rule in re.findall(r"@font-face\{[^}]*\}", text) if "Source" in rule]
    assert len(rules) >= 6 and all(f"unicode-range:{web.read('fonts/others.txt')};" in rule for rule in rules)
    assert "Material Symbols" not in text


_FIRST = """
import sys
import app
from peft_lab.ui.shell import dress
dress.ready()
known = set(sys.modules)
from streamlit.testing.v1 import AppTest
page = AppTest.from_file("app.py", default_timeout=600)
own = set(sys.modules)
page.run()
assert not page.exception and page.button, page
print("LATE", [name for name in sorted(set(sys.modules) - own) if name.startswith(("peft_lab", "PIL", "numpy"))])
print("LARGE", [name for name in ("pandas", "pyarrow", "torch") if name in sys.modules])
"""


@pytest.mark.slow
def test_home_imports_nothing_that_was_not_made_ready_and_no_pandas() -> None:
    """In a process of its own, where nothing has been imported yet."""
    done = subprocess.run([sys.executable, "-c", _FIRST], capture_output=True, text=True, check=True)
    assert "LATE []" in done.stdout and "LARGE []" in done.stdout, done.stdout
    assert "No runtime found" not in done.stderr, (
        "what a module at import keeps in st.cache_data is warned of"
    )


def test_every_page_stands_behind_one_of_six_doors() -> None:
    behind = [name for names in pages.doors().values() for name in names]
    assert len(pages.doors()) == 6
    assert len(behind) == len(set(behind)) and set(behind) | set(pages.foot()) == {
        *pages.titles(),
        "classroom",
        "class_map",
    }
    assert {pages.door_of(name) for name in ("choose", "memory", "plan")} == {"Plan a fine-tune"}
    assert str(len(all_types())) in pages.titles()["atlas"]


def test_the_script_that_folds_them_names_every_page_and_is_allowed() -> None:
    script = pages.folding_script()
    found = re.search(r"doors = ({.*});", script)
    assert found is not None
    labels = json.loads(found[1])
    assert set(labels) == {*pages.titles(), "classroom", "class_map"} - set(pages.foot())
    assert set(labels.values()) == {pages.door_label(door) for door in pages.sections()}
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{allowed}'" in guard.headers()["content-security-policy"]
