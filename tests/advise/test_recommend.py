"""Whatever the situation: what is recommended can be, and what would flip it does."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from peft_lab.advise import plan, room
from peft_lab.advise.flips import flips
from peft_lab.advise.plan import Unknown
from peft_lab.advise.recipes.recipe import LAB, RecipeSetting, recipe
from peft_lab.advise.recipes.rules import ADAMW, PAGED, job
from peft_lab.advise.recommend import Why, _step, recommend
from peft_lab.advise.room import UPDATES, Room
from peft_lab.advise.simulating import Step, StepRun
from peft_lab.advise.situation import Situation, stored_bytes
from peft_lab.advise.tree import (
    ADAPTER_LATENCY,
    ADVICE,
    FEW_ROWS,
    NOTHING,
    PROMPT_SCALE,
    QUESTIONS,
    UNTRAINED,
    counted_answers,
)
from peft_lab.advise.words import smaller_model
from peft_lab.core.errors import BadInput
from peft_lab.engine.devices import HEADROOM, devices
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue, get_model, readers_of_text
from tests.advise import standin
from tests.prose import says

situations = some.builds(
    Situation,
    prompting=some.sampled_from(["no", "no", "no", "no", "yes", "retrieval"]),
    model=some.sampled_from(list(readers_of_text())),
    device=some.sampled_from([name for name in devices() if name != "this-machine"]),
    batch=some.integers(1, 64),
    seq=some.sampled_from([64, 256, 512]),
    tasks=some.sampled_from([1, 1, 2, 50]),
    output=some.sampled_from(["", "classification", "generation"]),
    rows=some.sampled_from([40, 999, 1000, 99_999, 100_000, 10**7]),
    latency=some.sampled_from([None, 0.0, 20.0, 21.0]),
    storage=some.sampled_from([None, 1000, 30_000, 300_000, 3_000_000, 10**9]),
    devices=some.sampled_from([1, 1, 2, 8]),
    link=some.sampled_from(["", "pcie", "nvlink"]),
    objective=some.sampled_from(["", *QUESTIONS["objective"].answers]),
    row_tokens=some.sampled_from([None, 60, 2000]),
    serving=some.sampled_from(["plain", "vllm"]),
    forgetting=some.sampled_from(["ok", "matters"]),
    deadline=some.sampled_from(["", "1"]),
)


def possible(situation: Situation) -> bool:
    try:
        situation.check()
    except BadInput:
        return False
    return True


@given(situations.filter(possible))
@settings(max_examples=60, deadline=None)
def test_what_is_recommended_can_be(situation: Situation) -> None:
    found = recommend(situation, standin.room(situation))
    assert found.why
    assert found.path[0].question == "prompting"
    assert found.runner_up != found.method or "on" in found.runner_up_text
    if found.plan is None:
        assert found.method in UNTRAINED
        return
    plan, shape = found.plan, situation.shape
    assert plan.headroom >= HEADROOM and found.unknown
    update = max(situation.batch or 1, int(plan.settings["batch"].value))
    assert plan.batch * plan.readers * plan.accumulate >= min(update, situation.rows // UPDATES)
    assert situation.storage is None or plan.stored_bytes <= situation.storage
    assert plan.stored_bytes == stored_bytes(shape, found.method, plan.values)
    assert all(problem.level != "error" for problem in get_method(found.method).problems(shape, plan.values))
    assert all(setting.source and setting.kind for setting in plan.settings.values())
    if situation.latency is not None and situation.latency < ADAPTER_LATENCY.value:
        assert found.method in ("bitfit", "ia3", "qlora", "lora", "full"), "nothing may be added to a request"
    if situation.serving == "vllm" and situation.tasks > 1:
        assert found.method in ("lora", "qlora", "full")
    if shape.kind == "causal-lm":
        assert found.method not in ("adapters", "prefix", "ptuning", "bitfit"), (
            "LoRA is the default for decoders"
        )


@given(situations.filter(possible))
@settings(max_examples=60, deadline=None)
def test_nothing_is_possible_only_where_nothing_is(situation: Situation) -> None:
    """No false alarm: where the tree gives up for want of room, the smallest prompt and vectors do not fit either."""
    room = standin.room(situation)
    found = recommend(situation, room)
    if found.advice != "no-way" or room.base() != "sixteen" or situation.devices > 1:
        return
    for name in ("lora-one-map", "ia3-least", "lora-small"):
        assert not isinstance(_step(situation, room, ADVICE[name]), Step), name


@given(situations.filter(possible))
@settings(max_examples=30, deadline=None)
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
        assert counted_answers(situation.shape)["biases"] == "no"
    if "Full fine-tuning needs" in texts:
        assert room.full() == "no"


@pytest.mark.parametrize(
    ("given_answers", "method", "against"),
    [
        ({"storage": 250_000, "latency": 0.0}, "ia3", "it stores"),
        ({"storage": 100_000}, "prompt", "it stores"),
        ({"storage": 200_000, "serving": "vllm"}, "ia3", "it stores"),
        ({"storage": 200_000, "serving": "vllm", "tasks": 9}, "none", "apply LoRA"),
        ({"model": "bert-base", "rows": 300, "storage": 30_000, "seq": 128}, "prompt", "it stores"),
        ({"model": "t5-base", "storage": 200_000, "latency": 0.0}, "ia3", "it stores"),
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


def test_a_small_model_is_trained_in_full_where_there_is_room() -> None:
    situation = Situation(model="t5-base", rows=1_000_000)
    assert recommend(situation, standin.room(situation)).advice == "full-small"
    room = standin.room(situation)
    found = recommend(situation, room.with_memory(room.least("full") - 1))
    assert found.advice == "lora-large"
    encoder = Situation(model="roberta-base", rows=20_000)
    assert recommend(encoder, standin.room(encoder)).method == "full"


def test_a_hundred_thousand_rows_alone_are_no_reason_for_full_fine_tuning() -> None:
    situation = Situation(device="h200", rows=400_000)
    room = standin.room(situation)
    assert room.full() == "yes"
    assert recommend(situation, room).advice == "lora-large"
    text = replace(situation, objective="cpt", rows=5_000_000, row_tokens=2048)
    assert recommend(text, standin.room(text)).advice == "full-text"
    assert recommend(replace(text, forgetting="matters"), standin.room(text)).advice == "lora-keeping"
    little = replace(text, rows=500)
    assert recommend(little, standin.room(little)).advice == "lora-large"


def test_few_rows_are_a_small_lora_with_seeds() -> None:
    for model in ("llama-3.2-3b", "bert-base", "t5-base"):
        situation = Situation(model=model, rows=50, seq=128)
        found = recommend(situation, standin.room(situation))
        assert found.advice == "lora-few" and found.runner_up == "ia3"
        assert found.plan is not None and found.plan.settings["seeds"].value >= 3
        assert found.plan.settings["early_stopping"].value is True
        assert found.plan.batch * found.plan.accumulate <= 5, "an epoch of ten updates"
        assert any("seed" in why.text for why in found.why)
    more = Situation(rows=5_000)
    plan = recommend(more, standin.room(more)).plan
    assert plan is not None and "seeds" not in plan.settings


def test_a_plan_in_sixteen_bits_alone_says_what_it_loses() -> None:
    situation = Situation(
        model="llama-3.2-1b", device="24GB", objective="cpt", rows=5_000_000, row_tokens=2048
    )
    room = standin.room(situation)
    whole = recommend(situation, room).plan
    assert whole is not None and whole.remembered == "float32"
    found = recommend(situation, room.with_memory(room.memory_for(room.least("full"))))
    assert found.method == "full" and found.plan is not None and found.plan.remembered == "bfloat16"
    assert any("rounded away" in why.text for why in found.why)
    assert "rounded away" in found.plan.settings["master_weights"].source
    old = replace(situation, device="t4")  # which has no bfloat16
    room = standin.room(old)
    assert recommend(old, room.with_memory(room.memory_for(room.least("full")) - 10**9)).method == "lora"


def test_many_on_one_decoder_are_loras() -> None:
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"serving": "vllm"},
        {"latency": 0.0},
        {"rows": 50},
        {"rows": 10**6},
    )
    for more in changes:
        situation = Situation(tasks=200, **more)
        found = recommend(situation, standin.room(situation))
        assert found.advice == "lora-tenants" and found.plan is not None
        assert found.plan.values["r"] <= 16, "what vLLM takes by default"


def test_two_sequences_of_a_preference_are_simulated() -> None:
    one, two = Situation(), Situation(objective="preference")
    alone, pair = standin.room(one), standin.room(two)
    run = StepRun(2, False)
    assert pair.needs("lora", {}, run) == alone.needs("lora", {}, replace(run, batch=4))


def test_a_step_on_rewards_is_on_every_answer_and_says_what_is_in_no_figure() -> None:
    """Where rows have their own answers they are trained on once; to a prompt there are 64."""
    asked = Situation(model="llama-3.1-8b", device="h100", rows=7_500, objective="rl", batch=4)
    plan = recommend(asked, standin.room(asked)).plan
    assert plan is not None and plan.seconds is not None
    epochs = plan.settings["epochs"].value
    assert (plan.group, plan.batch * plan.accumulate) == (64, 1_024)
    assert plan.settings["steps"].value == epochs * 469
    step = Step(plan.batch, plan.checkpointing, plan.optimizer, plan.dtype, plan.loss)
    step = replace(step, accumulate=plan.accumulate)
    tokens = epochs * 7_500 * 64 * asked.seq
    assert plan.seconds == room.training_seconds(asked, "lora", plan.values, step, 1, tokens)
    found = recommend(asked, standin.room(asked))
    assert any("64 answers" in str(one) for one in found.unknown)
    assert not any("answers to each" in str(one) for one in _unknown(replace(asked, objective="sft")))


def _unknown(asked: Situation) -> tuple[Unknown, ...]:
    return recommend(asked, standin.room(asked)).unknown


def test_a_deadline_that_cannot_be_met_is_said() -> None:
    situation = Situation(rows=10**6, deadline="1", device="t4", model="llama-3.2-1b")
    found = recommend(situation, standin.room(situation))
    assert found.plan is not None and found.plan.seconds is not None
    assert found.plan.seconds[0] > 3600 and found.plan.seconds[0] < found.plan.seconds[1]
    assert any("1 hour" in one.text for one in found.unknown)
    assert {one.kind for one in found.unknown if "finish within" in one.text} == {"cited"}
    open_end = recommend(replace(situation, deadline=""), standin.room(situation))
    assert not any("finish within" in one.text for one in open_end.unknown)


def test_a_deadline_is_for_all_tasks() -> None:
    one = Situation(
        rows=20_000, row_tokens=700, seq=1024, device="a100-80", model="llama-3.2-1b", serving="vllm"
    )
    alone = recommend(one, standin.room(one))
    assert alone.plan is not None and alone.plan.seconds is not None
    hours = 1.01 * alone.plan.seconds[1] / 3600  # enough for one
    many = replace(one, tasks=12, deadline=str(hours))
    found = recommend(many, standin.room(many))
    assert any("all 12 tasks" in each.text for each in found.unknown)
    for free in (replace(one, deadline=str(hours)), replace(many, deadline=str(12 * hours))):
        assert not any("ends within" in each.text for each in recommend(free, standin.room(free)).unknown)


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
        assert flip.method != found.method or flip.title != ADVICE[found.advice].short
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
    assert change.text.endswith("per task") and change.method in ("prompt", "ia3", "lora")


def test_what_only_just_fits_is_not_planned() -> None:
    """A twentieth stays free: the simulation is that exact and no more."""
    situation = Situation(rows=40)
    room = standin.room(situation)
    step = recommend(situation, room).plan
    assert step is not None and step.batch == 4 and not step.checkpointing
    edge = room.memory_for(step.needed_bytes)
    at = recommend(situation, room.with_memory(edge)).plan
    below = recommend(situation, room.with_memory(edge - 1)).plan
    assert at is not None and (at.batch, at.checkpointing) == (4, False)
    assert below is not None and below.batch < 4 and not below.checkpointing, (
        "fewer rows cost less than recomputing"
    )
    assert below.headroom >= HEADROOM


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
    change = next(flip for flip in flips(situation, room, found) if flip.question == "quicker")
    edge = room.memory_for(room.least("lora", checkpointing=False))
    assert recommend(situation, room.with_memory(edge - 1)).method == change.method == "qlora"
    assert recommend(situation, room.with_memory(edge)).method != change.method


def test_where_16_bits_compute_twice_and_4_do_not_4_are_taken_for_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """8B on two cards of 24 GB: LoRA was advised, which Plan found slower than QLoRA."""
    monkeypatch.setattr(standin, "ACTIVATIONS", standin.LIKE_A_LLAMA)
    situation = Situation(
        model="llama-3.1-8b", device="rtx-4090", devices=2, link="pcie", seq=1024, row_tokens=512
    )
    room = standin.room(situation)
    found = recommend(situation, room)
    assert found.method == "qlora" and found.runner_up == "lora"
    assert (found.path[-1].question, found.path[-1].value) == ("quicker", "yes")
    wide = room.step("lora", ADVICE["lora"].knobs(situation.shape))
    assert wide is not None and wide.checkpointing
    assert found.plan is not None and not found.plan.checkpointing
    larger = replace(situation, device="h100")
    assert recommend(larger, standin.room(larger)).method == "lora"


def test_a_deadline_chooses_among_the_methods_that_plan_ranks() -> None:
    situation = Situation(model="llama-3.2-1b", device="a100-80", rows=200_000, seq=1024, objective="cpt")
    room = standin.room(situation)
    free = recommend(situation, room)
    assert free.plan is not None and free.plan.seconds is not None and free.method == "full"
    hours = 0.99 * free.plan.seconds[1] / 3600
    hurried = recommend(replace(situation, deadline=str(hours)), room)
    assert hurried.method == "lora" and hurried.plan is not None and hurried.plan.seconds is not None
    assert hurried.plan.seconds[1] <= 3600 * hours and hurried.overruled
    assert recommend(replace(situation, deadline="0.001"), room).method == "full", "none is in time"


def test_the_simulation_overrules_the_tree() -> None:
    """Where the tree's LoRA of a large rank does not fit, a smaller one has to do, and the trace says so."""
    situation = Situation(rows=10**6)

    def ask(_: Situation) -> object:
        def needed(method: str, values: Mapping[str, Any], run: StepRun) -> int:
            return (30 if values.get("r") == 64 else 20) * 10**9

        return needed

    found = recommend(situation, Room(situation, ask))  # type: ignore[arg-type]
    assert found.advice == "lora"
    assert says(found.overruled[0].text, "one row", "30.0 GB")
    assert found.overruled[0].kind == "simulated"
    assert found.path[-1].label == "Very many"


def test_nothing_fits_the_room_for_a_task() -> None:
    found = recommend(Situation(storage=10, tasks=2), standin.room(Situation(storage=10, tasks=2)))
    assert found.method == NOTHING
    assert any("is allowed" in why.text for why in found.why)


@pytest.mark.parametrize(("model", "rate"), [("llama-3.1-8b", 2e-4), ("llama-3.1-70b", 1e-4)])
def test_a_plans_rate_is_what_is_published_for_a_model_of_its_size(model: str, rate: float) -> None:
    situation = Situation(model=model, device="h200")
    plan = recommend(situation, standin.room(situation)).plan
    assert plan is not None
    found = plan.settings["learning_rate"]
    assert (found.value, found.kind) == (rate, "cited")
    assert plan.settings["batch"].value == plan.batch
    assert plan.settings["checkpointing"].value == plan.checkpointing


@pytest.mark.parametrize(("name", "of"), [("adafactor", "Adafactor"), ("sgd", "SGD")])
def test_torchs_own_rates_are_torchs(name: str, of: str) -> None:
    import torch

    defaults = inspect.signature(getattr(torch.optim, of)).parameters
    assert plan._TORCHS[name][0] == defaults["lr"].default


@pytest.mark.parametrize(
    ("method", "rate", "kind"), [("ia3", 3e-3, "cited"), ("lora", plan._TORCHS["adafactor"][0], LAB)]
)
def test_adafactor_gets_a_rate_of_its_own(method: str, rate: float, kind: str) -> None:
    """T-Few's on IA³; where no source used it, torch's default."""
    asked = job(method, get_model("t5-base").shape, "sft")
    found = plan._with_optimizer("adafactor", recipe(asked).settings, asked)["learning_rate"]
    assert (found.value, found.kind) == (rate, kind)
    assert all(one.rule == "tfew-ia3" for one in found.said) or kind == LAB


@pytest.mark.parametrize(
    ("simulated", "advised", "settled"),
    [("adamw", PAGED, ADAMW), ("adamw", ADAMW, ADAMW), ("paged_adamw8bit", PAGED, "paged_adamw8bit")],
)
def test_the_optimizer_that_is_said_is_the_one_that_was_simulated(
    simulated: str, advised: str, settled: str
) -> None:
    step = Step(1, False, simulated, needed=1)
    said = RecipeSetting("optimizer", advised, None, (), (), "cited", "", "")
    assert plan._optimizer(step, said, "Simulated").value == settled
