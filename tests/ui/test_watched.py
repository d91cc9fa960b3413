"""What machines ask that watch over the server, as ASGI servers ask it: who gets an answer, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from peft_lab.classroom import joining
from peft_lab.core.errors import BadInput
from peft_lab.runs import waiting
from peft_lab.runs.queue import PageVisit
from peft_lab.runs.view import Status
from peft_lab.ui.server import guard, sessions
from peft_lab.ui.server.door import Door
from peft_lab.ui.server.guard import MetricsApp
from tests.classroom.conftest import CODE, empty_class
from tests.classroom.test_door import _inside, asked

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


def test_runs_that_cannot_be_listed_have_no_figure(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise BadInput("gone")

    monkeypatch.setattr(waiting, "standing", fails)
    status, _, text = ask("/metrics")
    assert status == 200 and "peft_lab_runs" not in text and "peft_lab_sessions" in text


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
