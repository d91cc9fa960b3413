"""Which names the app answers to, and what machines ask that watch over the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.datastructures import Headers
from streamlit import config

from peft_lab.classroom import joining
from peft_lab.core.errors import BadInput
from peft_lab.runs import waiting
from peft_lab.runs.queue import PageVisit
from peft_lab.runs.view import Status
from peft_lab.ui.server import guard, sessions
from peft_lab.ui.server.door import Door, Hosts, name_of, own_names
from peft_lab.ui.server.guard import Guard, MetricsApp
from tests.classroom.conftest import CODE, empty_class
from tests.classroom.test_door import _inside, asked
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


__all__ = ["empty_class"]  # a fixture

TOKEN = "a-token-of-this-test"


class _Sessions:
    def num_active_sessions(self) -> int:
        return 2

    def num_sessions(self) -> int:
        return 5


class _Runtime:
    _session_mgr = _Sessions()

    def is_active_session(self, session: str) -> bool:
        return False


@pytest.fixture(autouse=True)
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(guard.METRICS_VARIABLE, raising=False)
    monkeypatch.setattr(guard, "get_instance", _Runtime)
    monkeypatch.setattr("peft_lab.ui.server.sessions.get_instance", _Runtime)


def ask(path: str, cookie: str = "", bearer: str = "") -> tuple[int, dict[str, str], str]:
    more = {"authorization": f"Bearer {bearer}"} if bearer else {}
    return asked(path, cookie, by=MetricsApp(Door(_inside)), more=more)


def figures(text: str) -> dict[tuple[str, ...], float]:
    """By name and labels, read by the client library's own parser."""
    return {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_in_a_class_figures_are_for_its_teacher(empty_class: Path) -> None:
    learner, teacher = joining.join(CODE, "Ada")[1], joining.join(joining.class_keys().teacher)[1]
    for cookie in ("", learner, "1.forged"):
        status, _, text = ask("/metrics", cookie)
        assert status == 403 and guard.METRICS_VARIABLE in text and "peft_lab_runs" not in text
    status, headers, text = ask("/metrics", teacher)
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "Ada" not in text and learner.split(".")[1] not in text


def test_a_token_lets_a_machine_read_them(empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask("/metrics", bearer="")[0] == 403
    monkeypatch.setenv(guard.METRICS_VARIABLE, TOKEN)
    assert ask("/metrics", bearer=TOKEN)[0] == 200
    for wrong in (TOKEN[:-1], f"{TOKEN}x", "x"):
        assert ask("/metrics", bearer=wrong)[0] == 403


def test_a_single_user_has_them_unless_a_token_is_set(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask("/metrics")[0] == 200
    monkeypatch.setenv(guard.METRICS_VARIABLE, TOKEN)
    assert ask("/metrics")[0] == 403 and ask("/metrics", bearer=TOKEN)[0] == 200


def test_a_token_that_keeps_nobody_out_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guard.METRICS_VARIABLE, "short")
    with pytest.raises(BadInput, match="at least 16 characters"):
        MetricsApp(Door(_inside))
    with pytest.raises(BadInput, match="too short"):
        guard.middleware()  # before the server listens, not with its first answer


def test_what_is_counted(empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guard.METRICS_VARIABLE, TOKEN)
    monkeypatch.setattr(
        waiting,
        "standing",
        lambda: {**{str(one): 0 for one in Status}, "queued": 3, "done": 7, "damaged": 1},
    )
    ada, _ = joining.join(CODE, "Ada")
    grace, _ = joining.join(joining.class_keys().teacher, "Grace")
    monkeypatch.setattr(
        sessions, "places_of_all", lambda: dict.fromkeys((ada.owner, grace.owner), PageVisit("lora", 1.0))
    )
    with guard.drawn("lora"):
        pass
    found = figures(ask("/metrics", bearer=TOKEN)[2])
    assert found["peft_lab_queue_length",] == 3
    assert [found["peft_lab_runs", status] for status in ("queued", "done", "damaged", "running")] == [
        3,
        7,
        1,
        0,
    ]
    assert (found["peft_lab_sessions", "open"], found["peft_lab_sessions", "kept"]) == (2, 3)
    assert (found["peft_lab_learners",], found["peft_lab_learners_here",]) == (1, 1), "no teacher"
    assert found["peft_lab_memory_bytes", "server"] > 10**7 and found["peft_lab_threads", "server"] >= 1
    assert found["process_open_fds",] > 0
    assert found["peft_lab_page_seconds_count", "whole", "lora"] >= 1


def test_how_a_page_ended(own_home: Path) -> None:
    class Cut(BaseException):
        """As Streamlit ends a run: no Exception."""

    for error, outcome in ((Cut, "cut short"), (ValueError, "failed")):
        before = figures(guard.text().decode()).get(("peft_lab_page_seconds_count", outcome, "ia3"), 0)
        with pytest.raises(error), guard.drawn("ia3"):
            raise error
        assert figures(guard.text().decode())["peft_lab_page_seconds_count", outcome, "ia3"] == before + 1


def test_health_is_anybodys_and_tells_of_a_folder_that_takes_nothing(
    empty_class: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, text = ask("/healthz")
    assert status == 200 and json.loads(text) == {"status": "ok"}
    assert not [path for path in empty_class.iterdir() if path.is_file()]
    in_the_way = empty_class / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("PEFT_LAB_HOME", str(in_the_way))
    status, _, text = ask("/healthz")
    assert status == 503 and "cannot write" in text and str(in_the_way) not in text


@pytest.mark.parametrize("path", ["/healthz/x", "/metricsx", "/x/metrics", "/_stcore/metrics"])
def test_nothing_else_is_answered_there(path: str, empty_class: Path) -> None:
    assert ask(path)[0] == 401


def test_below_a_base_path(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def option(name: str) -> Any:
        return "teach/lab" if name == "server.baseUrlPath" else None

    monkeypatch.setattr("streamlit.get_option", option)
    app = MetricsApp(_inside)

    def answer(path: str) -> str:
        return asked(path, by=app)[2]

    assert "ok" in answer("/teach/lab/healthz") and "peft_lab_threads" in answer("/teach/lab/metrics")
    for path in ("/healthz", "/metrics", "/teach/metrics", "/teach/lab"):
        assert answer(path) == "inside"
