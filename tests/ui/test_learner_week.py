"""A learner's week on the Practice page, with a clock of our own: nothing is lost, due dates are py-fsrs's."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import zipfile
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fsrs import Card, Rating, Scheduler
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Selectbox

from peft_lab.interview import tour
from peft_lab.interview.bank import select
from peft_lab.interview.learners import schedule
from peft_lab.interview.learners.schedule import Learners, export_profile
from peft_lab.interview.tour import FIRST
from peft_lab.ui.practice.learner import anki_deck
from tests.waits import SECONDS

ROOT = Path(__file__).parents[2]
MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TOPIC, LEVEL = "lora", "basic"
HABIT = ("good", "hard", "again", "easy")

pytestmark = pytest.mark.usefixtures("own_home")


class Clock:
    now = MONDAY

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(schedule, "utc_now", clock)
    return clock


def opened(learner: str) -> AppTest:
    """A new session, as after a restart."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    app.query_params.update({"profile": learner, "topic": TOPIC, "level": LEVEL})
    app.switch_page("pages/practice.py")
    return checked(app.run())


def who(app: AppTest) -> Selectbox[str]:
    """The control that says who practises."""
    return next(box for box in app.selectbox if box.label == "Learner")


def checked(app: AppTest) -> AppTest:
    assert not app.exception
    return app


def press(app: AppTest, label: str) -> AppTest:
    return checked(next(button for button in app.button if button.label.startswith(label)).click().run())


def told(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption, *app.success, *app.error))


def question_up(app: AppTest) -> str:
    return next(name.id for name in select((TOPIC,), (LEVEL,)) if name.ask() in told(app))


def reference(ratings: list[tuple[str, datetime]]) -> Card:
    """py-fsrs itself, given the same ratings."""
    scheduler = Scheduler(enable_fuzzing=False)
    card = Card(card_id=1, due=ratings[0][1])
    for rating, at in ratings:
        card, _ = scheduler.review_card(card, Rating[rating.capitalize()], at)
    return card


def rate_some(app: AppTest, clock: Clock, count: int, shift: int) -> list[tuple[str, str, datetime]]:
    rated = []
    for index in range(count):
        if not any(button.label.startswith(("Show the", "Check")) for button in app.button):
            break  # nothing is due and nothing is new
        name, rating = question_up(app), HABIT[(index + shift) % len(HABIT)]
        press(app, "I don't know")
        press(app, rating.capitalize())
        rated.append((name, rating, clock.now))
        clock.now += timedelta(minutes=1)
    return rated


@pytest.mark.slow
def test_a_week_of_cards(clock: Clock) -> None:
    file = Learners(clock=clock)
    for name in ("Ada", "Bo"):
        file.create(name)
    seen: dict[str, dict[str, list[tuple[str, datetime]]]] = {
        name: defaultdict(list) for name in ("Ada", "Bo")
    }
    exported: dict[str, object] = {}
    for day in range(7):
        clock.now = MONDAY + timedelta(days=day)
        for name, count in (("Ada", 3), ("Bo", 1)):
            if day % 2 and name == "Bo":
                continue
            for question, rating, at in rate_some(opened(name), clock, count, day):
                seen[name][question].append((rating, at))
        if day == 3:
            tour.visit(file, "Ada", FIRST, 2)
            exported = json.loads(json.dumps(export_profile(file, "Ada")))
            after_export = {question: list(ratings) for question, ratings in seen["Ada"].items()}
    for name, questions in seen.items():
        cards = Learners(clock=clock).cards(name)
        assert set(cards) == set(questions)
        for question, ratings in questions.items():
            assert cards[question].due == reference(ratings).due, question
    assert len(seen["Ada"]) > len(seen["Bo"]) > 0
    reviews = [(each.question, each.rating) for each in Learners(clock=clock).reviews("Ada")]
    assert len(reviews) == sum(len(ratings) for ratings in seen["Ada"].values())

    # switched on the page
    app = opened("Ada")
    who(app).set_value("Bo").run()
    assert who(app).value == "Bo"
    assert f"**{len(file.due('Bo', [each.id for each in select((TOPIC,), (LEVEL,))]))}** due" in told(app)

    # deleted, only after it was confirmed
    app = opened("Ada")
    delete = next(button for button in app.button if button.label == "Delete")
    assert delete.disabled
    next(box for box in app.checkbox if box.label == "Permanently delete Ada").check().run()
    press(app, "Delete")
    assert [profile.name for profile in file.profiles()] == ["Bo"]
    assert who(app).value == "Bo"

    # brought back from Thursday's file, through the page
    boxes: Any = app.get("file_uploader")
    upload = next(box for box in boxes if box.label == "Import an exported learner")
    upload.set_value(("Ada.json", b"[" * 100_000, "application/json"))
    press(app, "Import")
    assert not app.exception
    assert any("JSON" in error.value for error in app.error)
    boxes = app.get("file_uploader")
    upload = next(box for box in boxes if box.label == "Import an exported learner")
    upload.set_value(("Ada.json", json.dumps(exported).encode(), "application/json"))
    press(app, "Import")
    assert who(app).value == "Ada"
    for question, ratings in after_export.items():
        assert file.cards("Ada")[question].due == reference(ratings).due
    assert set(file.cards("Ada")) == set(after_export)
    assert tour.progress(file, "Ada", FIRST).at == 2
    assert export_profile(file, "Ada") == exported


def test_the_last_learner_can_be_deleted(clock: Clock) -> None:
    Learners(clock=clock).create("Me")
    app = opened("Me")
    rate_some(app, clock, 1, 0)
    next(box for box in app.checkbox if box.label.startswith("Permanently delete Me")).check().run()
    press(app, "Delete")
    assert who(app).value == "Me", "a fresh one, without cards"
    assert Learners(clock=clock).profile("Me").reviews == 0


def test_the_anki_deck_holds_every_question_with_its_computed_answer(clock: Clock) -> None:
    pool = select((TOPIC,), (LEVEL,))
    with zipfile.ZipFile(BytesIO(anki_deck(pool, None))) as archive, tempfile.TemporaryDirectory() as folder:
        name = next(each for each in archive.namelist() if each.startswith("collection"))
        with sqlite3.connect(archive.extract(name, folder)) as db:
            backs = [row[0] for row in db.execute("SELECT flds FROM notes")]
    assert len(backs) == len(pool)
    computed = [question for question in pool if question.kind == "numeric"]
    assert computed
    for question in computed:
        answer = question.compute()
        assert answer is not None
        assert any(answer.shown in back for back in backs), question.id
