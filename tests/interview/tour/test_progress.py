"""The place on a path is kept with the learner: over restarts, per learner, in an export."""

from __future__ import annotations

from pathlib import Path as File

import pytest

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.learners.transfer import export_profile, import_profile
from peft_lab.interview.tour import progress
from peft_lab.interview.tour.path import Stop, Tour, newcomer
from peft_lab.interview.tour.progress import FIRST, Progress

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
    assert progress.progress(file, "Ada", FIRST) == Progress()
    for index in (0, 1, 4, 1):
        progress.visit(file, "Ada", FIRST, index)
    again = Learners(file.path)
    assert progress.progress(again, "Ada", FIRST) == Progress(1, frozenset({0, 1, 4}))
    assert progress.progress(again, "Bo", FIRST) == Progress()
    assert (progress.last(again, "Ada"), progress.last(again, "Bo")) == (FIRST, FIRST)
    progress.start_over(again, "Ada", FIRST)
    assert progress.progress(again, "Ada", FIRST) == Progress()
    with pytest.raises(UnknownName):
        progress.visit(file, "Cy", FIRST, 0)


def test_a_teachers_path_is_taken_in_once_and_let_go(file: Learners) -> None:
    identity = progress.take_in(file, "Ada", LESSON, PAGES)
    assert progress.take_in(file, "Ada", LESSON, PAGES) == identity == LESSON.id
    assert progress.take_in(file, "Ada", NEWCOMER, PAGES) == FIRST
    assert progress.paths(Learners(file.path), "Ada", PAGES) == {FIRST: NEWCOMER, identity: LESSON}
    assert progress.paths(file, "Bo", PAGES) == {FIRST: NEWCOMER}
    progress.visit(file, "Ada", identity, 1)
    assert progress.last(file, "Ada") == identity
    import_profile(file, export_profile(file, "Ada"), "Twin")
    assert progress.progress(file, "Twin", identity) == Progress(1, frozenset({1}))
    assert identity in progress.paths(file, "Twin", PAGES)
    progress.let_go(file, "Ada", identity, PAGES)
    assert progress.paths(file, "Ada", PAGES) == {FIRST: NEWCOMER}
    assert progress.progress(file, "Ada", identity) == Progress()


def test_what_cannot_be_read_is_said(file: Learners) -> None:
    file.keep("Ada", "place.newcomer", {"at": "far"})
    with pytest.raises(BadInput, match="Ada's place"):
        progress.progress(file, "Ada", FIRST)


def test_a_draft_survives_a_restart_and_a_broken_one_is_not_kept(file: Learners) -> None:
    assert progress.load_draft(file, "Ada", PAGES) == Tour(progress.UNTITLED, ())
    progress.save_draft(file, "Ada", Tour("Empty", ()), PAGES)
    assert progress.load_draft(Learners(file.path), "Ada", PAGES) == Tour("Empty", ())
    progress.save_draft(file, "Ada", LESSON, PAGES)
    with pytest.raises(BadInput, match="no page called 'gone'"):
        progress.save_draft(file, "Ada", progress.added_to_draft(LESSON, Stop(page="gone", title="x")), PAGES)
    assert progress.load_draft(Learners(file.path), "Ada", PAGES) == LESSON
    progress.discard_draft(file, "Ada")
    assert progress.load_draft(file, "Ada", PAGES) == Tour(progress.UNTITLED, ())


def test_a_stop_whose_control_was_moved_is_remembered_as_done(file: Learners) -> None:
    progress.do(file, "Ada", FIRST, 1)
    progress.visit(file, "Ada", FIRST, 2)
    assert progress.progress(file, "Ada", FIRST) == Progress(2, frozenset({1, 2}), frozenset({1}))
    assert progress.progress(file, "Bo", FIRST).done == frozenset()
