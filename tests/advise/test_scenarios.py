"""Situations with what an expert would and would not take, agreed on from the literature before the tree was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_lab.advise.recipes.rules import OBJECTIVES
from peft_lab.advise.recommend import Recommendation, recommend
from peft_lab.advise.room import room_of
from peft_lab.advise.situation import Situation, parse
from peft_lab.advise.tree import NOTHING, UNTRAINED
from peft_lab.core import references as src
from peft_lab.engine.devices import HEADROOM
from peft_lab.methods import all_methods

SCENARIOS = yaml.safe_load((Path(__file__).parent / "scenarios.yaml").read_text("utf-8"))
by_name = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
#: What every plan of a training names.
FIELDS = {
    "learning_rate", "epochs", "batch", "accumulation", "optimizer", "dtype", "quantization", "checkpointing",
    "sharding",
}  # fmt: skip


def read(scenario: dict[str, Any]) -> Situation:
    return parse([(key, str(value)) for key, value in scenario["answers"].items()])[0]


def test_there_are_enough_of_them_and_they_are_about_everything() -> None:
    assert len(SCENARIOS) >= 60
    known = {*all_methods(), *UNTRAINED}
    for scenario in SCENARIOS:
        accept, reject = set(scenario["accept"]), set(scenario["reject"])
        assert accept and reject and not accept & reject, scenario["name"]
        assert accept | reject <= known
        assert all(hasattr(src, name) for name in scenario["source"]), scenario["source"]
    assert {read(scenario).purpose for scenario in SCENARIOS} == set(OBJECTIVES)
    assert len({scenario["name"] for scenario in SCENARIOS}) == len(SCENARIOS)


def _check(scenario: dict[str, Any]) -> None:
    """A method that an expert accepts, and a plan that fits with room to spare and names its sources."""
    situation = read(scenario)
    found = recommend(situation, room_of(situation))
    assert found.method in scenario["accept"]
    assert found.method not in scenario["reject"]
    assert scenario.get("unknown", "") in " ".join(map(str, found.unknown))
    for why in found.why:
        assert why.text.endswith(".") and "{" not in why.text and why.source
    if found.method in UNTRAINED:
        assert found.plan is None
        assert found.method != NOTHING or found.nearest
        return
    _check_plan(found, scenario.get("plan", {}))
    assert found.runner_up in scenario.get("second", [found.runner_up])
    assert found.runner_up not in scenario.get("not_second", [])
    assert situation.storage is None or found.plan.stored_bytes <= situation.storage  # type: ignore[union-attr]


def _check_plan(found: Recommendation, wanted: dict[str, Any]) -> None:
    plan = found.plan
    assert plan is not None and found.unknown
    assert plan.headroom >= HEADROOM
    assert set(plan.settings) >= FIELDS | set(plan.values)
    assert all(setting.source and setting.kind for setting in plan.settings.values())
    rate = plan.settings["learning_rate"]
    assert rate.band is None or rate.band[0] <= rate.value <= rate.band[1]
    assert (rate.band is not None and len(rate.agreeing) >= 2) or rate.why, (
        "in the bands of two sources, or why not"
    )
    for name, limits in wanted.items():
        value = plan.settings[name].value
        value = value[0] if isinstance(value, tuple) and len(value) == 1 else value
        if isinstance(limits, list) and all(isinstance(limit, int | float) for limit in limits):
            assert limits[0] <= value <= limits[1], name
        else:
            assert value in (limits if isinstance(limits, list) else [limits]), name


@pytest.mark.usefixtures("kept_simulations")
@by_name
def test_an_expert_would_take_it(scenario: dict[str, Any]) -> None:
    _check(scenario)


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize("scenario", SCENARIOS[4::12], ids=lambda scenario: scenario["name"])
def test_the_simulation_still_says_the_same(scenario: dict[str, Any]) -> None:
    _check(scenario)
