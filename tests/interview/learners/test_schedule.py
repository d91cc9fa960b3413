"""Learners and their cards with an injected clock: rated, restarted, exported, imported; interviews as reviews."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fsrs import Card, Rating, Scheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.interview.bank import all_questions
from peft_lab.interview.learners import storage
from peft_lab.interview.learners.schedule import (
    LATELY,
    Learners,
    count_as_reviews,
    export_profile,
    import_profile,
    rating_of,
    to_avoid,
)
from peft_lab.interview.learners.storage import RATINGS, RatingName, Review
from peft_lab.interview.mock import begin, make_plan

MONDAY = datetime(2025, 3, 3, 8, 30, tzinfo=UTC)
IDS = list(all_questions())[:20]


class Clock:
    """Time that only moves when told to."""

    def __init__(self, now: datetime = MONDAY) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **amount: float) -> None:
        self.now += timedelta(**amount)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def learners(tmp_path: Path, clock: Clock) -> Learners:
    made = Learners(tmp_path / "learners.db", clock)
    made.create("Ada")
    return made


def reference(ratings: list[tuple[RatingName, datetime]], retention: float = 0.9) -> Card:
    """py-fsrs itself, given the same ratings."""
    scheduler = Scheduler(desired_retention=retention, enable_fuzzing=False)
    card = Card(card_id=1, due=ratings[0][1])
    for rating, at in ratings:
        card, _ = scheduler.review_card(card, Rating[rating.capitalize()], at)
    return card


def test_due_follows_the_clock(learners: Learners, clock: Clock) -> None:
    first, second = IDS[:2]
    due = learners.rate("Ada", first, "easy").due
    assert learners.due("Ada", IDS) == []
    assert first not in learners.fresh("Ada", IDS)
    assert learners.fresh("Ada", IDS)[0] == second
    clock.now = due - timedelta(seconds=1)
    assert learners.due("Ada", IDS) == []
    clock.now = due
    assert learners.due("Ada", IDS) == [first]
    assert learners.due("Ada", [second]) == [], "only what is asked for"


def test_preview_is_what_rating_gives(learners: Learners, clock: Clock) -> None:
    learners.rate("Ada", IDS[0], "good")
    clock.forward(minutes=11)
    for rating in RATINGS:
        before = learners.preview("Ada", IDS[0])
        copy = import_profile(learners, export_profile(learners, "Ada"), "copy", replace=True)
        assert learners.rate(copy, IDS[0], rating).due == before[rating]
    dues = list(learners.preview("Ada", IDS[0]).values())
    assert dues == sorted(dues), "the better it was known, the later it comes"


def test_profiles(learners: Learners) -> None:
    assert learners.create("  Grace   Hopper ") == "Grace Hopper"
    with pytest.raises(BadInput, match="already"):
        learners.create("ada")
    for name in ("", "   ", "x" * 41, "a\x00b"):
        with pytest.raises(BadInput, match="1 to 40"):
            learners.create(name)
    with pytest.raises(UnknownName, match="Did you mean 'Ada'"):
        learners.rate("Adda", IDS[0], "good")
    with pytest.raises(UnknownName, match="rating"):
        learners.rate("Ada", IDS[0], "perfect")  # type: ignore[arg-type]
    assert learners.rate("ADA", IDS[0], "good")
    learners.remove("Ada")
    learners.create("Ada")
    assert learners.cards("Ada") == {}
    assert learners.reviews("Ada") == ()


def test_results_and_kept_values(learners: Learners, clock: Clock) -> None:
    learners.add_result("Ada", "interview", {"share": 0.8})
    clock.forward(days=1)
    learners.add_result("Ada", "interview", {"share": 0.9})
    learners.add_result("Ada", "prediction", {"right": True})
    assert [result.content["share"] for result in learners.results("Ada", "interview")] == [0.8, 0.9]
    assert learners.kept("Ada", "tour", 0) == 0
    learners.keep("Ada", "tour", 3)
    learners.keep("Ada", "tour", 4)
    assert Learners(learners.path, clock).kept("Ada", "tour") == 4
    document = export_profile(learners, "Ada")
    import_profile(learners, document, "Twin")
    assert learners.kept("Twin", "tour") == 4
    assert learners.results("Twin", "interview") == learners.results("Ada", "interview")
    assert {**export_profile(learners, "Twin"), "profile": "Ada"} == document


def test_import_refuses_what_it_cannot_use(learners: Learners) -> None:
    learners.rate("Ada", IDS[0], "good")
    document = export_profile(learners, "Ada")
    before = export_profile(learners, "Ada")
    with pytest.raises(BadInput, match="already a learner"):
        import_profile(learners, document)
    damaged: list[tuple[Callable[[dict], object], str]] = [  # type: ignore[type-arg]
        (lambda d: d.update(format="other"), "not a learner exported"),
        (lambda d: d.update(version=99), "format 99"),
        (lambda d: d.update(profile=""), "1 to 40"),
        (lambda d: d.pop("reviews"), "damaged"),
        (lambda d: d.update(cards=[{}]), "damaged"),
        (lambda d: d["cards"][0].update(due="tomorrow"), "damaged"),
        (lambda d: d["cards"][0].update(state=7), "damaged"),
        (lambda d: d["cards"][0].update(stability="much"), "damaged"),
        (lambda d: d["reviews"][0].update(rating=9), "damaged"),
        (lambda d: d["reviews"][0].update(milliseconds="5"), "damaged"),
        (lambda d: d.update(retention=2), "damaged"),
        (lambda d: d.update(kept=[1]), "damaged"),
    ]
    for change, message in damaged:
        broken = json.loads(json.dumps(document))
        change(broken)
        with pytest.raises(BadInput, match=message):
            import_profile(learners, broken, replace=True)
        assert export_profile(learners, "Ada") == before, "a failed import changes nothing"
    of_no_learner: tuple[Any, ...] = (None, [], "text", 3)
    for nothing in of_no_learner:
        with pytest.raises(BadInput, match="not a learner exported"):
            import_profile(learners, nothing)


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "learners.db"
    path.write_bytes(b"not a database, but long enough to be read as one" * 50)
    with pytest.raises(BadInput, match=r"learners\.db cannot be used"):
        Learners(path).names()
    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as db:
        db.execute(f"PRAGMA user_version = {storage.VERSION + 1}")
    with pytest.raises(BadInput, match="newer PEFT Lab"):
        Learners(newer).names()


@pytest.mark.parametrize(
    ("change", "reads"),
    [
        ("UPDATE cards SET due = '2026-11-r9T21:14:39+00:00'", lambda file: file.cards("Ada")),
        ("UPDATE cards SET state = 77", lambda file: file.cards("Ada")),
        ("UPDATE reviews SET rating = 99", lambda file: file.reviews("Ada")),
        ("UPDATE profiles SET created = 'x'", lambda file: file.names()),
        ("UPDATE results SET content = '{\"id'", lambda file: file.results("Ada", "prediction")),
        ("UPDATE kept SET value = '{\"a'", lambda file: file.kept("Ada", "tour")),
    ],
)
def test_what_a_flipped_bit_makes_of_it_is_told_and_holds_no_lock(
    learners: Learners, change: str, reads: Callable[[Learners], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "WAIT", 0.0)
    for name in IDS[:3]:
        learners.rate("Ada", name, "good")
    learners.add_result("Ada", "prediction", {"id": "a"})
    learners.keep("Ada", "tour", 3)
    with sqlite3.connect(learners.path) as db:
        db.execute(change)
    with pytest.raises(BadInput, match=r"learners\.db cannot be used") as told:
        reads(learners)
    learners.keep("Ada", "tour", 4)  # while what was raised is still held
    assert told.value.__traceback__ is not None


def test_outcomes_that_hold_something_else_are_left_out(learners: Learners) -> None:
    """An imported file may hold anything in them."""
    contents: tuple[Any, ...] = (3, [], None, {}, {"id": 7}, {"id": "a", "more": 1})
    for content in contents:
        learners.add_result("Ada", "prediction", content)
    found = [each.content for each in learners.results("Ada", "prediction", {"id": str})]
    assert found == [{"id": "a", "more": 1}]
    assert len(learners.results("Ada", "prediction")) == 3


def test_many_tabs_at_once(learners: Learners) -> None:
    """Ratings from several threads are all kept."""
    failures: list[Exception] = []

    def work(names: list[str]) -> None:
        try:
            for name in names:
                learners.rate("Ada", name, "good")
        except BadInput as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(IDS[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(learners.reviews("Ada")) == len(learners.cards("Ada")) == len(IDS)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(RATINGS), st.floats(0.001, 40)), min_size=1, max_size=8))
def test_any_history_is_py_fsrs(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[RatingName, float]]
) -> None:
    clock = Clock()
    learners = Learners(tmp_path_factory.mktemp("fsrs") / "learners.db", clock)
    learners.create("Ada")
    history: list[tuple[RatingName, datetime]] = []
    for rating, days in steps:
        history.append((rating, clock.now))
        assert learners.rate("Ada", "any-question", rating).due == reference(history).due
        clock.forward(days=days)


NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("points", "rating"), [(1.0, "good"), (2 / 3, "hard"), (0.5, "hard"), (1 / 3, "again"), (0.0, "again")]
)
def test_points_are_a_rating(points: float, rating: RatingName) -> None:
    assert rating_of(points) == rating
    assert rating_of(sum([1 / 3] * 3)) == "good", "all of three points"


def test_answers_are_reviews_and_what_did_not_come_up_is_none(tmp_path: Path) -> None:
    file = Learners(tmp_path / "learners.db", lambda: NOW)
    file.create("Ada")
    plan = make_plan(1)
    held = begin(plan, NOW)
    for points in (1.0, 0.5, 0.0):
        held = held.answer("x", points, (held.asked or NOW) + timedelta(seconds=20))
    count_as_reviews(file, "Ada", held)
    assert [(each.question, each.rating, each.milliseconds) for each in file.reviews("Ada")] == [
        (name, rating, 20_000)
        for name, rating in zip(plan.questions, ("good", "hard", "again"), strict=False)
    ]
    assert set(file.cards("Ada")) == set(plan.questions[:3])


def test_what_was_had_or_is_known_lately_is_avoided() -> None:
    held = begin(make_plan(1), NOW)
    at = {"a": NOW - timedelta(days=1), "old": NOW - LATELY - timedelta(hours=1)}
    reviews = [
        Review(name, "good", when, None) for name, when in sorted(at.items(), key=lambda each: each[1])
    ]
    reviews += [Review("lapsed", "easy", NOW, None), Review("lapsed", "again", NOW, None)]
    assert to_avoid([held], reviews, NOW) == {*held.plan.questions, "a"}
    assert to_avoid([], [], NOW) == set()
