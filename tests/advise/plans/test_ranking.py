"""Choose, Memory and Plan are of one mind: one engine says what fits, with how many rows at once, and which way comes
first.

They agree where a question that both can be asked has

- a plan in both or in none;
- the same method first: Choose's is Plan's, as which method learns more is no matter of time, but whether the base is
  stored in 16 or in 4 bits is, and what ends by a deadline;
- the same verdict on the same step: Plan has a plan where Memory says that it fits;
- Choose's way among Plan's, with the same rows at once, passes, bytes and settings;
- no other plan of that method that keeps as much, reads as many in-batch negatives and is quicker by the estimate.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.advise import simulating
from peft_lab.advise.plan import StepPlan
from peft_lab.advise.plans import ranking, steps
from peft_lab.advise.plans.ranking import Candidate, Planned
from peft_lab.advise.plans.steps import UNCHECKED, Change, Course, Pace, change
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.recipes.rules import OBJECTIVES, OF_ENCODERS
from peft_lab.advise.recommend import Recommendation, decide, recommend
from peft_lab.advise.room import Room, room_of, training_seconds
from peft_lab.advise.simulating import OFFLOAD, TENSOR, Step
from peft_lab.advise.situation import Situation
from peft_lab.advise.tree import UNTRAINED
from peft_lab.engine.timing.estimate import Seconds
from peft_lab.models.catalogue import readers_of_text
from tests.advise import standin

CARDS = ("t4", "rtx-3060", "rtx-4090", "a100-40", "a100-80", "h100", "h200")
#: Of what Choose says by counting a plan of Plan's may take as much less, where the plan is traced.
TRACED = 0.75


def drawn(seed: int, models: tuple[str, ...] = ()) -> Wanted:
    """A question such as somebody types, that both pages can be asked."""
    chance = random.Random(seed)
    model = chance.choice(models or tuple(readers_of_text()))
    shape = readers_of_text()[model].shape
    known = OF_ENCODERS if shape.kind == "encoder" else tuple(OBJECTIVES)
    tokens = chance.choice((40, 128, 400, 512, 1500, 4000))
    seq = min(1 << (tokens - 1).bit_length(), shape.max_positions or 4096)
    devices = chance.choice((1, 1, 2, 4, 8))
    return Wanted(
        model, chance.choice(("", *known)), chance.choice((200, 5_000, 20_000, 300_000)), min(tokens, seq), seq,
        chance.choice(CARDS), devices, chance.choice(("pcie", "nvlink")),
        deadline=chance.choice(("", "", "", "0.5", "2", "12")),
    )  # fmt: skip


def counted(
    situation: Situation, method: str, values: Mapping[str, Any], step: Step, accumulate: int, _: int
) -> Pace | None:
    """The time of an update by the estimate that Choose has."""
    tokens = step.batch * situation.seq * situation.devices * accumulate
    found = training_seconds(situation, method, values, step, situation.devices, tokens)
    if found is None or step.sharding == TENSOR:
        return None
    low, high = found
    none = Seconds(0.0, 0.0, 0.0, "compute", {"compute": 0.0})
    return Pace(Seconds(low, (low + high) / 2, high, "compute", {"compute": high}), accumulate, 0.0, none)


def fits_as_memory_says(wanted: Wanted, found: Planned) -> None:
    """Check that Memory's verdict on the same step is Plan's: on one device, where Memory has it too."""
    device = wanted.situation().hardware
    if found.plan is not None:
        assert device.holds(found.plan.needed_bytes, found.plan.split)
    elif found.least and found.candidate.sharding == "none":
        assert not device.holds(found.least)


def ways(found: Planned) -> tuple[str, bool, bool]:
    assert found.plan is not None
    return found.plan.sharding, found.plan.checkpointing, found.plan.offload


def what_is_equal(plan: StepPlan) -> dict[str, Any]:
    """All of a plan but what only one of the pages settles: packing, steps without held-out rows, and seconds."""
    settings = {name: one.value for name, one in plan.settings.items() if name not in ("steps", "packing")}
    return {
        "batch": plan.batch, "accumulate": plan.accumulate, "needed": plan.needed_bytes, "host": plan.host_bytes,
        "memory": plan.memory_bytes, "values": dict(plan.values), "settings": settings,
    }  # fmt: skip


def agree(wanted: Wanted, advised: Recommendation, found: list[Planned], less: float) -> str:
    """Check it all. Returns how it ended."""
    ranked = ranking.rank(wanted, found)
    assert (advised.method in UNTRAINED) == (not ranked), "what fits is answered once"
    if not ranked:
        return "nothing"
    assert advised.plan is not None
    first = ranked[0]
    assert first.candidate.method == advised.method and first.advised
    same = [one for one in ranked if one.candidate.method == advised.method]
    here = (advised.plan.sharding, advised.plan.checkpointing, advised.plan.offload)
    mine = next(one for one in same if ways(one) == here)
    assert mine.plan is not None and what_is_equal(mine.plan) == what_is_equal(advised.plan)
    for one in same:
        assert one.plan is not None
        if one.plan.sharding == TENSOR or one.plan.sharding.endswith(OFFLOAD):
            continue  # Choose takes it where nothing else fits
        assert (one.rounds, -one.negatives) >= (mine.rounds, -mine.negatives)
        if (one.rounds, one.negatives) == (mine.rounds, mine.negatives) and one.hours and mine.hours:
            assert one.hours[1] >= less * mine.hours[1]
    return here[0]


@pytest.mark.sampled(30)
@pytest.mark.parametrize("block", range(60))
def test_choose_and_plan_agree(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 situations, with what stands for the simulation and Choose's estimate in the place of the trace."""
    monkeypatch.setattr(steps, "step_pace", counted)
    monkeypatch.setattr(ranking, "change", lambda *_: None)
    for seed in range(5 * block, 5 * block + 5):
        monkeypatch.setattr(standin, "ACTIVATIONS", (standin.ACTIVATIONS, standin.LIKE_A_LLAMA)[seed % 2])
        wanted = drawn(seed).check()
        situation = wanted.situation()
        place = Room(situation, standin.ask)
        monkeypatch.setattr(ranking, "room_for", lambda _, asked=place: asked)
        found = [ranking.evaluate(asdict(wanted), asdict(one)) for one in ranking.candidates(wanted)]
        for one in found:
            fits_as_memory_says(wanted, one)
        agree(wanted, recommend(situation, place), found, 0.9)  # an update's rows are rounded to whole passes


def test_the_situations_end_in_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn is one device, several, what fits and what does not."""
    ends = set()
    for seed in range(60):
        situation = drawn(seed).check().situation()
        plan = recommend(situation, Room(situation, standin.ask)).plan
        ends.add("nothing" if plan is None else plan.sharding)
    assert {"nothing", "none", "ddp", "fsdp2"} <= ends


DRAWN = ("smollm2-135m", "llama-3.2-1b", "bert-base")


@pytest.mark.rest
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("llama-3.1-8b", "sft", 10_000, 512, 512, "rtx-4090", 2),
        *(drawn(seed, DRAWN) for seed in (403, 400, 401)),
    ],
    ids=lambda wanted: f"{wanted.model} on {wanted.devices} {wanted.gpu}",
)
def test_they_agree_as_simulated_and_traced(wanted: Wanted) -> None:
    """Two RTX 4090 and 8B among them, of which Choose said LoRA and Plan QLoRA."""
    situation = wanted.check().situation()
    found = [ranking.evaluate(asdict(wanted), asdict(one)) for one in ranking.candidates(wanted)]
    agree(wanted, recommend(situation, room_of(situation)), found, TRACED)


@pytest.mark.parametrize(
    ("wanted", "batch"),
    [
        (Wanted("llama-3.1-70b", "sft", 10_000, 512, 1024, "h100", 8, "nvlink"), 4),
        (Wanted("bert-base", "embedding", 500_000, 128, 128, "h100"), 16),
    ],
)
def test_rows_at_once_are_searched_up_to_an_update(
    wanted: Wanted, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were taken from the form, whose usual was four over all devices: one on each of eight, where four fit."""
    monkeypatch.setattr(steps, "step_pace", counted)
    monkeypatch.setattr(ranking, "change", lambda *_: None)
    situation = wanted.check().situation()
    place = Room(situation, standin.always(10**9))
    monkeypatch.setattr(ranking, "room_for", lambda _: place)
    advised = recommend(situation, place).plan
    found = [ranking.evaluate(asdict(wanted), asdict(one)) for one in ranking.candidates(wanted)]
    first = ranking.rank(wanted, found)[0].plan
    for plan in (advised, first):
        assert plan is not None and plan.batch >= batch and plan.accumulate == 1


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
