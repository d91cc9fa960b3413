"""Situations whose method was agreed on from the literature before the tree was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peft_lab import references as src
from peft_lab.choose.advice import ADVICE, NOTHING, PROMPTING
from peft_lab.choose.recommend import Recommendation, recommend
from peft_lab.choose.room import room_of
from peft_lab.choose.situation import parse

SCENARIOS = json.loads((Path(__file__).parent / "scenarios.json").read_text("utf-8"))
by_name = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])


def found(scenario: dict[str, Any]) -> Recommendation:
    situation, claims = parse(scenario["answers"].items())
    return recommend(situation, room_of(situation), claims)


def test_there_are_enough_of_them_and_every_method_occurs() -> None:
    assert len(SCENARIOS) >= 40
    assert {s["method"] for s in SCENARIOS} == {advice.method for advice in ADVICE.values()}


def _check(scenario: dict[str, Any]) -> None:
    """The expected method, every reason that the literature gives by its reference, and a step that fits."""
    recommended = found(scenario)
    assert recommended.method == scenario["method"]
    kinds = {why.kind.upper() for why in recommended.why}
    sources = " | ".join(why.source for why in recommended.why)
    for because in scenario["because"]:
        assert because in kinds or getattr(src, because, "no such source") in sources, because
    for why in recommended.why:
        assert why.text.endswith(".")
        assert "{" not in why.text
        assert why.source
    if recommended.method in (PROMPTING, NOTHING):
        assert recommended.plan is None
        return
    assert recommended.plan is not None
    assert 0 < recommended.plan.needed_bytes <= recommended.plan.memory_bytes


@pytest.mark.usefixtures("kept_simulations")
@by_name
def test_the_method_is_the_expected_one(scenario: dict[str, Any]) -> None:
    _check(scenario)


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize("scenario", SCENARIOS[3::9], ids=lambda scenario: scenario["name"])
def test_the_simulation_still_says_the_same(scenario: dict[str, Any]) -> None:
    _check(scenario)
