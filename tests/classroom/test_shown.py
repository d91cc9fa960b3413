"""What the teacher shows is what a learner sees, whatever they had set on the page themselves."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.classroom import joining, places
from peft_lab.core import asking
from peft_lab.core.asking import acting_for
from peft_lab.interview.tour import FIRST
from peft_lab.ui import state
from peft_lab.ui.server import sessions
from peft_lab.ui.server.door import SHOWN
from tests.classroom.conftest import CODE, joined
from tests.classroom.test_door import asked
from tests.classroom.test_turns import queued
from tests.prose import says
from tests.ui.test_tour import address_of, again, opened, press


def lines(app: AppTest) -> list[Any]:
    links: list[Any] = list(app.get("page_link"))
    return [link for link in links if "Your teacher shows" in link.label]


@pytest.mark.parametrize(
    ("page", "name", "own", "theirs"),
    [
        ("plan", "rows", {"rows": "500"}, {"rows": "700"}),
        ("lora", "r", {"r": "64", "fixed": "r"}, {"r": "4"}),
    ],
)
def test_a_page_that_was_open_before_takes_what_is_shown(
    page: str,
    name: str,
    own: dict[str, str],
    theirs: dict[str, str],
    empty_class: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada, teacher = joined("Ada"), joined("Grace", joining.class_keys().teacher)
    with acting_for(teacher):
        places.show_page(page, theirs)
    monkeypatch.setattr(sessions, "who_asks", lambda: ada)
    app = opened(page, **own)
    assert app.session_state[state._COMPLETE][name] == own[name]
    (line,) = lines(app)
    app.query_params.clear()
    for each, value in parse_qsl(line.proto.query_string):
        app.query_params[each] = value
    for _ in range(2):
        again(app)
        assert app.session_state[state._COMPLETE][name] == theirs[name]
        assert address_of(app) == theirs and not lines(app), "the learner is where the teacher is"


def test_an_open_page_follows_what_is_shown_next(empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each page that is shown: who then goes elsewhere is not taken back."""
    ada, teacher = joined("Ada"), joined("Grace", joining.class_keys().teacher)
    monkeypatch.setattr(sessions, "who_asks", lambda: ada)
    app = opened("words")
    before = places.shown_version()
    with acting_for(teacher):
        places.show_page("runs", {})
    assert places.shown_version() != before == "0"
    assert app.session_state[state._PAGE] == "words"
    again(app)
    assert app.session_state[state._PAGE] == "runs" and not lines(app)
    app.switch_page("pages/words.py")
    again(app)
    assert app.session_state[state._PAGE] == "words" and len(lines(app)) == 1


def test_only_who_has_joined_is_told_what_is_shown(empty_class: Path) -> None:
    cookie = joining.join(CODE)[1]
    status, headers, version = asked(f"/{SHOWN}", cookie)
    assert (status, headers["cache-control"], version) == (200, "no-store", places.shown_version())
    assert asked(f"/{SHOWN}")[0] == 401
    assert asked(f"/{SHOWN}", kind="websocket")[0] == 403


def test_a_run_of_the_teachers_own_is_not_shown(empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else has it: the line would stay over the very page that it leads to."""
    ada, teacher = joined("Ada"), joined("Grace", joining.class_keys().teacher)
    run = queued(teacher)
    monkeypatch.setattr(sessions, "who_asks", lambda: teacher)
    app = opened("bitfit", run=run.id, steps="5")
    assert address_of(app)["run"] == run.id
    press(app, "Show to my class")
    found = places.shown_page()
    assert found is not None and found.page == "bitfit" and found.settings["steps"] == "5"
    assert not any(run.id in value for value in found.settings.values())
    monkeypatch.setattr(sessions, "who_asks", lambda: ada)
    theirs = again(opened("bitfit", **found.settings))
    assert not lines(theirs)


def test_the_line_stands_under_the_bar_of_a_path(empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar hides what is right above it, so that the page scrolls past unseen."""
    ada, teacher = joined("Ada"), joined("Grace", joining.class_keys().teacher)
    with acting_for(teacher):
        places.show_page("plan", {})
    monkeypatch.setattr(sessions, "who_asks", lambda: ada)
    app = opened("atlas", stop=f"{FIRST}.1")
    said = [f"{getattr(each, 'value', '')}{getattr(each, 'label', '')}" for each in app.main]
    (of_path,) = (at for at, text in enumerate(said) if "You left stop 1 of" in text)
    (of_teacher,) = (at for at, text in enumerate(said) if "Your teacher shows" in text)
    assert of_path < of_teacher


def test_what_a_disk_does_not_let_go_stays_shown_and_is_said(
    empty_class: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = joined("Grace", joining.class_keys().teacher)
    with acting_for(teacher):
        places.show_page("plan", {})
    monkeypatch.setattr(sessions, "who_asks", lambda: teacher)
    app = opened("classroom")

    def refuses(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "unlink", refuses)
        press(app, "Stop showing it")
    said = [each.value for each in app.markdown]
    assert any(says(text, "still shown", "Read-only file system") for text in said)
    assert not app.exception and places.shown_page() is not None
    press(app, "Stop showing it")
    assert places.shown_page() is None and not any("still shown" in each.value for each in app.markdown)


def test_a_learner_is_told_on_which_machine_things_lie(
    empty_class: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = joined("Ada")
    monkeypatch.setattr(sessions, "who_asks", lambda: ada)
    said = " ".join(each.value for each in opened("home").caption)
    assert "class's server" in said and "leaves this machine" not in said
    monkeypatch.delenv(asking.CLASS_VARIABLE)
    assert asking.here() == "this machine"
