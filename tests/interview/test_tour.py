"""Paths of stops: checked, shared and back, refused when not ours; a learner's place and a draft are kept."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.interview import tour
from peft_lab.interview.learners.schedule import Learners, export_profile, import_profile
from peft_lab.interview.tour import FIRST, Progress, Stop, Tour, fill, newcomer
from peft_lab.ui.pages import titles

NEWCOMER = newcomer()

PAGES = tuple(titles())
STOP = Stop(
    page="lora", title="Rank", settings={"r": "16", "model": "gpt2"}, read="The formula.", fixed=("r",)
)
PATH = Tour("A lesson", (STOP, Stop(page="memory", title="Memory", minutes=5)))

words = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=60)
names = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True).filter(
    lambda name: name not in ("stop", "path", "fixed", "projector")
)
stops = st.builds(
    Stop,
    page=st.sampled_from(PAGES),
    title=words.filter(str.strip),
    settings=st.dictionaries(names, words, max_size=5),
    read=words,
    move=words,
    see=words,
    minutes=st.integers(1, 60),
)
paths = st.builds(
    Tour, title=words.filter(str.strip), stops=st.lists(stops, min_size=1, max_size=6).map(tuple)
)


@settings(max_examples=40, deadline=None)
@given(paths)
def test_a_path_comes_back_as_it_was(path: Tour) -> None:
    assert path.check(PAGES) == path
    assert tour.path_from_file(tour.path_to_file(path).encode(), PAGES) == path
    assert tour.unpack_path(tour.pack_path(path), PAGES) == path
    assert tour.unpack_path(tour.pack_path(path), PAGES).id == path.id


def test_the_newcomers_path_takes_half_an_hour_and_meets_every_kind_of_page() -> None:
    assert NEWCOMER.check(PAGES)
    assert 25 <= NEWCOMER.minutes <= 35
    assert all(stop.read and stop.move and stop.see for stop in NEWCOMER.stops)
    visited = {stop.page for stop in NEWCOMER.stops}
    assert {"lora", "memory", "myths", "practice"} <= visited
    assert not any(stop.fixed for stop in NEWCOMER.stops)


def test_figures_are_those_of_the_formula() -> None:
    stop = Stop(
        page="lora",
        title="x",
        settings={"model": "llama-3.2-3b", "r": "16", "target_modules": "q_proj,v_proj"},
    )
    assert fill(stop, "from {count} to {count r=8 target_modules=q_proj}.") == "from 4,587,520 to 1,376,256."
    assert fill(stop, "no figure in $\\frac{a}{b}$") == "no figure in $\\frac{a}{b}$"
    with pytest.raises(BadInput, match="no model"):
        fill(replace(stop, settings={}), "{count}")
    for each in NEWCOMER.stops:
        for text in (each.read, each.move, each.see):
            assert "{count" not in fill(each, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"page": "lroa"}, "Did you mean 'lora'?"),
        ({"title": "  "}, "no title"),
        ({"title": "x" * 81}, "81 characters"),
        ({"read": "x" * 801}, "801 characters"),
        ({"see": "a\x00b"}, "cannot be shown"),
        ({"minutes": 0}, "1 to 60 minutes"),
        ({"settings": {"stop": "newcomer.1"}}, "not a setting of any page"),
        ({"settings": {"<b>": "1"}}, "not a setting of any page"),
        ({"settings": {"r": "8" * 301}}, "301 characters"),
        ({"settings": {f"a{n}": "" for n in range(61)}}, "at most 60"),
        ({"fixed": ("seed",)}, "'seed' is locked but has no value"),
    ],
)
def test_a_stop_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    broken = replace(PATH, stops=(STOP, replace(STOP, **change)))
    with pytest.raises(BadInput, match=r"^Stop 2: ") as caught:
        broken.check(PAGES)
    assert message in str(caught.value)


def test_a_path_has_a_title_and_some_stops() -> None:
    for stops, title, message in (
        ((), "x", "1 to 40 stops"),
        ((STOP,) * 41, "x", "not 41"),
        ((STOP,), "", "no title"),
    ):
        with pytest.raises(BadInput, match=message):
            Tour(title, stops).check(PAGES)


NO_PATHS = (
    b"",
    b"[",
    b"null",
    b"[]",
    b'{"format": "other"}',
    b'{"format": "peft-lab-path", "version": 9}',
    b"\xff",
)
PAGE = {"page": "lora", "title": "x"}
NO_STOPS: tuple[Any, ...] = (
    None, [{}], [{"page": "lora"}], [{"page": "lora", "title": 3}], ["lora"], [PAGE | {"settings": {"r": 8}}],
    [PAGE | {"settings": []}], [PAGE | {"minutes": "3"}], [PAGE | {"minutes": True}], [PAGE | {"color": "red"}],
)  # fmt: skip


def test_other_files_and_damaged_documents_are_refused() -> None:
    whole = json.loads(tour.path_to_file(PATH))
    damaged = [{**whole, "title": None}, *({**whole, "stops": stops} for stops in NO_STOPS)]
    for content in (*NO_PATHS, b"[" * 100_000, *(json.dumps(one).encode() for one in damaged)):
        with pytest.raises(BadInput):
            tour.path_from_file(content, PAGES)


def test_damaged_links_are_refused() -> None:
    good = tour.pack_path(PATH)
    bomb = base64.urlsafe_b64encode(zlib.compress(b"[" * 3_000_000)).decode()
    for text in ("", "x", good[:-4], good + "AAAA!", "é", "A" * 7000, bomb):
        with pytest.raises(BadInput, match="path"):
            tour.unpack_path(text, PAGES)


TWO_PAGES = ("home", "lora")
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
    identity = tour.take_in(file, "Ada", LESSON, TWO_PAGES)
    assert tour.take_in(file, "Ada", LESSON, TWO_PAGES) == identity == LESSON.id
    assert tour.take_in(file, "Ada", NEWCOMER, TWO_PAGES) == FIRST
    assert tour.paths(Learners(file.path), "Ada", TWO_PAGES) == {FIRST: NEWCOMER, identity: LESSON}
    assert tour.paths(file, "Bo", TWO_PAGES) == {FIRST: NEWCOMER}
    tour.visit(file, "Ada", identity, 1)
    assert tour.last(file, "Ada") == identity
    import_profile(file, export_profile(file, "Ada"), "Twin")
    assert tour.progress(file, "Twin", identity) == Progress(1, frozenset({1}))
    assert identity in tour.paths(file, "Twin", TWO_PAGES)
    tour.let_go(file, "Ada", identity, TWO_PAGES)
    assert tour.paths(file, "Ada", TWO_PAGES) == {FIRST: NEWCOMER}
    assert tour.progress(file, "Ada", identity) == Progress()


def test_what_cannot_be_read_is_said(file: Learners) -> None:
    file.keep("Ada", "place.newcomer", {"at": "far"})
    with pytest.raises(BadInput, match="Ada's place"):
        tour.progress(file, "Ada", FIRST)


def test_a_draft_survives_a_restart_and_a_broken_one_is_not_kept(file: Learners) -> None:
    assert tour.load_draft(file, "Ada", TWO_PAGES) == Tour(tour.UNTITLED, ())
    tour.save_draft(file, "Ada", Tour("Empty", ()), TWO_PAGES)
    assert tour.load_draft(Learners(file.path), "Ada", TWO_PAGES) == Tour("Empty", ())
    tour.save_draft(file, "Ada", LESSON, TWO_PAGES)
    with pytest.raises(BadInput, match="no page called 'gone'"):
        tour.save_draft(
            file, "Ada", replace(LESSON, stops=(*LESSON.stops, Stop(page="gone", title="x"))), TWO_PAGES
        )
    assert tour.load_draft(Learners(file.path), "Ada", TWO_PAGES) == LESSON


def test_a_stop_whose_control_was_moved_is_remembered_as_done(file: Learners) -> None:
    tour.visit(file, "Ada", FIRST, 1, done=True)
    tour.visit(file, "Ada", FIRST, 2)
    assert tour.progress(file, "Ada", FIRST) == Progress(2, frozenset({1, 2}), frozenset({1}))
    assert tour.progress(file, "Bo", FIRST).done == frozenset()
