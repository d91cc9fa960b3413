"""What a class expects: each learner's latest answer counts once, the teacher sees counts, and nobody sees names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_lab.classroom import joining, places
from peft_lab.core.asking import Asker, acting_for
from peft_lab.interview.learners import schedule
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.predictions import all_predictions
from peft_lab.ui.myths import predicted as predicting
from peft_lab.ui.server import sessions
from tests.classroom.conftest import joined
from tests.ui.test_pages import opened

ASKED = next(iter(all_predictions()))


def answers(who: Asker, *options: int, prediction: str = ASKED) -> None:
    with acting_for(who):
        file = Learners()
        name = (file.profiles() or (file.create("Countess"),))[0].name
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
        file.keep(file.create("Eve").name, schedule.COMMITTED, {ASKED: "two", "x": None})
    with acting_for(teacher):
        assert [row.counts for row in schedule.expected_by_class()] == [{1: 1}]


def test_the_teacher_sees_it_on_their_page_without_names(
    people: tuple[Asker, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, _, _, teacher = people
    monkeypatch.setattr(sessions, "who_asks", lambda: teacher)
    assert "No predictions yet" in " ".join(each.value for each in opened("classroom").caption)
    answers(ada, 1)
    app = opened("classroom")
    assert not app.exception
    said = str([each.value for each in app.markdown]) + str(app.selectbox[0].options)
    assert all_predictions()[ASKED].belief in said and "1 answer" in said and "Countess" not in said


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
