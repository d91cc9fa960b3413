"""The order of plans, and what is left to change in them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.choose.situation import Situation
from peft_lab.choose.step import Step
from peft_lab.plan import ranking, steps
from peft_lab.plan.ranking import Candidate, Planned
from peft_lab.plan.verdict import UNCHECKED, Change, change
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


def test_no_plan_is_told_to_take_more_rows_at_once_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most that fit were looked for, up to the batch of the question: fewer than that are all that do."""
    half: Any = SimpleNamespace(update=SimpleNamespace(value=0.5))
    now: Any = SimpleNamespace(update=SimpleNamespace(value=1.0, bottleneck="launch"))
    monkeypatch.setattr(steps, "pace", lambda *_: half)
    plan: Any = SimpleNamespace(readers=1, accumulate=8, values={}, trainable=1)
    situation = Situation(model="smollm2-135m", device="rtx-4090")
    found = [
        change(situation, "lora", plan, Step(rows, False, 1), now)
        for rows in (situation.batch // 2, situation.batch)
    ]
    assert found[0] is None and found[1] is not None and found[1].text.startswith("Twice the rows")
