"""The place on a path is kept with the learner: over restarts, per learner, in an export."""

from __future__ import annotations

from pathlib import Path as File

import pytest

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.interview import tour
from peft_lab.interview.learners.schedule import Learners, export_profile, import_profile
from peft_lab.interview.tour import FIRST, Progress, Stop, Tour, newcomer

NEWCOMER = newcomer()

PAGES = ("home", "lora")
LESSON = Tour("Lesson", (Stop(page="lora", title="One"), Stop(page="home", title="Two")))


@pytest.fixture
def file(tmp_path: File) -> Learners:
    made = Learners(tmp_path / "learners.db")
    made.create("Ada")
    made.create("Bo")
    return made


def test_the_place_survives_a_restart_and_is_everybodys_own(file: Learners) -> None:
    assert tour.progress(file, "Ada", FIRST) == Progress()
    for index in (0, 1, 4, 1):
        tour.visit(file, "Ada", FIRST, index)
    again = Learners(file.path)
    assert tour.progress(again, "Ada", FIRST) == Progress(1, frozenset({0, 1, 4}))
    assert tour.progress(again, "Bo", FIRST) == Progress()
    assert (tour.last(again, "Ada"), tour.last(again, "Bo")) == (FIRST, FIRST)
    tour.start_over(again, "Ada", FIRST)
    assert tour.progress(again, "Ada", FIRST) == Progress()
    with pytest.raises(UnknownName):
        tour.visit(file, "Cy", FIRST, 0)


def test_a_teachers_path_is_taken_in_once_and_let_go(file: Learners) -> None:
    identity = tour.take_in(file, "Ada", LESSON, PAGES)
    assert tour.take_in(file, "Ada", LESSON, PAGES) == identity == LESSON.id
    assert tour.take_in(file, "Ada", NEWCOMER, PAGES) == FIRST
    assert tour.paths(Learners(file.path), "Ada", PAGES) == {FIRST: NEWCOMER, identity: LESSON}
    assert tour.paths(file, "Bo", PAGES) == {FIRST: NEWCOMER}
    tour.visit(file, "Ada", identity, 1)
    assert tour.last(file, "Ada") == identity
    import_profile(file, export_profile(file, "Ada"), "Twin")
    assert tour.progress(file, "Twin", identity) == Progress(1, frozenset({1}))
    assert identity in tour.paths(file, "Twin", PAGES)
    tour.let_go(file, "Ada", identity, PAGES)
    assert tour.paths(file, "Ada", PAGES) == {FIRST: NEWCOMER}
    assert tour.progress(file, "Ada", identity) == Progress()


def test_what_cannot_be_read_is_said(file: Learners) -> None:
    file.keep("Ada", "place.newcomer", {"at": "far"})
    with pytest.raises(BadInput, match="Ada's place"):
        tour.progress(file, "Ada", FIRST)


def test_a_draft_survives_a_restart_and_a_broken_one_is_not_kept(file: Learners) -> None:
    assert tour.load_draft(file, "Ada", PAGES) == Tour(tour.UNTITLED, ())
    tour.save_draft(file, "Ada", Tour("Empty", ()), PAGES)
    assert tour.load_draft(Learners(file.path), "Ada", PAGES) == Tour("Empty", ())
    tour.save_draft(file, "Ada", LESSON, PAGES)
    with pytest.raises(BadInput, match="no page called 'gone'"):
        tour.save_draft(file, "Ada", tour.added_to_draft(LESSON, Stop(page="gone", title="x")), PAGES)
    assert tour.load_draft(Learners(file.path), "Ada", PAGES) == LESSON
    tour.discard_draft(file, "Ada")
    assert tour.load_draft(file, "Ada", PAGES) == Tour(tour.UNTITLED, ())


def test_a_stop_whose_control_was_moved_is_remembered_as_done(file: Learners) -> None:
    tour.do(file, "Ada", FIRST, 1)
    tour.visit(file, "Ada", FIRST, 2)
    assert tour.progress(file, "Ada", FIRST) == Progress(2, frozenset({1, 2}), frozenset({1}))
    assert tour.progress(file, "Bo", FIRST).done == frozenset()
