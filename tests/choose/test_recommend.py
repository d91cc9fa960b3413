"""Whatever the situation: what is recommended can be, and what would flip it does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from peft_lab.choose.advice import NOTHING, PROMPTING
from peft_lab.choose.flips import flips
from peft_lab.choose.recommend import recommend
from peft_lab.choose.situation import Situation, stored_bytes
from peft_lab.errors import BadInput
from peft_lab.memory.devices import devices
from peft_lab.methods import get_method
from peft_lab.models import catalogue
from tests.choose import standin

situations = some.builds(
    Situation,
    prompting=some.sampled_from(["no", "no", "no", "yes"]),
    model=some.sampled_from(list(catalogue())),
    device=some.sampled_from([name for name in devices() if name != "this-machine"]),
    batch=some.integers(1, 64),
    seq=some.sampled_from([64, 256, 512]),
    tasks=some.sampled_from([1, 1, 2, 50]),
    output=some.sampled_from(["", "classification", "generation"]),
    rows=some.sampled_from([40, 999, 1000, 99_999, 100_000, 10**7]),
    latency=some.sampled_from([None, 0.0, 20.0, 21.0]),
    storage=some.sampled_from([None, 1000, 30_000, 300_000, 3_000_000, 10**9]),
)


def possible(situation: Situation) -> bool:
    try:
        situation.check()
    except BadInput:
        return False
    return True


@given(situations.filter(possible))
@settings(max_examples=100, deadline=None)
def test_what_is_recommended_can_be(situation: Situation) -> None:
    found = recommend(situation, standin.room(situation))
    assert found.why
    assert found.path[0].question == "prompting"
    assert found.runner_up != found.method or "on" in found.runner_up_text
    if found.plan is None:
        assert found.method in (PROMPTING, NOTHING)
        return
    plan, shape = found.plan, situation.shape
    assert plan.needed_bytes <= plan.memory_bytes
    needed = standin.ask(situation)(found.method, plan.values, plan.batch, plan.checkpointing)
    assert needed == plan.needed_bytes
    assert plan.batch * plan.accumulate >= situation.batch
    assert situation.storage is None or plan.stored_bytes <= situation.storage
    assert plan.stored_bytes == stored_bytes(shape, found.method, plan.values)
    assert all(problem.level != "error" for problem in get_method(found.method).problems(shape, plan.values))
    if situation.latency == 0 and situation.tasks > 1 and not found.overruled:
        assert found.method in ("bitfit", "ia3", "qlora"), "nothing may be added to a request"


@given(situations.filter(possible))
@settings(max_examples=30, deadline=None)
def test_what_would_flip_it_does(situation: Situation) -> None:
    room = standin.room(situation)
    found = recommend(situation, room)
    changes = flips(situation, room, found)
    for flip in changes:
        assert flip.method != found.method
        if flip.told:
            then = replace(situation, **flip.told)
            assert recommend(then, standin.room(then)).method == flip.method


def test_memory_flips_at_the_byte() -> None:
    situation = Situation()
    room = standin.room(situation)
    found = recommend(situation, room)
    change = next(flip for flip in flips(situation, room, found) if flip.question == "base")
    edge = room.least("lora")
    assert recommend(situation, room.with_memory(edge - 1)).method == change.method == "qlora"
    assert recommend(situation, room.with_memory(edge)).method != change.method


def test_the_simulation_overrules_the_tree() -> None:
    """IA³ needs more than LoRA: where LoRA just fits the tree's IA³ has to give way, and the trace says so."""
    situation = Situation(rows=50)

    def ask(_: Situation) -> object:
        def needed(method: str, values: object, batch: int, checkpointing: bool) -> int:
            return {"ia3": 30, "lora": 20}.get(method, 25) * 10**9

        return needed

    from peft_lab.choose.room import Room

    found = recommend(situation, Room(situation, ask))  # type: ignore[arg-type]
    assert found.method == "lora"
    assert found.overruled[0].text == "IA³: even one row needs 30.0 GB."
    assert found.overruled[0].kind == "simulated"
    assert found.path[-1].label == "Few"


def test_nothing_fits_the_room_for_a_task() -> None:
    found = recommend(Situation(storage=10, tasks=2), standin.room(Situation(storage=10, tasks=2)))
    assert found.method == NOTHING
    assert any("are allowed" in why.text for why in found.why)


@pytest.mark.parametrize(
    ("change", "question"),
    [({"rows": 999}, "rows"), ({"tasks": 2}, "tasks"), ({"storage": 1_500_000}, "storage")],
)
def test_a_flip_names_the_answer_that_changed(change: dict[str, int], question: str) -> None:
    start = Situation()
    room = standin.room(start)
    found = recommend(start, room)
    assert question in {flip.question for flip in flips(start, room, found)}
    assert recommend(replace(start, **change), room).method != found.method
