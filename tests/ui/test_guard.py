"""Which names the app answers to."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import Headers
from streamlit import config

from peft_lab.ui.server.door import Hosts, name_of, own_names
from peft_lab.ui.server.guard import Guard
from tests.conftest import awaited


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:8501", "localhost"),
        ("LOCALHOST", "localhost"),
        ("localhost.", "localhost"),
        ("[::1]:8501", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("lab.example:443", "lab.example"),
        ("localhost:8501@evil.example", None),
        ("evil.example/localhost", None),
        ("localhost evil.example", None),
        ("localhost:", None),
        ("", None),
        ("a" * 300, None),
    ],
)
def test_the_name_in_a_header(header: str, name: str | None) -> None:
    assert name_of(header) == name


def test_this_machine_is_answered_and_nobody_else() -> None:
    hosts = Hosts()
    assert all(hosts.allow(name) for name in ("localhost", "127.0.0.1", "127.8.9.1", "::1", *own_names()))
    foreign = (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "203.0.113.7",
        "2001:db8::7",
    )
    assert not any(hosts.allow(name) for name in foreign)


@pytest.mark.parametrize(
    ("host", "origin", "own"),
    [
        ("127.0.0.1:8501", "http://127.0.0.1:8501", True),
        ("127.0.0.1:8501", "http://127.0.0.1:9999", False),
        ("127.0.0.1:8501", "http://localhost:8501", False),
        ("localhost:8501", "http://localhost", False),
        ("localhost", "http://localhost", True),
        ("localhost:443", "https://LOCALHOST", True),
        ("[::1]:8501", "http://[::1]:8501", True),
        ("[::1]:8501", "http://[::1]:9999", False),
        ("192.168.1.5:8501", "http://192.168.1.5:9999", False),
        ("localhost:8501", "null", False),
        ("localhost:8501", "http://localhost:99999", False),
        ("localhost:8501", "", False),
        # behind a proxy that hands on no port, that of the machine it runs on, or the one it is asked at
        ("lab.example", "https://lab.example:8443", True),
        ("lab.example:80", "http://lab.example:8080", True),
        ("lab.example:8443", "https://lab.example:8443", True),
        ("lab.example", "https://evil.example", False),
        ("a.school.example", "https://b.school.example", False),
    ],
)
def test_a_page_of_another_name_or_port_is_none_of_its_own(host: str, origin: str, own: bool) -> None:
    hosts = Hosts(("lab.example", "*.school.example", "localhost"))
    assert hosts.is_own_page(Headers({"host": host, "origin": origin})) is own
    assert Hosts(("*",)).is_own_page(Headers({"host": host, "origin": origin})) is (
        own or host.startswith("192")
    )


def test_what_states_no_page_is_a_program_and_what_states_two_is_refused() -> None:
    assert Hosts().is_own_page(Headers({"host": "localhost:8501"}))
    twice = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"http://localhost")]
    assert not Hosts().is_own_page(Headers(raw=twice))


def test_what_streamlit_was_told_to_allow_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = Headers({"host": "localhost:8501", "origin": "https://front.example"})
    for option, value in (
        ("server.corsAllowedOrigins", ["https://front.example"]),
        ("server.enableCORS", False),
    ):
        before = config.get_option(option)
        assert not Hosts().is_own_page(headers)
        config.set_option(option, value)
        assert Hosts().is_own_page(headers)
        config.set_option(option, before)


def answered(kind: str, method: str | None, origin: str) -> int:
    """The status for a page of this origin; 101 for a WebSocket that is let in."""

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"} if kind == "websocket" else START)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost:8501"), (b"origin", origin.encode())]
    scope = {"type": kind, "path": "/_stcore/stream", "headers": headers, "query_string": b""}
    scope |= {} if method is None else {"method": method}
    awaited(Guard(inside, Hosts())(scope, receive=None, send=send))  # type: ignore[arg-type]
    return int(sent[0].get("status", {"websocket.accept": 101}.get(sent[0]["type"], 403)))


START = {"type": "http.response.start", "status": 200, "headers": []}


@pytest.mark.parametrize(
    ("kind", "method"),
    [("websocket", None), ("http", "POST"), ("http", "PUT"), ("http", "DELETE"), ("http", "OPTIONS")],
)
def test_a_page_of_another_port_changes_nothing(kind: str, method: str | None) -> None:
    assert answered(kind, method, "http://localhost:9999") == 403
    assert answered(kind, method, "http://localhost:8501") == (101 if kind == "websocket" else 200)
    assert answered("http", "GET", "http://localhost:9999") == 200


def test_names_that_were_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_LAB_HOSTS", "Lab.Example, *.school.example,")
    hosts = Hosts()
    assert all(
        hosts.allow(name) for name in ("lab.example", "a.school.example", "b.a.school.example", "localhost")
    )
    assert not any(
        hosts.allow(name) for name in ("school.example", "evilschool.example", "x.lab.example", "")
    )
    monkeypatch.setenv("PEFT_LAB_HOSTS", "*")
    assert Hosts().allow("anything.example")
