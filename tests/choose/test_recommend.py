"""Whatever the situation: what is recommended can be, and what would flip it does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from peft_lab.choose.advice import ADVICE, NOTHING, PROMPTING
from peft_lab.choose.cited import ADAPTER_LATENCY, PROMPT_SCALE
from peft_lab.choose.counted import answers
from peft_lab.choose.flips import flips
from peft_lab.choose.recommend import Why, _step, recommend
from peft_lab.choose.room import Needed, Room, Step
from peft_lab.choose.situation import Situation, stored_bytes
from peft_lab.choose.tree import FEW_ROWS
from peft_lab.choose.words import smaller_model
from peft_lab.errors import BadInput
from peft_lab.memory.devices import devices
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue
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
    if situation.latency is not None and situation.latency < ADAPTER_LATENCY.value:
        assert found.method in ("bitfit", "ia3", "qlora", "lora", "full"), "nothing may be added to a request"
        if situation.tasks > 1 and not found.overruled:
            assert found.method in ("bitfit", "ia3", "qlora")


@given(situations.filter(possible))
@settings(max_examples=100, deadline=None)
def test_nothing_is_possible_only_where_nothing_is(situation: Situation) -> None:
    """No false alarm: where the tree gives up for want of room, the smallest prompt and vectors do not fit either."""
    room = standin.room(situation)
    found = recommend(situation, room)
    if found.advice != "no-way" or room.base() != "sixteen":
        return
    for name in ("prompt-short", "ia3-least", "lora-small"):
        assert not isinstance(_step(situation, room, ADVICE[name]), Step), name


@given(situations.filter(possible))
@settings(max_examples=60, deadline=None)
def test_every_reason_is_one_here(situation: Situation) -> None:
    """Reasons that depend on an answer are given where it is so; none of them says the opposite of the path."""
    room = standin.room(situation)
    found = recommend(situation, room)
    texts = " ".join(why.text for why in found.why)
    large = situation.shape.total >= PROMPT_SCALE.value
    if found.method == "prompt":
        assert ("comes near full" in texts) == (large and found.advice == "prompt")
        assert ("stays behind full" in texts) == (not large)
    if found.method == "ia3" and "multiplied into the weights" in texts:
        assert situation.tasks == 1
    if "Made for few examples" in texts:
        assert situation.rows < FEW_ROWS
    if "has no biases throughout" in texts:
        assert answers(situation.shape)["biases"] == "no"
    if "Full fine-tuning needs" in texts:
        assert room.full() == "no"


@pytest.mark.parametrize(
    ("given_answers", "method", "against"),
    [
        ({"output": "classification", "storage": 250_000, "latency": 0.0}, "ia3", "virtual tokens lengthen"),
        ({"storage": 200_000, "latency": 0.0}, "ia3", "virtual tokens lengthen"),
        ({"storage": 200_000}, "prompt", "it stores"),
        ({"rows": 500, "storage": 200_000}, "prompt", "it stores"),
        ({"model": "bert-base", "rows": 300, "storage": 50_000, "seq": 128}, "prompt", "it stores"),
        ({"model": "bert-base", "rows": 300, "storage": 50_000}, "ia3", "positions"),
        ({"rows": 200_000, "storage": 250_000}, "prompt", "it stores"),
        ({"model": "t5-base", "storage": 200_000, "latency": 0.0}, "ia3", "virtual tokens lengthen"),
    ],
)
def test_little_room_and_no_time_are_both_heard(
    given_answers: dict[str, Any], method: str, against: str
) -> None:
    situation = Situation(**given_answers)
    found = recommend(situation, standin.room(situation))
    assert found.method == method
    assert any(against in why.text for why in found.overruled)


def test_adapters_give_way_where_no_request_may_take_longer() -> None:
    """No leaf under that answer has adapters; what falls back on them would be refused by the published latency."""
    situation = Situation(latency=0.0)
    found = _step(situation, standin.room(situation), ADVICE["adapters"])
    assert isinstance(found, Why)
    assert found.kind == "cited"
    assert str(ADAPTER_LATENCY) in found.text


def test_where_many_rows_are_an_encoder_decoder_is_tuned_in_full() -> None:
    situation = Situation(model="t5-base", rows=1_000_000)
    assert recommend(situation, standin.room(situation)).method == "full"
    small = replace(situation, device="2GB", batch=1, seq=64)
    room = standin.room(small)
    found = recommend(small, room.with_memory(room.least("full") - 1))
    assert found.advice == "lora-large"


def test_what_follows_from_a_definition_has_no_badge() -> None:
    found = recommend(Situation(prompting="yes"), standin.room(Situation(prompting="yes")))
    kinds = {why.source: why.kind for why in found.why}
    assert kinds["by definition"] == ""


@given(situations.filter(possible))
@settings(max_examples=30, deadline=None)
def test_what_would_flip_it_does(situation: Situation) -> None:
    room = standin.room(situation)
    found = recommend(situation, room)
    changes = flips(situation, room, found)
    for flip in changes:
        assert flip.method != found.method
        if flip.changes:
            then = replace(situation, **flip.changes)
            assert recommend(then, standin.room(then)).method == flip.method


@given(situations.filter(possible), some.sampled_from([None, 100, 150_000, 2_000_000, 20_000_000]))
@settings(max_examples=30, deadline=None)
def test_the_room_for_a_task_flips_at_the_byte(situation: Situation, storage: int | None) -> None:
    """With one byte more, or less, than the text says nothing changes yet; and no flip leads past another."""
    here = replace(situation, storage=storage)
    room = standin.room(here)
    found = recommend(here, room)
    for flip in flips(here, room, found):
        if flip.question != "storage":
            continue
        size = flip.changes["storage"]
        less = flip.text.startswith("Less than")
        assert storage is None or (size < storage if less else size > storage)
        back = replace(here, storage=size + 1 if less else size - 1)
        assert recommend(back, room).method == found.method


def test_where_nothing_can_be_stored_more_room_is_the_way() -> None:
    situation = Situation(storage=100)
    room = standin.room(situation)
    found = recommend(situation, room)
    assert found.method == "none"
    change = next(flip for flip in flips(situation, room, found) if flip.question == "storage")
    assert change.text.endswith("or more per task") and change.method == "prompt"


def test_a_card_without_bfloat16_multiplies_in_float16() -> None:
    for device, dtype in (("t4", "float16"), ("rtx-3060", "bfloat16")):
        situation = Situation(model="qwen2.5-7b", device=device, batch=1)
        plan = recommend(situation, Room(situation, four_bits_only)).plan
        assert plan is not None and plan.values["bnb_4bit_compute_dtype"] == dtype


def four_bits_only(_: Situation) -> Needed:
    def needed(method: str, values: object, batch: int, checkpointing: bool) -> int:
        return (5 if method == "qlora" else 50) * 10**9

    return needed


def test_what_only_just_fits_is_said_to_be_tight() -> None:
    situation = Situation()
    room = standin.room(situation)
    step = recommend(situation, room).plan
    assert step is not None
    tight = recommend(situation, room.with_memory(step.needed_bytes + 10**6))
    assert any(why.text.startswith("This is tight") and why.kind == "simulated" for why in tight.why)
    assert not any(
        "tight" in why.text for why in recommend(situation, room.with_memory(4 * step.needed_bytes)).why
    )


def test_a_smaller_model_stores_no_more_than_is_allowed() -> None:
    situation = Situation(model="qwen2.5-7b", device="t4", storage=2_520_000, tasks=5)
    title = smaller_model(situation, standin.room(situation), "lora")
    entry = next(each for each in catalogue().values() if each.title == title)
    assert stored_bytes(entry.shape, "lora", {}) <= 2_520_000
    roomier = smaller_model(replace(situation, storage=None), standin.room(situation), "lora")
    assert roomier is not None and roomier != title


def test_another_model_is_no_way_round_the_latency() -> None:
    situation = Situation(model="t5-base", output="classification", storage=300_000, latency=0.0)
    room = standin.room(situation)
    found = recommend(situation, room)
    assert "kind" in {step.question for step in found.path}
    longer = {"prefix", "prompt", "ptuning", "adapters"}
    assert all(flip.question == "latency" for flip in flips(situation, room, found) if flip.method in longer)


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

    found = recommend(situation, Room(situation, ask))  # type: ignore[arg-type]
    assert found.method == "lora"
    assert found.overruled[0].text == "IA³ (defaults): even one row needs 30.0 GB."
    assert found.overruled[0].kind == "simulated"
    assert found.path[-1].label == "Few"


def test_nothing_fits_the_room_for_a_task() -> None:
    found = recommend(Situation(storage=10, tasks=2), standin.room(Situation(storage=10, tasks=2)))
    assert found.method == NOTHING
    assert any("is allowed" in why.text for why in found.why)


@pytest.mark.parametrize(
    ("change", "question"),
    [({"rows": 999}, "rows"), ({"tasks": 2}, "tasks"), ({"storage": 1_500_000}, "storage")],
)
def test_a_flip_names_the_answer_that_changed(change: dict[str, Any], question: str) -> None:
    start = Situation()
    room = standin.room(start)
    found = recommend(start, room)
    assert question in {flip.question for flip in flips(start, room, found)}
    assert recommend(replace(start, **change), room).method != found.method


@pytest.mark.parametrize(("model", "rate"), [("llama-3.1-8b", 2e-4), ("llama-3.1-70b", 1e-4)])
def test_a_plans_rate_is_what_is_published_for_a_model_of_its_size(model: str, rate: float) -> None:
    situation = Situation(model=model, device="h200")
    plan = recommend(situation, standin.room(situation)).plan
    assert plan is not None
    found = plan.recipe["learning_rate"]
    assert (found.value, found.kind) == (rate, "cited")
    assert plan.recipe["batch"].value == situation.batch == plan.batch * plan.accumulate
    assert plan.recipe["checkpointing"].value == plan.checkpointing


def test_a_card_without_bfloat16_is_given_float16() -> None:
    situation = Situation(device="t4", model="gpt2")
    plan = recommend(situation, standin.room(situation)).plan
    assert plan is not None and plan.recipe["dtype"].value == "float16"
    assert "loss scaling" in plan.recipe["dtype"].why
