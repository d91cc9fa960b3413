"""The contract of every discovery: its method has at least three, each with a known source and one thing to see."""

from __future__ import annotations

import re
import string

import pytest

from peft_lab.core import references
from peft_lab.engine import published
from peft_lab.interview import since
from peft_lab.interview.since import Discovery, seen
from peft_lab.methods import all_methods
from peft_lab.studies.experiments import all_experiments

METHODS = tuple(slug for slug in all_methods() if slug != "full")
DISCOVERIES = since.all_discoveries()
LEAST = 3
NAMES = re.compile(r"`[^`]*`|GSM8K|OFTv2|\b4-bit\b")  # with a digit in them
KNOWN = {value for name, value in vars(references).items() if name.isupper() and isinstance(value, str)}


def named(discovery: Discovery) -> str:
    return discovery.id


@pytest.mark.parametrize("slug", METHODS)
def test_every_method_has_some(slug: str) -> None:
    found = since.of_method(slug)
    assert len(found) >= LEAST
    assert all(discovery.id.startswith(f"{slug}-since-") for discovery in found)


def test_ids_are_unique() -> None:
    assert len({discovery.id for discovery in DISCOVERIES}) == len(DISCOVERIES)


@pytest.mark.parametrize("discovery", DISCOVERIES, ids=named)
def test_its_source_is_known_and_later_than_the_papers(discovery: Discovery) -> None:
    assert discovery.source in KNOWN
    assert 2024 <= discovery.year <= 2026
    assert discovery.place and discovery.version
    named_year = re.search(r"\b20\d\d\b", discovery.source)
    assert bool(named_year) != bool(discovery.dated), (
        "a year stands in the reference or beside it, not in both"
    )
    assert discovery.address.startswith("https://") or discovery.source == references.PEFT


@pytest.mark.parametrize("discovery", DISCOVERIES, ids=named)
def test_no_figure_is_typed(discovery: Discovery) -> None:
    for text in (discovery.title, discovery.found, discovery.follows):
        assert not re.search(r"\d", NAMES.sub("", text)), "a figure comes from figures={...}"
    asked = {name for _, name, _, _ in string.Formatter().parse(discovery.found) if name}
    assert asked == set(discovery.figures)
    assert "{" not in discovery.said
    assert all(re.search(r"\d", write()) for write in discovery.figures.values())


@pytest.mark.parametrize("discovery", DISCOVERIES, ids=named)
def test_there_is_one_thing_to_see_it_by(discovery: Discovery) -> None:
    given = [bool(discovery.experiment), bool(discovery.rows), discovery.opens is not None]
    assert sum(given) == 1
    if discovery.experiment:
        assert discovery.experiment in {experiment.id for experiment in all_experiments()}
    if discovery.expects is not None:
        assert discovery.experiment in seen(), "python -m tools.see_since runs it and keeps what it showed"
    assert set(discovery.rows) <= set(published.rows())


@pytest.mark.parametrize("discovery", DISCOVERIES, ids=named)
def test_it_is_told_in_sentences(discovery: Discovery) -> None:
    assert discovery.found.endswith(".") and discovery.follows.endswith(".")
    assert not discovery.title.endswith(".")


def test_what_is_kept_belongs_to_a_discovery() -> None:
    assert set(seen()) <= {discovery.experiment for discovery in DISCOVERIES}
    assert all(found.text.endswith(".") and found.holds is not None for found in seen().values())


def test_a_method_without_any_has_an_empty_list() -> None:
    assert since.of_method("full") == ()
