"""Joining by signing in: whom the door lets in for what a provider says, and whom it does not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from streamlit import config
from streamlit.runtime.secrets import secrets_singleton

from peft_lab.classroom import joining, places
from peft_lab.core.asking import Asker
from peft_lab.core.errors import BadInput
from peft_lab.ui.server import door
from tests.classroom import signing
from tests.classroom.test_door import HTML, asked

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
    config.set_option("secrets.files", [str(signing.secrets(tmp_path, "http://lab", HERE))])
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
    ada = signed_in(signing.cookie(claims()))
    assert signed_in(signing.cookie(claims(email="other@school.example"))) == ada, (
        "the subject counts, not the address"
    )
    others = [claims("bob"), claims(iss="https://other.example"), claims("ada\0")]
    assert len({ada.owner, *(signed_in(signing.cookie(each)).owner for each in others)}) == 4
    assert (
        "ada" not in ada.owner
        and json.loads((school / "class" / ada.owner / "who.json").read_text())["name"] == "Ada"
    )
    assert not ada.teacher and signed_in(signing.cookie(claims("grace"))).teacher


def test_the_cookie_of_the_class_is_given_on_the_way_to_the_page(school: Path) -> None:
    status, headers, _ = came(signing.cookie(claims()), "/lora?r=4")
    assert (status, headers["location"]) == (303, "/lora?r=4")
    first = headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/", f"Max-Age={joining.LOGIN_LASTS}"} <= set(first.split("; "))
    assert asked("/lora", first.split(";")[0].partition("=")[2])[2] == "inside"
    status, headers, _ = came(f"{door.LOGIN_WANTED}=lora%3Fr%3D8; {signing.cookie(claims())}")
    assert headers["location"] == "/lora?r=8", "where somebody wanted to go when they went to sign in"


def test_a_long_cookie_comes_in_pieces(school: Path) -> None:
    long = signing.cookie(claims(groups=[token_hex(20) for _ in range(200)]))
    assert "_streamlit_user_1=" in long
    assert signed_in(long) == signed_in(signing.cookie(claims()))


@pytest.mark.parametrize(
    "forged",
    [
        lambda: signing.cookie(claims(), "another secret of thirty-two characters"),
        lambda: signing.cookie(claims(), origin="http://elsewhere"),
        lambda: signing.cookie(claims(), provider="other"),
        lambda: signing.cookie(claims(), is_logged_in=False),
        lambda: changed(signing.cookie(claims())),
        lambda: "_streamlit_user=" + json.dumps(claims()),
        lambda: f"{signing.cookie(claims())}; {signing.cookie(claims('bob'))}",
        lambda: signing.cookie(claims()).replace("_streamlit_user", "_streamlit_user_tokens"),
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
    status, headers, page = came(signing.cookie(claims(**changed)))
    if (
        said == "inside"
    ):  # whatever stands before the last @: a provider that verified it knows the school's addresses
        assert status == 303
        return
    assert status == 403 and said in page and joining.COOKIE not in headers.get("set-cookie", "")


def test_a_teachers_address_that_nobody_verified_makes_no_teacher(
    school: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(joining.WHO_MAY_LOG_IN, "*")
    assert signed_in(signing.cookie(claims("grace"))).teacher
    for unverified in (False, "true", 1, None):
        assert not signed_in(signing.cookie(claims("grace", email_verified=unverified))).teacher


def test_the_day_after_one_signs_in_again(school: Path) -> None:
    at = int(time.time())
    who = joining.join_verified(claims(iat=at - 3600))[0]
    cookie = joining.signed_mark(who, joining.class_keys().secret)
    assert joining.read_mark(cookie, joining.class_keys().secret, at + joining.LOGIN_LASTS - 3700) == who
    assert joining.read_mark(cookie, joining.class_keys().secret, at + joining.LOGIN_LASTS - 3500) is None, (
        "since signing in, not since"
    )


def test_a_code_prolongs_no_sign_in(school: Path) -> None:
    signed = joining.join_verified(claims(iat=int(time.time()) - 3600))[0]
    who, cookie = joining.join(joining.class_keys().teacher, before=signed)
    assert who.owner == signed.owner and who.teacher and who.login == signed.login
    assert joining.read_mark(cookie, joining.class_keys().secret, time.time() + joining.LOGIN_LASTS) is None


def test_who_signs_in_as_a_teacher_no_more_is_a_learner_again(
    school: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = signed_in(signing.cookie(claims("grace"))).owner
    assert joining.learner_of(owner).teacher
    monkeypatch.setenv(joining.TEACHERS, "")
    assert signed_in(signing.cookie(claims("grace"))).owner == owner
    assert not joining.learner_of(owner).teacher and joining.learner_of(owner).name == "Grace"


def test_a_mark_of_one_kind_is_none_of_the_other(school: Path) -> None:
    cookie = joining.signed_mark(joining.join_verified(claims())[0], joining.class_keys().secret)
    assert cookie[0] == "2" and joining.read_mark(f"1{cookie[1:]}", joining.class_keys().secret) is None


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
    assert came(signing.cookie(claims()))[1]["location"].startswith("/join")


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


def test_a_full_class_takes_nobody_more(school: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_LAB_CLASS_LIMITS", "learners=1")
    ada = signed_in(signing.cookie(claims()))
    status, _, page = came(signing.cookie(claims("bob")))
    assert status == 403 and "full" in page
    assert signed_in(signing.cookie(claims())) == ada and joining.learner_of(ada.owner).number == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (joining.WHO_MAY_LOG_IN, "school.example"),
        (joining.WHO_MAY_LOG_IN, "a@b@c"),
        (joining.TEACHERS, "*"),
        (joining.TEACHERS, "@x.de"),
    ],
)
def test_what_says_nobody_is_refused_at_the_start(
    variable: str, value: str, school: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadInput, match=f"in {variable} is not"):
        door.login_ready()


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
    signing.secrets(tmp_path, "http://lab/elsewhere", HERE)
    assert "redirect_uri" in said()
    signing.secrets(tmp_path, "http://lab", HERE, "short")
    assert "at least 32 characters" in said()
    (tmp_path / ".streamlit/secrets.toml").write_text("[auth]\n")
    assert "redirect_uri" in said()
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    assert "oidc" in said()
