"""Codes, cookies, signing in and leaving: who gets in, as whom, and who is nobody."""

from __future__ import annotations

import json
import stat
import threading
import time
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit import config
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.runtime import Runtime
from streamlit.runtime.secrets import secrets_singleton

from peft_lab.classroom import joining, places
from peft_lab.core import asking
from peft_lab.core.asking import Asker, NobodyAsks, acting_for
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.ui.server import door, sessions
from tests.classroom.conftest import CODE, joined
from tests.classroom.provider import login_cookie, secrets
from tests.classroom.test_door import HTML, asked
from tests.ui.late_turn import Client, served, until
from tests.ui.test_tour import again, opened, press, told

SECRET = "ab" * 32
ADA = Asker("0123456789abcdef" * 2)


def test_a_cookie_names_who_it_was_signed_for() -> None:
    assert joining.read_mark(joining.signed_mark(ADA, SECRET), SECRET) == ADA
    teacher = Asker(ADA.owner, teacher=True)
    assert joining.read_mark(joining.signed_mark(teacher, SECRET), SECRET) == teacher


def test_a_cookie_is_nobodys_when_old_changed_or_of_another_lab() -> None:
    cookie = joining.signed_mark(ADA, SECRET, now=1000)
    assert joining.read_mark(cookie, SECRET, now=1000 + joining.MARK_LASTS) == ADA
    assert joining.read_mark(cookie, SECRET, now=1001 + joining.MARK_LASTS) is None
    assert joining.read_mark(cookie, "cd" * 32, now=1000) is None
    assert joining.read_mark(cookie.replace(".l.", ".t."), SECRET, now=1000) is None, (
        "a learner made a teacher"
    )
    assert joining.read_mark(cookie.replace("0123", "0124", 1), SECRET, now=1000) is None
    assert joining.read_mark(cookie.replace(".1000.", ".9000."), SECRET, now=1000) is None


@given(st.text(max_size=200))
def test_no_text_is_a_cookie_by_chance(text: str) -> None:
    assert joining.read_mark(text, SECRET) is None


def test_the_secret_is_kept_for_its_user_alone_and_stays(empty_class: Path) -> None:
    first = joining.class_keys()
    path = empty_class / "class/keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and joining.class_keys() == first
    assert len(first.secret) == 64 and first.join != first.teacher
    assert [file.name for file in path.parent.iterdir()] == ["keys.json"]
    path.chmod(0o644)
    with pytest.raises(PeftLabError, match="Other users can read"):
        joining.class_keys()


def test_a_damaged_secret_lets_nobody_in(empty_class: Path) -> None:
    joining.class_keys()
    (empty_class / "class/keys.json").write_text("{}")
    with pytest.raises(PeftLabError, match="cannot be read"):
        joining.admitted("anything")


@pytest.mark.parametrize("typed", [CODE, "Blue Whale", " BLUEWHALE ", "bl-ue-wh-ale"])
def test_a_code_may_be_typed_as_it_is_heard(typed: str, empty_class: Path) -> None:
    who = joined("Ada", typed)
    assert not who.teacher and (empty_class / "class" / who.owner / "who.json").is_file()


@pytest.mark.parametrize("typed", ["", "blue", "blue-whale!", "blue-whales", CODE[::-1]])
def test_a_wrong_code_makes_nobody(typed: str, empty_class: Path) -> None:
    with pytest.raises(BadInput, match="code is wrong"):
        joined("Ada", typed)
    assert places.owners() == []


def test_who_joins_again_keeps_their_work_and_may_become_the_teacher(empty_class: Path) -> None:
    ada = joined("Ada")
    who, cookie = joining.join(joining.class_keys().teacher, "", ada)
    assert who == Asker(ada.owner, teacher=True) == joining.admitted(cookie)
    assert places.owners() == [ada.owner]


def test_a_teacher_is_none_of_the_learners(empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(asking.LIMITS_VARIABLE, "learners=2")
    first, later = joined("Grace", joining.class_keys().teacher), joined("Alan")
    ada = joined("Ada")
    with acting_for(first):
        assert [one.name for one in joining.learners()] == ["Alan", "Ada"]
        joining.join(joining.class_keys().teacher, "", later)
        assert [one.name for one in joining.learners()] == ["Ada"]
    assert joined("Bob").owner != ada.owner, "there is room for two learners, whoever teaches"
    with pytest.raises(BadInput, match="room for 2 learners"):
        joined("Eve")


def test_who_was_forgotten_has_to_join_again(empty_class: Path) -> None:
    who, cookie = joining.join(CODE)
    assert joining.admitted(cookie) == who
    joining.forget(who.owner)
    assert joining.admitted(cookie) is None and list((empty_class / "class").glob(".gone*")) == []


@pytest.mark.parametrize("said", ["runs=0", "runs=x", "cats=3", "runs", "runs=-1", "runs=٣"])
def test_limits_that_cannot_be_read_are_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(asking.LIMITS_VARIABLE, said)
    with pytest.raises(BadInput, match="whole numbers"):
        asking.limits()


def test_in_a_class_nobody_is_no_one(empty_class: Path) -> None:
    with pytest.raises(NobodyAsks):
        places.mine()
    with acting_for(ADA):
        assert places.mine() == empty_class / "class" / ADA.owner
    assert places.asker_of(empty_class / "class" / ADA.owner / "runs/x") == ADA
    assert places.asker_of(empty_class / "runs/x") == Asker("")
    assert places.asker_of(empty_class / "class") == Asker("")


HERE = "https://id.example"


def claims(sub: str = "ada", **more: Any) -> dict[str, Any]:
    address = {"email": f"{sub}@school.example", "email_verified": True}
    return {"iss": HERE, "sub": sub, "iat": int(time.time()), "name": sub.title(), **address, **more}


@pytest.fixture
def school(empty_class: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A class for the addresses of one school; Grace teaches."""
    monkeypatch.setenv(joining.WHO_MAY_LOG_IN, "@school.example")
    monkeypatch.setenv(joining.TEACHERS, "Grace@school.example")
    before = config.get_option("secrets.files")
    config.set_option("secrets.files", [str(secrets(tmp_path, "http://lab", HERE))])
    secrets_singleton._reset()
    yield empty_class
    config.set_option("secrets.files", before)
    secrets_singleton._reset()


def changed(cookie: str) -> str:
    """The cookie with another letter within its signature; the last letter has spare bits, so it may say the same."""
    other = "A" if cookie[-10] != "A" else "B"
    return cookie[:-10] + other + cookie[-9:]


def came(cookie: str, path: str = "/") -> tuple[int, dict[str, str], str]:
    return asked(path, more={**HTML, "cookie": cookie})


def signed_in(cookie: str) -> Asker:
    status, headers, _ = came(cookie)
    assert status == 303
    who = joining.admitted(headers["set-cookie"].split(";")[0].partition("=")[2])
    assert who is not None
    return who


def test_who_signed_in_is_the_same_each_time_and_nobody_else(school: Path) -> None:
    ada = signed_in(login_cookie(claims()))
    assert signed_in(login_cookie(claims(email="other@school.example"))) == ada, (
        "the subject counts, not the address"
    )
    others = [claims("bob"), claims(iss="https://other.example"), claims("ada\0")]
    assert len({ada.owner, *(signed_in(login_cookie(each)).owner for each in others)}) == 4
    assert (
        "ada" not in ada.owner
        and json.loads((school / "class" / ada.owner / "who.json").read_text())["name"] == "Ada"
    )
    assert not ada.teacher and signed_in(login_cookie(claims("grace"))).teacher


def test_the_cookie_of_the_class_is_given_on_the_way_to_the_page(school: Path) -> None:
    status, headers, _ = came(login_cookie(claims()), "/lora?r=4")
    assert (status, headers["location"]) == (303, "/lora?r=4")
    first = headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/", f"Max-Age={joining.LOGIN_LASTS}"} <= set(first.split("; "))
    assert asked("/lora", first.split(";")[0].partition("=")[2])[2] == "inside"
    status, headers, _ = came(f"{door.LOGIN_WANTED}=lora%3Fr%3D8; {login_cookie(claims())}")
    assert headers["location"] == "/lora?r=8", "where somebody wanted to go when they went to sign in"


@pytest.mark.parametrize(
    "forged",
    [
        lambda: login_cookie(claims(), "another secret of thirty-two characters"),
        lambda: login_cookie(claims(), origin="http://elsewhere"),
        lambda: login_cookie(claims(), provider="other"),
        lambda: login_cookie(claims(), is_logged_in=False),
        lambda: changed(login_cookie(claims())),
        lambda: "_streamlit_user=" + json.dumps(claims()),
        lambda: f"{login_cookie(claims())}; {login_cookie(claims('bob'))}",
        lambda: login_cookie(claims()).replace("_streamlit_user", "_streamlit_user_tokens"),
    ],
    ids=["other secret", "other address", "other provider", "not in", "changed", "unsigned", "two", "tokens"],
)
def test_a_forged_cookie_is_none(forged: Any, school: Path) -> None:
    status, headers, _ = came(forged())
    assert status == 303 and headers["location"].startswith("/join"), "as without one"
    assert places.owners() == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"email_verified": False}, "verified"),
        ({"email_verified": "true"}, "verified"),
        ({"email_verified": None}, "verified"),
        ({"email": None}, "verified"),
        ({"email": "ada@other.example"}, "does not belong"),
        ({"email": "ada@school.example.evil"}, "does not belong"),
        ({"email": "ada@evil.school.example"}, "does not belong"),
        ({"email": "ada@evil@school.example"}, "verified"),
        ({"sub": ""}, "who you are"),
        ({"iss": 3}, "who you are"),
        ({"iat": time.time() - joining.LOGIN_LASTS - 60}, "expired"),
        ({"iat": time.time() + 3600}, "expired"),
        ({"iat": None}, "expired"),
    ],
)
def test_who_is_not_let_in_is_told_why(changed: dict[str, Any], said: str, school: Path) -> None:
    status, headers, page = came(login_cookie(claims(**changed)))
    if (
        said == "inside"
    ):  # whatever stands before the last @: a provider that verified it knows the school's addresses
        assert status == 303
        return
    assert status == 403 and said in page and joining.COOKIE not in headers.get("set-cookie", "")


def test_a_code_prolongs_no_sign_in(school: Path) -> None:
    signed = joining.join_verified(claims(iat=int(time.time()) - 3600))[0]
    who, cookie = joining.join(joining.class_keys().teacher, before=signed)
    assert who.owner == signed.owner and who.teacher and who.login == signed.login
    assert joining.read_mark(cookie, joining.class_keys().secret, time.time() + joining.LOGIN_LASTS) is None


def test_who_signs_in_as_a_teacher_no_more_is_a_learner_again(
    school: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = signed_in(login_cookie(claims("grace"))).owner
    assert joining.learner_of(owner).teacher
    monkeypatch.setenv(joining.TEACHERS, "")
    assert signed_in(login_cookie(claims("grace"))).owner == owner
    assert not joining.learner_of(owner).teacher and joining.learner_of(owner).name == "Grace"


def test_the_ways_to_the_provider_are_open_where_one_can_sign_in(
    school: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in door.LOGIN_OPEN:
        assert asked(f"/{path}")[2] == "inside"
    for other in ("/auth/login/", "//oauth2callback", "/x/auth/login"):
        assert asked(other)[0] == 401
    assert asked("/auth/loginx")[0] == asked("/auth/login", kind="websocket")[0] - 2 == 401
    assert 'href="/join/login?next=lora%3Fr%3D4"' in asked("/join?next=lora%3Fr%3D4", more=HTML)[2]
    monkeypatch.delenv(joining.WHO_MAY_LOG_IN)
    for path in (*door.LOGIN_OPEN, door.LOGIN_BEGINS):
        assert asked(f"/{path}")[0] == 401
    assert "Sign in" not in asked("/join", more=HTML)[2]
    assert came(login_cookie(claims()))[1]["location"].startswith("/join")


def test_who_comes_or_goes_leaves_no_cookie_of_who_was_there(school: Path) -> None:
    def app(*cookies: str) -> Any:
        async def inside(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"set-cookie", each.encode()) for each in cookies]
            await send({"type": "http.response.start", "status": 302, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

        return door.Door(inside)

    taken_back = f"{joining.COOKIE}=; Path=/; Max-Age=0"
    assert taken_back in asked("/auth/logout", by=app())[1]["set-cookie"]
    assert taken_back in asked("/oauth2callback", by=app("_streamlit_user=abc; Path=/"))[1]["set-cookie"]
    for failed in ((), ('_streamlit_user=""; Max-Age=0',)):
        assert joining.COOKIE not in asked("/oauth2callback", by=app(*failed))[1].get("set-cookie", "")


def test_settings_that_let_nobody_sign_in_are_refused_at_the_start(
    school: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> str:
        secrets_singleton._reset()
        try:
            door.login_ready()
        except BadInput as error:
            return str(error)
        return ""

    monkeypatch.setattr(util, "find_spec", lambda name: object())
    assert said() == ""
    secrets(tmp_path, "http://lab/elsewhere", HERE)
    assert "redirect_uri" in said()
    secrets(tmp_path, "http://lab", HERE, "short")
    assert "at least 32 characters" in said()
    (tmp_path / ".streamlit/secrets.toml").write_text("[auth]\n")
    assert "redirect_uri" in said()
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    assert "oidc" in said()


STANDS, GATE = threading.Event(), threading.Event()
ENDS: list[str] = []
SCRIPT = """
from peft_lab.core import asking
from peft_lab.ui.server import sessions
from tests.classroom import test_joining

test_joining.STANDS.set()
test_joining.GATE.wait(60)
try:
    asking.asker()
except BaseException as end:
    test_joining.ENDS.append(type(end).__name__)
    raise
test_joining.ENDS.append("known")
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


def test_who_is_nobody_and_stays_is_told(cookie: str, tmp_path: Path) -> None:
    assert ended(tmp_path, "", leaves=False) == "NobodyAsks"
