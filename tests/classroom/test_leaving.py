"""A learner leaves while a page of theirs is drawn: that run ends without a word, and no other does."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.runtime import Runtime

from peft_lab.classroom import joining
from peft_lab.core import asking
from peft_lab.ui.server import sessions
from tests.classroom.conftest import CODE
from tests.ui.late_turn import Client, served, until
from tests.ui.test_tour import again, opened, press, told

STANDS, GATE = threading.Event(), threading.Event()
ENDS: list[str] = []
SCRIPT = """
from peft_lab.core import asking
from peft_lab.ui.server import sessions
from tests.classroom import test_leaving

test_leaving.STANDS.set()
test_leaving.GATE.wait(60)
try:
    asking.asker()
except BaseException as end:
    test_leaving.ENDS.append(type(end).__name__)
    raise
test_leaving.ENDS.append("known")
"""


class Browser(Client):
    def __init__(self, cookie: str) -> None:
        super().__init__()
        self._cookie = cookie

    @property
    def client_context(self) -> SimpleNamespace:
        return SimpleNamespace(cookies={joining.COOKIE: self._cookie}, headers=[], remote_ip=None)


@pytest.fixture
def cookie(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ada's, who has just joined."""
    monkeypatch.setenv(asking.CLASS_VARIABLE, CODE)
    monkeypatch.delenv(asking.LIMITS_VARIABLE, raising=False)
    return joining.join(CODE, "Ada")[1]


def ended(folder: Path, cookie: str, leaves: bool) -> str:
    """How a run goes on that is half done when its browser leaves, or stays."""
    STANDS.clear()
    GATE.clear()
    ENDS.clear()

    async def seen(runtime: Runtime) -> str:
        session = runtime.connect_session(Browser(cookie), {})
        message = BackMsg()
        message.rerun_script.query_string = ""
        runtime.handle_backmsg(session, message)
        await until(STANDS.is_set, 20)
        if leaves:
            runtime.disconnect_session(session)
        GATE.set()
        await until(lambda: bool(ENDS), 20)
        return ENDS[0]

    return served(folder, SCRIPT, seen)


@pytest.mark.parametrize(("leaves", "end"), [(False, "known"), (True, "StopException")])
def test_who_leaves_ends_the_run(cookie: str, leaves: bool, end: str, tmp_path: Path) -> None:
    assert ended(tmp_path, cookie, leaves) == end


def test_the_next_person_gets_the_browser(cookie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once they have read what is lost; a look at it loses nothing."""
    monkeypatch.setattr(sessions, "who_asks", lambda: joining.admitted(cookie))
    ada = joining.admitted(cookie)
    assert ada is not None
    app = opened("runs")
    assert [each.key for each in app.sidebar.button if each.key in ("leave", "sign-out")] == ["leave"]
    press(app, "Leave")
    assert "cannot get back" in told(app) and joining.admitted(cookie) == ada
    press(app, "Stay")
    assert joining.admitted(cookie) == ada and "cannot get back" not in told(app)
    press(app, "Leave")
    press(app, "Leave for good")
    assert joining.admitted(cookie) is None and joining.learner_of(ada.owner).left
    assert again(app).error and not app.sidebar.button, "what was open is nobody's"


def test_who_signed_in_signs_out_and_can_come_back(cookie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = joining.admitted(cookie)
    assert ada is not None
    monkeypatch.setattr(sessions, "who_asks", lambda: replace(ada, login=1))
    keys = [each.key for each in opened("runs").sidebar.button]
    assert "sign-out" in keys and "leave" not in keys


def test_who_is_nobody_and_stays_is_told(cookie: str, tmp_path: Path) -> None:
    assert ended(tmp_path, "", leaves=False) == "NobodyAsks"
