"""What the door lets through, asked as ASGI servers ask it; the app behind it answers everything with 200."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest

from peft_lab.classroom import joining, places
from peft_lab.core import asking
from peft_lab.ui.server import door, guard, sessions
from peft_lab.ui.server.door import Door
from tests.classroom.conftest import CODE
from tests.conftest import awaited
from tests.prose import says

HTML = {"accept": "text/html"}


async def _inside(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def asked(
    path: str,
    cookie: str = "",
    method: str = "GET",
    body: str = "",
    kind: str = "http",
    by: Any = None,
    more: Mapping[str, str] | None = None,
) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of the answer; of a WebSocket 101 or 403."""
    path, _, query = path.partition("?")
    headers = {"host": "lab", **(more or {})}
    headers |= {"cookie": f"other=1; {joining.COOKIE}={cookie}"} if cookie else {}
    scope = {
        "type": kind, "method": method, "path": path, "query_string": query.encode(), "scheme": "http",
        "client": ("10.0.0.1", 1), "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body.encode(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    awaited((by or Door(_inside))(scope, receive, send))
    first = sent[0]
    if kind == "websocket":
        return (101 if first["type"] == "websocket.accept" else 403), {}, ""
    told = {name.decode(): value.decode() for name, value in first["headers"]}
    return first["status"], told, b"".join(each.get("body", b"") for each in sent).decode()


@pytest.fixture
def cookies(empty_class: Path) -> tuple[str, str]:
    """Ada's and Bob's."""
    return joining.join(CODE, "Ada")[1], joining.join(CODE, "Bob")[1]


def owner(cookie: str) -> str:
    return cookie.split(".")[1]


PATHS = ["/", "/lora", "/static/js/index.js", "/media/x.csv", "/_stcore/host-config", "/component/x/y.js"]


@pytest.mark.parametrize("path", PATHS)
def test_without_a_cookie_there_is_only_the_form(path: str, empty_class: Path) -> None:
    assert asked(path)[0] == 401
    status, headers, _ = asked(f"{path}?r=4", more=HTML)
    assert status == 303 and headers["location"].startswith("/join?next=")
    assert asked("/_stcore/stream", kind="websocket")[0] == 403
    assert asked(path, method="POST", more=HTML)[0] == 401


@pytest.mark.parametrize("path", ["/", "/lora", "/static/js/index.js", "/_stcore/host-config"])
def test_with_one_the_app_answers(path: str, cookies: tuple[str, str]) -> None:
    assert asked(path, cookies[0]) == (200, {}, "inside")
    assert asked("/_stcore/stream", cookies[0], kind="websocket")[0] == 101


def test_health_is_open_and_what_nobody_needs_is_closed(cookies: tuple[str, str]) -> None:
    assert asked("/_stcore/health")[0] == 200
    for path in ("/_stcore/metrics", "/_stcore/agent/interact", "/_stcore/agent/mcp"):
        assert asked(path, cookies[0])[0] == 403


def test_two_cookies_are_none(cookies: tuple[str, str]) -> None:
    ada, bob = cookies
    assert asked("/", cookie=f"{ada}; {joining.COOKIE}={bob}")[0] == 401


def test_the_code_is_asked_once_and_leads_on(empty_class: Path) -> None:
    status, _, page = asked("/join?next=lora%3Fr%3D4", more=HTML)
    assert status == 200 and 'value="lora?r=4"' in page and "Join the class" in page
    status, headers, _ = asked("/join", method="POST", body="code=Blue+Whale&name=Ada&next=lora%3Fr%3D4")
    assert (status, headers["location"]) == (303, "/lora?r=4")
    cookie = headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    value = re.match(rf"{joining.COOKIE}=([^;]+)", cookie)
    assert value and asked("/lora", value[1])[2] == "inside"


def test_a_wrong_code_is_told_and_many_are_slowed_down(empty_class: Path) -> None:
    by = Door(_inside)
    status, headers, page = asked("/join", method="POST", body="code=wrong", by=by)
    assert status == 403 and "set-cookie" not in headers and "the code" in page
    for _ in range(door._TRIES):
        status = asked("/join", method="POST", body="code=wrong", by=by)[0]
    assert status == 429
    assert asked("/join", method="POST", body=f"code={CODE}", by=by)[0] == 429, "no more guesses for now"


def test_a_full_class_is_no_wrong_code(empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room shares an address: those it turns away must not keep out the teacher, nor be told of wrong codes."""
    monkeypatch.setenv(asking.LIMITS_VARIABLE, "learners=1")
    by = Door(_inside)
    assert asked("/join", method="POST", body=f"code={CODE}", by=by)[0] == 303
    for _ in range(door._TRIES + 1):
        status, _, page = asked("/join", method="POST", body=f"code={CODE}", by=by)
        assert status == 403 and says(page, "full", "1 learner")
    assert asked("/join", method="POST", body=f"code={joining.class_keys().teacher}", by=by)[0] == 303


def test_a_full_disk_makes_nobody(empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joining.class_keys()

    def full(path: Path, *_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        status, headers, page = asked("/join", method="POST", body=f"code={CODE}&name=Ada")
    assert status == 403 and "disk is full" in page and "set-cookie" not in headers
    assert str(empty_class) not in page, "whoever has not joined learns of no folder"
    assert places.owners() == [] and not list((empty_class / "class").glob(".new-*"))


def test_who_has_left_is_nobody_and_what_they_made_stays(
    cookies: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = (joining.admitted(cookie) for cookie in cookies)
    assert ada is not None and bob is not None
    joining.leave(ada.owner)
    assert asked("/lora", cookies[0], more=HTML)[:2][0] == 303
    assert asked("/_stcore/stream", cookies[0], kind="websocket")[0] == 403
    status, headers, page = asked("/join?next=lora", cookies[0], more=HTML)
    assert (
        status == 200
        and f"{joining.COOKIE}=" in headers["set-cookie"]
        and "Max-Age=0" in headers["set-cookie"]
    )
    assert "already joined" not in page
    assert asked("/lora", cookies[1], more=HTML)[0] == 200, "who stays is not meant"
    assert asked("/auth/logout", cookies[0], more=HTML)[1]["location"] == "/join?next="
    again = asked("/join", cookies[0], "POST", f"code={CODE}")[1]["set-cookie"]
    assert ada.owner not in again and joining.learner_of(ada.owner).left
    assert {each.owner for each in (ada, bob)} < set(places.owners())


def test_what_goes_wrong_unforeseen_names_no_folder(empty_class: Path) -> None:
    """Streamlit shows a traceback by default; a class learns that something went wrong, and its server why."""
    before = config.get_option("client.showErrorDetails")

    def page() -> None:
        raise RuntimeError("/srv/lab/secret")

    try:
        assert AppTest.from_function(page).run().exception[0].stack_trace
        guard.middleware()
        shown = AppTest.from_function(page).run().exception[0]
        assert not shown.stack_trace and "/" not in shown.message
    finally:
        config.set_option("client.showErrorDetails", before)


def test_another_site_cannot_join_for_somebody(cookies: tuple[str, str]) -> None:
    body = f"code={CODE}"
    assert asked("/join", cookies[0], "POST", body, more={"origin": "https://evil.example"})[0] == 403
    assert asked("/join", cookies[0], "POST", body, more={"origin": "null"})[0] == 403
    assert asked("/join", cookies[0], "POST", body, more={"origin": "http://lab"})[0] == 303


@pytest.mark.parametrize(
    "wanted",
    ["//evil.example", "https://evil.example", "\\\\evil.example", "/\t/evil", "lora\r\nX: y", "a/../b"],
)
def test_joining_leads_nowhere_else(wanted: str, empty_class: Path) -> None:
    from urllib.parse import quote

    _, headers, _ = asked("/join", method="POST", body=f"code={CODE}&next={quote(wanted)}")
    assert re.fullmatch(r"/[a-z.]*", headers["location"]) and "//" not in headers["location"]


def test_what_was_asked_for_is_written_out_harmlessly(empty_class: Path) -> None:
    _, _, page = asked('/join?next="><script>alert(1)</script>', more=HTML)
    assert "<script" not in page


def test_the_teachers_code_makes_a_teacher_of_the_same_person(cookies: tuple[str, str]) -> None:
    _, headers, _ = asked("/join", cookies[0], "POST", f"code={joining.class_keys().teacher}")
    value = headers["set-cookie"].split(";")[0].partition("=")[2]
    who = joining.admitted(value)
    assert who is not None and who.teacher and who.owner == owner(cookies[0])


def test_a_session_that_is_open_stays_its_owners_however_long_nothing_ran(
    cookies: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of a page that are drawn again by themselves are no runs that are noted."""
    ada, bob = cookies
    long_ago = time.monotonic() - 7 * 3600
    noted = {name: (owner(ada), long_ago, "lora") for name in ("s-open", "s-closed")}
    monkeypatch.setattr(sessions, "_sessions", noted)
    monkeypatch.setattr(sessions, "exists", lambda: True)
    monkeypatch.setattr(
        sessions, "get_instance", lambda: SimpleNamespace(is_active_session=lambda name: name == "s-open")
    )
    monkeypatch.setattr(sessions, "get_script_run_ctx", lambda **_: SimpleNamespace(session_id="s-bob"))
    monkeypatch.setattr(sessions, "who_asks", lambda: joining.admitted(bob))
    sessions.begin("lora")
    assert set(noted) == {"s-open", "s-bob"}
    named = {"sec-websocket-protocol": "streamlit, xsrf, s-open"}
    assert asked("/_stcore/stream", bob, kind="websocket", more=named)[0] == 403
    assert asked("/_stcore/stream", ada, kind="websocket", more=named)[0] == 101
    assert asked("/_stcore/upload_file/s-open/f1", ada, "PUT")[0] == 200


def test_a_download_is_its_owners(cookies: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Manager:
        _files_by_session_and_coord = {"s-ada": {"1.2": "abc.csv"}}  # noqa: RUF012

    class Runtime:
        media_file_mgr = Manager()

    monkeypatch.setattr(sessions, "_sessions", {"s-ada": (owner(cookies[0]), 0.0, "lora")})
    monkeypatch.setattr(sessions, "get_instance", Runtime)
    assert asked("/media/abc.csv", cookies[0])[0] == 200
    assert asked("/media/abc.csv", cookies[1])[0] == 403
    assert asked("/media/other.csv", cookies[0])[0] == 403
    Manager._files_by_session_and_coord = {}
    assert asked("/media/abc.csv", cookies[0])[0] == 403
