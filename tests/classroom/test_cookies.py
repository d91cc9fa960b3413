"""Codes and cookies: what is signed, what is refused, and where the secret lies."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.classroom import joining, places
from peft_lab.core import asking, disk
from peft_lab.core.asking import Asker, NobodyAsks, acting_for, asker
from peft_lab.core.errors import BadInput, PeftLabError
from tests.classroom.conftest import CODE, joined

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


def test_any_change_of_one_letter_is_refused() -> None:
    cookie = joining.signed_mark(ADA, SECRET)
    for place, letter in enumerate(cookie):
        other = "0" if letter != "0" else "1"
        assert joining.read_mark(cookie[:place] + other + cookie[place + 1 :], SECRET) is None


def test_the_secret_is_kept_for_its_user_alone_and_stays(empty_class: Path) -> None:
    first = joining.class_keys()
    path = empty_class / "class/keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and joining.class_keys() == first
    assert len(first.secret) == 64 and first.join != first.teacher
    assert [file.name for file in path.parent.iterdir()] == ["keys.json"]
    path.chmod(0o644)
    with pytest.raises(PeftLabError, match="Other users can read"):
        joining.class_keys()


def test_the_file_is_read_again_only_when_it_changes(
    empty_class: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for at every request, a hundred times for a first page."""
    read, own = [], disk.read_json

    def counted(path: Path) -> Any:
        read.append(path.name)
        return own(path)

    first = joining.class_keys()
    monkeypatch.setattr(disk, "read_json", counted)
    assert joining.class_keys() == first and read == []
    (empty_class / "class/keys.json").unlink()
    assert joining.class_keys() != first and read == ["keys.json"]


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


def test_a_class_has_room_for_so_many(empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(asking.LIMITS_VARIABLE, "learners=1")
    joined("Ada")
    with pytest.raises(BadInput, match=r"room for 1 learner\."):
        joined("Bob")
    assert joined("Grace", joining.class_keys().teacher).teacher


def test_who_was_forgotten_has_to_join_again(empty_class: Path) -> None:
    who, cookie = joining.join(CODE)
    assert joining.admitted(cookie) == who
    joining.forget(who.owner)
    assert joining.admitted(cookie) is None and list((empty_class / "class").glob(".gone*")) == []


def test_a_short_code_is_refused(empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(asking.CLASS_VARIABLE, "abc")
    with pytest.raises(BadInput, match="at least 6 characters"):
        asking.join_code()


@pytest.mark.parametrize("said", ["runs=0", "runs=x", "cats=3", "runs", "runs=-1", "runs=٣"])
def test_limits_that_cannot_be_read_are_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(asking.LIMITS_VARIABLE, said)
    with pytest.raises(BadInput, match="whole numbers"):
        asking.limits()


def test_without_a_class_nobody_is_asked(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(asking.CLASS_VARIABLE, raising=False)
    assert asker() is None and places.mine() == own_home and asking.limits_of_asker() is None


def test_in_a_class_nobody_is_no_one(empty_class: Path) -> None:
    with pytest.raises(NobodyAsks):
        places.mine()
    with acting_for(ADA):
        assert places.mine() == empty_class / "class" / ADA.owner
    assert places.asker_of(empty_class / "class" / ADA.owner / "runs/x") == ADA
    assert places.asker_of(empty_class / "runs/x") == Asker("")
    assert places.asker_of(empty_class / "class") == Asker("")
