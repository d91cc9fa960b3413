"""What a teacher shows, ends and sees of a class: pages, runs, counts of predictions, and no names."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.classroom import joining, places
from peft_lab.core.asking import Asker, acting_for
from peft_lab.interview.learners import schedule
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.predictions import all_predictions
from peft_lab.ui import state
from peft_lab.ui.myths import predicted as predicting
from peft_lab.ui.server import sessions
from tests.classroom.conftest import joined
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


ASKED = next(iter(all_predictions()))


def answers(who: Asker, *options: int, prediction: str = ASKED) -> None:
    with acting_for(who):
        file = Learners()
        name = (file.names() or (file.create("Countess"),))[0]
        for option in options:
            schedule.commit_prediction(file, name, prediction, option)


@pytest.fixture
def people(empty_class: Path) -> Iterator[tuple[Asker, ...]]:
    yield joined("Ada"), joined("Bob"), joined("Eve"), joined("Grace", joining.class_keys().teacher)


def test_each_ones_latest_answer_counts(people: tuple[Asker, ...]) -> None:
    ada, bob, eve, teacher = people
    answers(ada, 0, 1)
    answers(bob, 1)
    answers(eve, 0)
    answers(eve, 0, prediction="another")
    answers(teacher, 1)
    answers(teacher, 1, prediction="shown by the teacher alone")
    with acting_for(teacher):
        found = schedule.expected_by_class()
    assert [(row.id, row.counts, row.people) for row in found] == [
        (ASKED, {1: 2, 0: 1}, 3),
        ("another", {0: 1}, 1),
    ]
    with acting_for(ada), pytest.raises(places.NotATeacher):
        schedule.expected_by_class()


def test_what_is_damaged_hides_nobody_else(people: tuple[Asker, ...]) -> None:
    ada, bob, eve, teacher = people
    answers(ada, 1)
    answers(bob, 0)
    with acting_for(bob):
        Learners().path.write_bytes(b"no database")
    with acting_for(eve):
        file = Learners()
        file.keep(file.create("Eve"), schedule.COMMITTED, {ASKED: "two", "x": None})
    with acting_for(teacher):
        assert [row.counts for row in schedule.expected_by_class()] == [{1: 1}]


def test_the_practice_page_keeps_what_was_committed(
    people: tuple[Asker, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, _, _, teacher = people
    monkeypatch.setattr(sessions, "who_asks", lambda: ada)
    monkeypatch.setattr(predicting, "_values", lambda prediction: None)  # the experiment is still under way
    app = opened("myths", claim=ASKED)
    app.radio[0].set_value(1)
    next(button for button in app.button if "Check my guess" in button.label).click().run()
    with acting_for(teacher):
        assert [row.counts for row in schedule.expected_by_class()] == [{1: 1}]
