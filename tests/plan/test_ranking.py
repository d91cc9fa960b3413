"""The order of plans, and what is left to change in them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from peft_lab.plan import ranking
from peft_lab.plan.ranking import Candidate, Planned
from peft_lab.plan.verdict import UNCHECKED, Change
from peft_lab.plan.wanted import Wanted


def test_no_plan_is_told_to_change_into_what_was_tried_and_has_no_room() -> None:
    plan: Any = SimpleNamespace(headroom=0.2)
    less, cards = Change(UNCHECKED, 0.7), Change("Connect the cards with NVLink", 0.6)

    def changes(*found: Planned) -> list[Change | None]:
        return [one.change for one in ranking.rank(Wanted(), found)]

    checked = Planned(Candidate("lora", "none", True), plan, change=less)
    full = Planned(Candidate("lora", "none", False), None)
    assert changes(checked, full) == [None]
    assert changes(checked) == [less], "that was not tried yet"
    assert changes(checked, Planned(Candidate("lora", "ddp", False), None)) == [less]
    assert changes(Planned(Candidate("lora", "none", True), plan, change=cards), full) == [cards]
