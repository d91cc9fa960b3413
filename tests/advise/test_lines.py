"""Every line that the tree draws, on both of its sides: where an answer changes, it changes there and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from peft_lab.advise import tree, words
from peft_lab.advise.flips import _too_large, flips
from peft_lab.advise.recommend import Why, _step, recommend, walk
from peft_lab.advise.room import Room
from peft_lab.advise.simulating import Needed, Step, StepRun
from peft_lab.advise.situation import WORDS, Situation, lora_bytes, parse, stored_bytes, tight
from peft_lab.advise.tree import ADVICE, FEW_ROWS
from peft_lab.advise.words import found_answer
from peft_lab.core import limits, units
from peft_lab.core.errors import BadInput, SimulationError, UnknownName
from peft_lab.engine.devices import GIB, HEADROOM, HEADROOM_SPLIT, TAKEN, card_size, device_of, devices
from peft_lab.engine.request import Reserved
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue, get_model
from tests.advise import standin
from tests.prose import says

LLAMA = get_model("llama-3.2-3b").shape
LORA_3B = 4 * 28 * 8 * (2 * 3072 + 3072 + 1024)  # bytes: rank 8 on query and value of 28 layers, in float32


def stub(needs: Mapping[tuple[int, bool], int]) -> Any:
    """A simulation that knows a few steps by rows and checkpointing, whatever the method."""

    def ask(_: Situation) -> Needed:
        return lambda method, values, run: GB * needs[run.batch, run.checkpointing]

    return ask


GB = 10**9
STEPS = {
    (1, False): 50, (2, False): 70, (4, False): 110, (1, True): 30, (2, True): 34, (4, True): 42,
}  # fmt: skip


#: Of which an update reads four rows.
FOUR_ROWS = Situation(rows=40)


def fitting(gigabytes: float) -> int:
    """The least memory of a device on which so many may be used."""
    return Room.memory_for(int(gigabytes * GB))


@pytest.mark.parametrize(
    ("memory", "step"),
    [
        (110, Step(4, False, needed=110 * GB)), (109, Step(2, False, needed=70 * GB, accumulate=2)),
        (69, Step(1, False, needed=50 * GB, accumulate=4)), (49, Step(4, True, needed=42 * GB)),
        (41, Step(2, True, needed=34 * GB, accumulate=2)), (33, Step(1, True, needed=30 * GB, accumulate=4)),
        (29, None),
    ],
)  # fmt: skip
def test_what_costs_least_is_tried_first(memory: int, step: Step | None) -> None:
    """Whole, fewer rows, checkpointed, both; a twentieth of the memory stays free, to the byte."""
    room = Room(FOUR_ROWS, stub(STEPS), fitting(memory))
    assert room.step("lora", {}) == step
    assert room.base() == ("sixteen" if step else "none")
    assert room.least("lora") == 30 * GB
    if step is not None:
        assert Room(FOUR_ROWS, stub(STEPS), fitting(step.needed / GB) - 1).step("lora", {}) != step


def test_states_of_full_fine_tuning_become_smaller_before_it_is_given_up() -> None:
    """Float32 weights and moments, moments in 8 bits, all in 16 bits; autocast's copies are counted beside float32."""
    states = {("adamw", "float32"): 51, ("adamw8bit", "float32"): 32, ("adamw", "bfloat16"): 26}

    def ask(_: Situation) -> Needed:
        return lambda method, values, run: GB * states[run.optimizer, run.dtype]

    copies = 2 * LLAMA.total / GB
    for memory, found in (
        (51 + copies, ("adamw", "float32")),
        (50 + copies, ("adamw8bit", "float32")),
        (31 + copies, ("adamw", "bfloat16")),
    ):
        step = Room(Situation(), ask, fitting(memory) + 1).step("full", {})
        assert step is not None and (step.optimizer, step.dtype) == found
    assert Room(Situation(), ask, fitting(25.6)).step("full", {}) is None
    old = Room(Situation(device="t4"), ask, fitting(31 + copies)).step("full", {})
    assert old is None, "a card without bfloat16 has no such step"


def test_states_of_qlora_leave_the_device_before_it_is_given_up() -> None:
    def ask(_: Situation) -> Needed:
        return lambda method, values, run: (10 if run.optimizer == "adamw" else 9) * GB

    step = Room(FOUR_ROWS, ask, fitting(9.5)).step("qlora", {})
    assert step is not None and (step.optimizer, step.batch) == ("paged_adamw8bit", 4)
    assert Room(Situation(), ask, fitting(9.5)).step("lora", {}) is None


def test_the_least_that_a_row_needs_counts_what_goes_to_main_memory() -> None:
    def ask(_: Situation) -> Needed:
        return lambda method, values, run: (15 if run.offload else 20) * GB

    room = Room(FOUR_ROWS, ask, fitting(9.5))
    here, away = (
        room._fit("qlora", {}, StepRun(1, True, offload=offload), 4)[1] for offload in (False, True)
    )
    assert room.fit("qlora", {}, "none", True) == (None, away) and away < here
    assert room.fit("qlora", {}, "none", False)[1] == here, "without checkpoints nothing goes there"


def test_several_devices_share_the_rows_and_at_last_the_model() -> None:
    seventy = Situation(model="llama-3.1-70b", rows=40, devices=2, link="nvlink")

    def ask(situation: Situation) -> Needed:
        weights = 2 * situation.shape.total

        def needed(method: str, values: object, run: StepRun) -> int:
            share = weights // situation.devices if run.split else weights
            if run.in_main_memory:
                return share if run.offloads else 0
            return (0 if run.offloads else share) + run.batch * (10**9 if run.checkpointing else 10**10)

        return needed

    values = {"r": 16, "target_modules": ("all-linear",)}
    whole = Room(seventy, ask, 200 * GB).step("lora", values)
    assert whole is not None and (whole.sharding, whole.batch, whole.accumulate) == ("ddp", 2, 1)
    half = Room(seventy, ask, 100 * GB).step("lora", values)
    assert half is not None and half.sharding == "fsdp2" and half.split and half.batch * half.accumulate == 2
    assert half.needed <= (1 - HEADROOM_SPLIT) * 100 * GB < (1 - HEADROOM) * 100 * GB
    assert half.needed > seventy.shape.total, "its share of the weights"
    offloaded = Room(seventy, ask, 40 * GB).step("lora", values)
    assert offloaded is not None and offloaded.sharding == "fsdp2+offload"
    assert offloaded.host == seventy.shape.total, "its share of weights in 16 bits"
    assert Room(seventy, ask, GB).step("lora", values) is None
    assert Room(replace(seventy, devices=1), ask, 100 * GB).step("lora", values) is None


@pytest.mark.parametrize(("link", "base"), [("nvlink", "sixteen"), ("pcie", "four"), ("", "four")])
def test_over_a_slow_link_four_bits_on_each_come_before_sixteen_split(link: str, base: str) -> None:
    situation = Situation(model="llama-3.1-70b", devices=4, link=link)

    def ask(there: Situation) -> Needed:
        bits = {"qlora": 0.6}
        return lambda method, values, run: int(
            bits.get(method, 2.1) * there.shape.total / (there.devices if run.split else 1)
        )

    assert Room(situation, ask, 80 * GB).base() == base


def test_four_bits_are_the_answer_where_only_they_fit() -> None:
    def ask(_: Situation) -> Needed:
        return lambda method, values, run: (5 if method == "qlora" else 50) * GB

    assert Room(Situation(), ask, fitting(5)).base() == "four"
    assert Room(Situation(), ask, fitting(5) - 1).base() == "none"
    assert Room(Situation(), ask).memory == Situation().hardware.memory


@pytest.mark.parametrize(
    ("field", "value", "question", "answer", "said"),
    [
        ("rows", FEW_ROWS - 1, "rows", "few", "999 "),
        ("rows", FEW_ROWS, "rows", "some", "1,000 "),
        ("rows", 99_999, "rows", "some", "99,999 "),
        ("rows", 100_000, "rows", "many", "100,000 "),
        ("tasks", 1, "tasks", "one", "1 "),
        ("tasks", 2, "tasks", "many", "2 "),
        ("latency", None, "latency", "relaxed", ""),
        ("latency", tree.ADAPTER_LATENCY.value, "latency", "relaxed", "20.7%"),
        ("latency", tree.ADAPTER_LATENCY.value - 0.01, "latency", "strict", "20.7%"),
        ("latency", 0.0, "latency", "strict", "0%"),
        ("storage", None, "storage", "roomy", ""),
        ("storage", LORA_3B, "storage", "roomy", "9.18 MB"),
        ("storage", LORA_3B - 1, "storage", "tight", "9.18 MB"),
        ("prompting", "yes", "prompting", "yes", "reaches"),
        ("prompting", "no", "prompting", "no", "not reach"),
        ("prompting", "retrieval", "prompting", "retrieval", "retrieval reaches"),
        ("objective", "", "objective", "sft", "used for"),
        ("output", "classification", "objective", "classification", "your answer"),
        ("objective", "rl", "objective", "rl", "your answer"),
        ("serving", "vllm", "serving", "vllm", "your answer"),
        ("forgetting", "matters", "forgetting", "matters", "get worse"),
    ],
)
def test_what_is_told_is_read_at_its_line(
    field: str, value: Any, question: str, answer: str, said: str
) -> None:
    found, because = found_answer(question, replace(Situation(), **{field: value}))
    assert found == answer
    assert said in because


def test_an_encoder_chooses_unless_it_is_said_otherwise() -> None:
    assert found_answer("objective", Situation(model="bert-base"))[0] == "classification"
    assert found_answer("objective", Situation(model="t5-base"))[0] == "sft"


@pytest.mark.parametrize(("more", "found"), [(0, "holds"), (1, "exceeds")])
def test_a_token_is_a_bit_and_a_parameter_two(more: int, found: str) -> None:
    parameters = words.held(Situation())
    assert parameters == 64 * 28 * (4 * 3072 + 2 * (3072 + 1024) + 3 * (3072 + 8192))
    situation = Situation(rows=2 * parameters + more, row_tokens=1)
    assert words.amount(situation)[0] == found


def test_what_a_task_stores() -> None:
    assert lora_bytes(LLAMA) == LORA_3B
    assert stored_bytes(LLAMA, "prompt", {"num_virtual_tokens": 8}) == 4 * 8 * 3072
    assert tight(LLAMA) == LORA_3B // 4


def test_what_is_counted_on_a_model() -> None:
    """A scale of its own: from exactly the cited size on a base is large."""
    at = int(tree.PROMPT_SCALE.value)
    groups = LLAMA.groups
    for total, answer in ((at - 1, "small"), (at, "large")):
        shape = replace(LLAMA, groups=(*groups, _filling(total - LLAMA.total)))
        assert shape.total == total
        assert tree.counted_answers(shape)["scale"] == answer
    assert tree.biased(LLAMA) == 0 and tree.counted_answers(LLAMA)["biases"] == "no"
    bert = get_model("bert-base").shape
    assert tree.biased(bert) == 6 and tree.counted_answers(bert)["biases"] == "yes"
    assert says(tree.phrase("biases", bert), "6 of the 6")
    some_have = (
        get_model("qwen2.5-0.5b").shape if "qwen2.5-0.5b" in catalogue() else get_model("qwen2.5-7b").shape
    )
    assert tree.phrase("biases", some_have).startswith("3 of the 7")
    assert tree.counted_answers(some_have)["biases"] == "no"


def _filling(parameters: int) -> Any:
    norm = next(group for group in LLAMA.groups if not group.layers)
    return replace(norm, path="filling", parameters={"weight": (parameters,)}, tied=())


def test_the_cited_figures() -> None:
    """As their sources print them or as counted; the longer times are worked out from milliseconds."""
    figures = {
        "BIASES_OF_BERT": 100 * 102_912 / 109_482_240, "MANY_ROWS": 1e5, "PROMPT_SCALE": 1e10,
        "PROMPT_RATE": 23.42683851402578,
        "PROMPT_VOCABULARY": 34.34420015163002, "ADAPTER_LATENCY": 100 * 4.1 / 19.8,
        "ADAPTER_LATENCY_MOST": 100 * 6 / 19.8,
    }  # fmt: skip
    assert {name: getattr(tree, name).value for name in figures} == pytest.approx(figures)


def parsed(**answers: str) -> Situation:
    return parse(answers.items())[0]


def test_what_is_assumed_where_nothing_is_said() -> None:
    assert Situation() == Situation(
        "no",
        "llama-3.2-3b",
        "rtx-4090",
        batch=None,
        seq=512,
        tasks=1,
        output="",
        rows=10_000,
        latency=None,
        storage=None,
        devices=1,
        link="",
        objective="",
        row_tokens=None,
        serving="plain",
        forgetting="ok",
        deadline="",
    )
    numbers = {key: dict(values) for key, values in WORDS.items() if key in ("tasks", "rows", "latency")}
    assert numbers == {
        "tasks": {"one": 1, "many": 20},
        "rows": {"few": 100, "some": 10_000, "many": 100_000},
        "latency": {"strict": 0.0, "relaxed": None},
    }


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("batch", limits.BATCH),
        ("tasks", limits.TASKS),
        ("rows", limits.ROWS),
        ("seq", limits.SEQ),
        ("devices", limits.DEVICES),
        ("row_tokens", limits.SEQ),
    ],
)
def test_numbers_up_to_the_largest_are_read(name: str, most: int) -> None:
    for value in (1, most):
        assert Situation.parse({name: str(value)}) == ({name: value}, {})
    for value, near in ((0, 1), (most + 1, most)):
        wrong = Situation.parse({name: str(value)})[1][name]
        assert (wrong.field, wrong.nearest) == (name, near)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("7b", 7),
        ("2 KB", 2_000),
        ("0.5mb", 500_000),
        ("1,000", 1_000),
        ("3GB", 3 * 10**9),
        ("1gib", 2**30),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parsed(storage=text).storage == size


def test_less_than_a_byte_is_no_size_and_long_nonsense_is_cut() -> None:
    for text in ("0.9", "0.0001kb", "x" * 99):
        with pytest.raises(BadInput, match=r"(?i)storage") as caught:
            parsed(storage=text)
        assert "x" * 61 not in str(caught.value)
    with pytest.raises(BadInput) as caught:
        parsed(rows="y" * 99)
    assert "y" * 61 not in str(caught.value)


def test_a_device_by_its_size() -> None:
    assert device_of("24GB").memory == 24 * GIB - TAKEN == device_of("24 gib").memory
    assert device_of("1.5GB").memory == GIB // 2
    assert device_of("24GB").capability >= (8, 0) and device_of("24GB").kind == "cuda"
    for text in ("1GB", "0.5GB"):
        with pytest.raises(BadInput, match="no memory left"):
            device_of(text)
    with pytest.raises(BadInput, match="write it as 24GB"):
        device_of("24000MB")
    for text in ("24", "abacus"):
        with pytest.raises(UnknownName):
            device_of(text)


def test_rows_and_virtual_tokens_have_to_fit_the_positions() -> None:
    bert, prompt = Situation(model="bert-base", seq=512), ADVICE["prompt-short"]
    assert bert.check() is bert
    with pytest.raises(BadInput, match="512 positions"):
        replace(bert, seq=513).check()
    fits = replace(bert, seq=504)
    assert isinstance(_step(fits, standin.room(fits), prompt), Step)
    longer = replace(bert, seq=505)
    found = _step(longer, standin.room(longer), prompt)
    assert isinstance(found, Why) and says(found.text, "505 tokens", "8 virtual")


def test_what_a_task_may_store_is_allowed_to_the_byte() -> None:
    advice = ADVICE["lora-small"]
    for storage, possible in ((LORA_3B, True), (LORA_3B - 1, False)):
        situation = Situation(storage=storage)
        assert isinstance(_step(situation, standin.room(situation), advice), Step) == possible


@pytest.mark.parametrize(
    ("device", "dtype"), [("t4", "float16"), ("a100-80", "bfloat16"), ("rtx-4090", "bfloat16")]
)
def test_bfloat16_from_compute_capability_8_0(device: str, dtype: str) -> None:
    def ask(_: Situation) -> Needed:
        return lambda method, values, run: 1 if method == "qlora" else 10**15

    situation = Situation(device=device, model="llama-3.2-1b")
    plan = recommend(situation, Room(situation, ask)).plan
    assert plan is not None and plan.values["bnb_4bit_compute_dtype"] == dtype
    assert plan.settings["dtype"].value == plan.dtype == dtype


@given(
    some.builds(
        Situation,
        model=some.sampled_from(["llama-3.2-3b", "qwen2.5-7b", "t5-base", "llama-3.1-70b", "bert-base"]),
        device=some.sampled_from([name for name in devices() if name != "this-machine"]),
        batch=some.sampled_from([1, 4, 16]),
        seq=some.sampled_from([128, 512]),
        rows=some.sampled_from([5_000, 10**6]),
    )
)
@settings(max_examples=25, deadline=None)
def test_another_device_is_named_by_what_the_step_needs(situation: Situation) -> None:
    """The memory at which an answer turns: with it the answer is so, and on the other side of it is not."""
    room = standin.room(situation)
    for flip in flips(situation, room, recommend(situation, room)):
        if flip.question not in ("base", "full"):
            continue
        of = {"full": "full", "four": "lora", "none": "qlora", "sixteen": "lora"}
        method = of[flip.question if flip.question == "full" else flip.value]
        if flip.value == "four" and "or more" in flip.text:
            method = "qlora"
        edge = Room.memory_for(room.least_of_all(method))
        more = flip.text.endswith("or more")
        at = room.with_memory(edge if more else edge - 1)
        path = {step.question: step.value for step in walk(situation, at)[0]}
        assert path[flip.question] == flip.value
        back = room.with_memory(edge - 1 if more else edge)
        assert {step.question: step.value for step in walk(situation, back)[0]}.get(
            flip.question
        ) != flip.value
        assert card_size(edge if more else edge - -(-GIB // 100)) in flip.text, (
            "less than what is said is less"
        )


def test_a_smaller_model_is_the_largest_that_can_be() -> None:
    """Of the same kind, smaller, with positions enough; on a device where anything fits, the next one down."""
    situation = Situation(model="llama-3.1-70b")
    room = Room(situation, standin.always(1))
    kind = [entry for entry in catalogue().values() if entry.kind == "causal-lm"]
    less = sorted((e for e in kind if e.parameters < situation.shape.total), key=lambda e: e.parameters)
    assert words.smaller_model(situation, room, "lora") == less[-1].title
    assert words.smaller_model(replace(situation, model=less[0].name), room, "lora") is None
    for seq in (1024, 1025):  # the positions of GPT-2
        after = replace(situation, model="llama-3.2-3b", seq=seq, storage=2_000_000)
        able = [
            e for e in less
            if e.parameters < after.shape.total
            and (e.shape.max_positions is None or e.shape.max_positions >= seq)
            and stored_bytes(e.shape, "lora", {}) <= 2_000_000
        ]  # fmt: skip
        assert words.smaller_model(after, room, "lora") == (able[-1].title if able else None)
    nothing = Room(situation, standin.always(10**15))
    assert words.smaller_model(situation, nothing, "lora") is None
    # GPT-2, with 1,024 positions, is the only smaller one; Llama 2 7B, with 4,096, is the next below Mistral 7B
    for model, seq, name in (
        ("smollm2-135m", 1024, "gpt2"),
        ("smollm2-135m", 1025, None),
        ("mistral-7b", 4096, "llama-2-7b"),
        ("mistral-7b", 4097, "llama-3.2-3b"),
    ):
        there = replace(situation, model=model, seq=seq)
        title = get_model(name).title if name else None
        assert words.smaller_model(there, room.for_model(there), "lora") == title


def test_shares_are_of_the_base_with_what_is_added() -> None:
    situation = Situation(rows=50)
    found = recommend(situation, standin.room(situation))
    assert found.method == "lora" and found.plan is not None
    formula = get_method("lora").formula(LLAMA, found.plan.values)
    share = 100 * formula.trainable / (LLAMA.total + formula.added)
    assert any(units.percent(share) in why.text for why in found.why)
    assert words.accuracy("lora") == "48%" or words.accuracy("lora").startswith("47.8")


@pytest.mark.parametrize(
    ("device", "now", "then", "more"), [("t4", "no", "yes", True), ("a10", "yes", "no", False)]
)
def test_on_an_encoder_memory_for_full_fine_tuning_is_what_turns_it(
    device: str, now: str, then: str, more: bool
) -> None:
    situation = Situation(model="roberta-large", device=device)

    def ask(_: Situation) -> Needed:
        return lambda method, values, run: (18 if method == "full" else 10) * GB

    room = Room(situation, ask)
    found = recommend(situation, room)
    assert {step.question: step.value for step in found.path}["full"] == now
    (flip,) = (flip for flip in flips(situation, room, found) if flip.question == "full")
    assert (flip.value, "or more" in flip.text, flip.method) == (then, more, "full" if more else "lora")


def test_another_kind_of_model_is_among_what_would_turn_it() -> None:
    """Told for the questions that the path asked of the model, and for their other answers alone."""
    situation = Situation(model="bert-base", device="t4", tasks=9)
    room = standin.room(situation)
    found = recommend(situation, room)
    kinds = [(flip.question, flip.value) for flip in flips(situation, room, found) if flip.question == "kind"]
    assert found.method == "adapters" and kinds == [("kind", "causal-lm")]
    assert all(not flip.changes for flip in flips(situation, room, found) if flip.question == "kind")


def test_what_a_flip_sets_is_what_its_words_mean() -> None:
    """The person's answers, set just beyond the line: one task and two, no time at all or no limit."""
    start = Situation(tasks=2, rows=5_000, latency=None)
    room = standin.room(start)
    set_to = {
        (flip.question, flip.value): flip.changes
        for flip in flips(start, room, recommend(start, room))
        if flip.changes
    }
    assert set_to["tasks", "one"] == {"tasks": 1}
    back = replace(start, tasks=1)
    room = Room(back, standin.always(1))  # anything fits
    set_to = {
        (flip.question, flip.value): flip.changes
        for flip in flips(back, room, recommend(back, room))
        if flip.changes
    }
    assert set_to["tasks", "many"] == {"tasks": 2}
    assert set_to["rows", "few"] == {"rows": FEW_ROWS - 1} and set_to["rows", "many"] == {"rows": 100_000}


def test_advice_stores_too_much_from_the_first_byte_over() -> None:
    for storage, too_large in ((None, False), (LORA_3B, False), (LORA_3B - 1, True)):
        assert _too_large(Situation(storage=storage), ADVICE["lora-small"]) == too_large
    assert not _too_large(Situation(storage=1), ADVICE["nothing"])


def test_something_comes_second_unless_nothing_can_be_stored() -> None:
    situation = Situation(model="llama-3.1-8b", batch=128)
    found = recommend(situation, standin.room(situation))
    assert found.method == "lora" and found.runner_up == "qlora" and found.runner_up_text.startswith("QLoRA ")
    little = replace(situation, storage=10)
    found = recommend(little, standin.room(little))
    assert found.advice == "no-way" and found.runner_up is None and found.runner_up_text == ""


def test_a_step_that_cannot_be_simulated_is_passed_over_with_the_reason() -> None:
    def ask(_: Situation) -> Needed:
        def needed(method: str, values: Mapping[str, Any], run: StepRun) -> int:
            raise SimulationError("this one has no shapes")

        return needed

    found = _step(Situation(), Room(Situation(), ask), ADVICE["lora-small"])
    assert isinstance(found, Why) and says(found.text, "shapes")


def test_where_nothing_fits_the_smallest_card_that_would_hold_it_is_named() -> None:
    needs = 60 * 10**9
    situation = Situation(model="llama-3.1-70b")
    found = recommend(situation, Room(situation, standin.always(needs)))
    assert found.advice == "nothing"
    held = [
        device.holding
        for device in devices().values()
        if device.kind == "cuda" and device.memory >= Room.memory_for(needs)
    ]
    told_devices = " ".join(why.text for why in found.why)
    assert says(told_devices, held[0]) and "fits either" in told_devices
    assert found.runner_up is None


def test_a_run_over_rows_of_unequal_length_is_within_the_memory() -> None:
    """Fewer rows where it is not; a step that leaves a twentieth free is not enough. Nothing else changes."""
    asked = set[int]()

    def over(beyond: Mapping[int, int]) -> Any:
        def runs(_: Situation, method: str, values: Any, run: StepRun, capacity: int) -> Reserved | None:
            asked.add(capacity)
            return ends(STEPS[run.batch, run.checkpointing] + beyond[run.batch])

        return runs

    def ends(high: int) -> Reserved:
        return Reserved(high * GB - 2, high * GB - 1, high * GB)

    memory = fitting(110)
    plain = Room(FOUR_ROWS, stub(STEPS), memory)
    assert Room(FOUR_ROWS, stub(STEPS), memory, over_run=lambda *_: None).step("lora", {}) == plain.step(
        "lora", {}
    )
    for beyond, step in (
        (5, Step(4, False, needed=110 * GB, over=ends(115))),
        (6, Step(2, False, needed=70 * GB, accumulate=2)),
    ):
        runs = over({1: 5, 2: 5, 4: beyond})
        assert Room(FOUR_ROWS, stub(STEPS), memory, over_run=runs).step("lora", {}) == step
    assert asked == {memory}
    small = Room(FOUR_ROWS, stub(dict.fromkeys(STEPS, 30)), fitting(31), over_run=over({1: 9, 2: 9, 4: 9}))
    assert small.step("lora", {}) is None and small.smallest("lora", {}) is None
    assert small.fit("lora", {}, "none", True)[1] == 51 * GB, "what a run reserves"
    roomy = Room(FOUR_ROWS, stub(STEPS), fitting(180), over_run=over({1: 900, 2: 900, 4: 900}))
    found = roomy.step("lora", {})
    assert found is not None and (found.batch, found.over) == (4, None), (
        "a step that takes little is not asked for"
    )
