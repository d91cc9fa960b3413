"""The order of plans, and what is left to change in them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.advise import simulating
from peft_lab.advise.plans import ranking, steps
from peft_lab.advise.plans.ranking import Candidate, Planned
from peft_lab.advise.plans.steps import UNCHECKED, Change, Course, change
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.recommend import decide
from peft_lab.advise.simulating import Step
from peft_lab.advise.situation import Situation
from peft_lab.engine.timing.estimate import Seconds


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
    """The most that fit were looked for, up to a device's share of an update."""
    half: Any = SimpleNamespace(update=SimpleNamespace(value=0.5))
    now: Any = SimpleNamespace(update=SimpleNamespace(value=1.0, bottleneck="launch"))
    monkeypatch.setattr(steps, "step_pace", lambda *_: half)
    plan: Any = SimpleNamespace(readers=1, accumulate=8, values={}, trainable=1)
    situation = Situation(model="smollm2-135m", device="rtx-4090")
    assert [change(situation, "lora", plan, Step(rows, False, needed=1), now) for rows in (2, 4)] == [
        None,
        None,
    ]


def test_what_choose_recommends_comes_first_and_vectors_by_their_negatives() -> None:
    """Less time puts no other method first, nor fewer in-batch negatives; a deadline decides within the method."""
    plan: Any = SimpleNamespace(headroom=0.2, devices=1, remembered="bfloat16", offload=False)

    def made(method: str, hours: float, **more: Any) -> Planned:
        seconds = Seconds(3600 * hours, 3600 * hours, 3600 * hours, "compute", {"compute": 1.0})
        course = Course(1, 0, 1, 1, 0, 0)
        none = Seconds(0.0, 0.0, 0.0, "compute", {"compute": 0.0})
        return Planned(
            Candidate(method, "ddp", False), plan, course=course, update=seconds, looking=none, **more
        )

    slow, quick = made("lora", 2.0, advised=True), made("qlora", 1.0)
    assert ranking.rank(Wanted(), [quick, slow]) == [slow, quick]
    soon = made("lora", 1.0, advised=True, quality=slow.quality, negatives=0)
    assert ranking.rank(Wanted(deadline="1.5"), [slow, quick, soon])[0] is soon
    assert ranking.rank(Wanted(deadline="1.5"), [quick, slow]) == [slow, quick], (
        "Choose has seen the deadline"
    )
    many = made("lora", 3.0, advised=True, negatives=31)
    assert ranking.rank(Wanted(), [slow, quick, many])[0] is many


@pytest.mark.usefixtures("kept_simulations")
@pytest.mark.parametrize(("model", "method"), [(Wanted().model, "lora"), ("llama-3.1-8b", "qlora")])
def test_the_form_with_two_cards_is_decided_without_a_simulation(
    model: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"not shipped: {arguments}; run tools.refresh_choices")

    monkeypatch.setattr(simulating, "simulate_sharded", refuse)
    simulating._split.cache_clear()
    wanted = Wanted(model, devices=2).check()
    assert decide(wanted.situation(), ranking.room_for(wanted), quick=True).advice.method == method
