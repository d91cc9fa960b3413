"""What a sweep says of a rule."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.recipes.recipe import all_rules
from peft_lab.recipes.replications import Verdict, read, replicated, replications

RULE = "ten-times-full"


def outcome(low: float, value: float, high: float) -> dict[str, Any]:
    said = {
        "low": low,
        "value": value,
        "high": high,
        "expected": [5, 20],
        "unit": "times",
        "runs": 90,
        "note": "ratio",
    }
    return {"rules": {RULE: said}}


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((6.0, 9.0, 14.0), Verdict.SEEN),
        ((5.0, 9.0, 20.0), Verdict.SEEN),
        ((1.0, 2.0, 4.9), Verdict.NOT_SEEN),
        ((20.1, 25.0, 30.0), Verdict.NOT_SEEN),
        ((4.0, 9.0, 14.0), Verdict.OPEN),
        ((9.0, 14.0, 21.0), Verdict.OPEN),
    ],
)
def test_a_verdict_follows_from_the_interval(interval: tuple[float, float, float], verdict: Verdict) -> None:
    assert read(outcome(*interval))[RULE].verdict is verdict


def test_without_a_sweep_only_what_cannot_be_tested_is_known() -> None:
    found = read({})
    assert {one.verdict for one in found.values()} == {Verdict.NOT_TESTABLE}
    assert set(found) == {rule.id for rule in all_rules() if rule.untestable}
    assert RULE not in found


def test_a_sweep_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="does not lie between"):
        read(outcome(9, 6, 14))
    with pytest.raises(ValueError, match="no rule that can be tested"):
        read({"rules": {"qlora-rates": outcome(6, 9, 14)["rules"][RULE]}})
    with pytest.raises(ValueError, match="no rule that can be tested"):
        read({"rules": {"hearsay": outcome(6, 9, 14)["rules"][RULE]}})


def test_the_shipped_one_can_be_read_and_shown() -> None:
    for name in replications():
        assert replicated(name).startswith(replications()[name].verdict)
    assert replicated("qlora-rates") == "not testable here: needs a model of billions of parameters"
