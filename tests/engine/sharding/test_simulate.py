"""A step on several devices, simulated: like real processes, like itself at its own depth, what waits, and a run."""

from __future__ import annotations

import pickle

import pytest

from bench import sharded_peaks
from peft_lab.core.errors import BadInput, Unsupported
from peft_lab.core.inspector import question_key
from peft_lab.engine import account, running
from peft_lab.engine.account import CachingAllocator
from peft_lab.engine.over_a_run import Steps, steps_at
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.sharding.simulate import (
    SHARDED_PARTS,
    ShardedResult,
    reserved_over_run,
    simulate_sharded,
    traced,
)
from peft_lab.engine.sharding.watch import Aside
from peft_lab.engine.sharding.wrap import Sharding, sharding_notes
from tests.engine import small

# -- A step on several devices, simulated: like real processes, and like itself at its own depth.

MODEL = "qwen2.5-0.5b"


def ask(method: str, how: Sharding, *, checkpointing: bool = True, optimizer: str = "adamw") -> ShardedResult:
    setting = StepSetting(batch=2, seq=64, optimizer=optimizer)
    return simulate_sharded(StepRequest(MODEL, method, {}, setting, checkpointing=checkpointing), how)


@pytest.mark.sampled(7)
@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("lora", Sharding("fsdp2", 4)),
        ("full", Sharding("fsdp2", 4, compute="bfloat16", reduce="float32")),
        ("full", Sharding("zero2", 4)),
        ("qlora", Sharding("fsdp2", 2, offload=True)),
        ("full", Sharding("fsdp2", 4, accumulate=4, sync_each=False)),
        ("lora", Sharding("fsdp1", 4)),
        ("lora", Sharding("ddp", 4)),
        ("full", Sharding("ddp", 4, bucket_view=True)),
    ],
)
def test_a_few_layers_show_what_all_of_them_do(
    method: str, how: Sharding, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ask(method, how)
    assert short.unrolled
    monkeypatch.setattr(running, "_unrolled", lambda *_: None)
    deep = ask(method, how)
    assert not deep.unrolled
    assert (short.peak_bytes, short.reserved_bytes, short.host_bytes) == (
        deep.peak_bytes,
        deep.reserved_bytes,
        deep.host_bytes,
    )
    assert short.parts == deep.parts
    assert [(e.kind, e.count) for e in short.exchanges] == [(e.kind, e.count) for e in deep.exchanges]
    assert sum(held.nbytes for held in short.peak) == short.peak_bytes


def test_the_parts_are_those_of_the_peak() -> None:
    found = ask("full", Sharding("fsdp2", 8))
    assert tuple(found.parts) == SHARDED_PARTS
    assert sum(found.parts.values()) == found.peak_bytes == max(p.nbytes for p in found.points)
    assert found.reserved_bytes is not None
    assert found.reserved_bytes > found.peak_bytes


def test_what_is_split_is_split_and_what_is_whole_is_whole() -> None:
    one, two, eight = (ask("full", Sharding("fsdp2", n)) for n in (1, 2, 8))
    weights = [max(p.parts["weights"] for p in each.points) for each in (one, two, eight)]
    states = [max(p.parts["optimizer"] for p in each.points) for each in (one, two, eight)]
    for few, many, factor in ((0, 1, 2), (0, 2, 8)):
        assert weights[few] == pytest.approx(factor * weights[many], rel=1e-3)
        assert states[few] == pytest.approx(factor * states[many], rel=1e-3)
    # A device's rows are its own, so what is kept of them is not divided.
    kept = [max(p.parts["activations"] for p in each.points) for each in (two, eight)]
    assert kept[0] == kept[1]
    replicated = ask("full", Sharding("ddp", 8))
    assert max(p.parts["weights"] for p in replicated.points) == weights[0]


def test_zero_1_divides_the_states_alone() -> None:
    whole, split = ask("full", Sharding("ddp", 8)), ask("full", Sharding("zero1", 8))
    assert not split.unrolled

    def most(result: ShardedResult, part: str) -> int:
        return max(point.parts[part] for point in result.points)

    assert most(whole, "weights") == most(split, "weights")
    assert most(whole, "gradients") == most(split, "gradients")
    # The largest parameter is a quarter of the model, and nobody shares it.
    assert 0.125 * most(whole, "optimizer") < most(split, "optimizer") < 0.3 * most(whole, "optimizer")


def test_zero_2_leaves_frozen_weights_whole() -> None:
    def most(result: ShardedResult, part: str) -> int:
        return max(point.parts[part] for point in result.points)

    whole, split, sharded = (
        ask("lora", Sharding(*kind)) for kind in (("none", 1), ("zero2", 4), ("fsdp2", 4))
    )
    assert most(split, "weights") == most(whole, "weights") > 3 * most(sharded, "weights")
    assert most(split, "gathered") < most(whole, "adapter") + 2**16 < most(sharded, "gathered")
    for part in ("adapter", "optimizer"):
        assert most(split, part) == pytest.approx(most(whole, part) / 4, rel=0.01)


def test_what_is_sent_is_what_theory_says() -> None:
    whole = ask("full", Sharding("fsdp2", 4))
    kept = ask("full", Sharding("zero2", 4))
    weights = max(p.parts["weights"] for p in ask("full", Sharding("none", 1)).points)

    def sent(result: ShardedResult, kind: str) -> int:
        return sum(each.nbytes for each in result.exchanges if each.kind == kind)

    assert sent(kept, "all-gather") == pytest.approx(weights, rel=1e-3)
    assert sent(kept, "reduce-scatter") == pytest.approx(weights, rel=1e-3)
    # Layers twice, embeddings once: they stay whole from forward to backward.
    assert weights < sent(whole, "all-gather") < 2 * weights
    assert sent(ask("full", Sharding("ddp", 4)), "all-reduce") == pytest.approx(weights, rel=1e-3)
    passes = ask("full", Sharding("zero2", 4, accumulate=3))
    assert sent(passes, "reduce-scatter") == 3 * sent(kept, "reduce-scatter")


def test_it_travels_between_processes() -> None:
    how = Sharding("fsdp2", 4)
    request = StepRequest(MODEL, "lora", {}, StepSetting(batch=2, seq=64))
    assert pickle.loads(pickle.dumps((request, how))) == (request, how)
    assert question_key(simulate_sharded, (request, how), {}) != question_key(
        simulate_sharded, (request, Sharding("ddp", 4)), {}
    )
    found = ask("lora", how)
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("how", "field"),
    [
        (Sharding("dp", 2), "sharding"),
        (Sharding("fsdp2", 0), "devices"),
        (Sharding("none", 2), "sharding"),
        (Sharding("ddp", 2, offload=True), "sharding"),
        (Sharding("ddp", 2, bucket_mb=0), "bucket_mb"),
        (Sharding("ddp", 2, accumulate=0), "accumulate"),
    ],
)
def test_what_cannot_be_meant_is_refused(how: Sharding, field: str) -> None:
    with pytest.raises(BadInput) as error:
        ask("lora", how)
    assert error.value.field == field


def test_an_optimizer_that_is_not_simulated_there_is_refused() -> None:
    for how in (Sharding("fsdp2", 2, offload=True), Sharding("fsdp2", 2), Sharding("zero1", 2)):
        with pytest.raises(Unsupported, match="8-bit"):
            ask("lora", how, optimizer="adamw8bit")


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [("adafactor", "squares a norm"), ("muon", "whole matrices"), ("lorafa", "torch refuses")],
)
def test_an_optimizer_that_needs_whole_matrices_says_so(optimizer: str, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        ask("lora", Sharding("fsdp2", 2), optimizer=optimizer)
    if optimizer == "lorafa":
        with pytest.raises(Unsupported, match="DDP waits"):
            ask("lora", Sharding("ddp", 2), optimizer=optimizer)
        return
    replicated = ask("lora", Sharding("ddp", 2), optimizer=optimizer)
    usual = ask("lora", Sharding("ddp", 2))
    assert 0 < replicated.points[-1].parts["optimizer"] < usual.points[-1].parts["optimizer"]


def test_a_stand_in_says_so() -> None:
    assert any("DeepSpeed" in note for note in sharding_notes(Sharding("zero3", 4)))
    assert not any("DeepSpeed" in note for note in sharding_notes(Sharding("fsdp2", 4)))
    assert sharding_notes(Sharding()) == ()


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.rest
def test_real_processes_have_the_same_peaks() -> None:
    """Two processes talk over gloo, each with a tracker."""
    for row in sharded_peaks.rows((2,)):
        assert abs(row["off"]) < 0.002, row


def test_fsdp1_keeps_what_frozen_layers_read_until_the_backward_pass_ends() -> None:
    """Inputs and gradients of 24 layers stay: at the last layer 22 more than where layers free theirs, less a layer
    (as large as four of them) that is not gathered beside it. Of trained layers nothing stays."""
    batch, seq, width = 8, 512, 896
    setting = StepSetting(batch, seq, loss="liger")
    peaks = {
        (method, kind): simulate_sharded(
            StepRequest(MODEL, method, {}, setting, checkpointing=True), Sharding(kind, devices=2)
        )
        for method in ("lora", "full")
        for kind in ("fsdp2", "fsdp1")
    }
    state = 2 * batch * seq * width
    more = peaks["lora", "fsdp1"].peak_bytes - peaks["lora", "fsdp2"].peak_bytes
    assert peaks["lora", "fsdp1"].unrolled and 17 * state < more < 20 * state
    assert peaks["full", "fsdp1"].peak_bytes == peaks["full", "fsdp2"].peak_bytes


# -- What of a step waits in main memory and is copied, read off its trace: the parts that the whole is known of.

MODEL_ASIDE, LAYERS, WIDTH, TOKENS, ROWS = "qwen2.5-0.5b", 24, 896, 64, 2


def ask_aside(method: str, how: Sharding, offload: bool = False) -> ShardedResult:
    setting = StepSetting(batch=ROWS, seq=TOKENS, offload=offload)
    return simulate_sharded(StepRequest(MODEL_ASIDE, method, {}, setting, checkpointing=True), how)


def by_phase(found: ShardedResult) -> dict[str, Aside]:
    return {one.phase: one for one in found.aside}


@pytest.mark.parametrize(("method", "devices"), [("lora", 2), ("full", 3), ("qlora", 2)])
def test_shares_that_wait_add_up_to_what_is_known_of_the_whole(method: str, devices: int) -> None:
    """Main memory's bytes come from the optimizer's parameters, copied ones from what is gathered and summed up: none
    of them is asked here."""
    found = ask_aside(method, Sharding("fsdp2", devices, offload=True))
    phases = by_phase(found)
    assert sum(phases["optimizer"].held.values()) == found.host_bytes
    assert sum(one.brought + one.taken for one in found.aside) == pytest.approx(
        found.copied_bytes, abs=devices
    )
    learns = phases["backward"].held["gradients"]
    assert "gradients" not in phases["forward"].held, "they are made in the backward pass"
    assert phases["forward"].held["optimizer"] == 2 * learns, "AdamW keeps two numbers for each"
    assert phases["backward"].taken == pytest.approx(learns, rel=0.02)
    assert phases["forward"].brought == pytest.approx(
        sum(phases["forward"].held.values()) - 2 * learns, rel=0.02
    ), "a rank's whole share, once"
    assert phases["optimizer"].brought == phases["optimizer"].taken == 0
    # what the model put out lives on, in 16 bits: its logits
    here = phases["optimizer"].here
    assert here.get("logits", 0) + here["activations"] == pytest.approx(ROWS * TOKENS * 151_936 * 2, rel=0.1)


def test_each_layers_input_leaves_and_comes_back() -> None:
    found = ask_aside("lora", Sharding("ddp", 2), offload=True)
    phases = by_phase(found)
    inputs = LAYERS * ROWS * TOKENS * WIDTH * 2
    assert phases["forward"].layers == phases["backward"].layers == inputs
    assert phases["forward"].taken == phases["backward"].brought > inputs
    assert phases["forward"].held == {"activations": phases["forward"].taken} == phases["backward"].held
    assert not phases["forward"].brought and not phases["backward"].taken
    assert not phases["zero_grad"].held and not phases["optimizer"].held


def test_of_a_step_that_keeps_all_on_its_devices_nothing_is_said() -> None:
    for how in (Sharding("fsdp2", 2), Sharding("ddp", 2)):
        assert ask_aside("lora", how).aside == ()


@pytest.mark.slow
def test_a_few_layers_show_what_all_of_them_keep_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [("lora", Sharding("fsdp2", 2, offload=True), False), ("lora", Sharding("ddp", 2), True)]
    short = [ask_aside(*one) for one in asked]
    assert all(one.unrolled for one in short)
    monkeypatch.setattr(running, "_unrolled", lambda *_: None)
    deep = [ask_aside(*one) for one in asked]
    assert [one.aside for one in short] == [one.aside for one in deep]


# -- What each of several devices reserves over a run of rows of unequal length.


@pytest.mark.parametrize(
    "how",
    [
        Sharding("fsdp2", 4),
        pytest.param(Sharding("zero2", 4), marks=pytest.mark.slow),
        pytest.param(Sharding("fsdp2", 2, offload=True), marks=pytest.mark.slow),
        pytest.param(Sharding("ddp", 2), marks=pytest.mark.slow),
        pytest.param(Sharding("tp", 2), marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_replayed_run_is_as_a_traced_one(how: Sharding) -> None:
    """Steps of lengths that were not traced, against a trace of just these steps. DDP's first two differ."""
    plan, setting = small.blueprint("llama", 7, small.adapter("LORA", "llama")), StepSetting(96, 160)
    lengths, run, first = [15, 87, 159, 123], [41, 153, 65, 105, 49], [87] * (1 + (how.kind == "ddp"))
    trace = traced(plan, how, steps_at([*first, *lengths]), setting)
    steps, allocator = Steps(trace, lengths), CachingAllocator()
    blocks = account.replay(trace, allocator, setting.capability, stop=steps.start)
    left = [blocks.get(index) for index in steps.first]
    for length in run:
        left = steps.play(length, allocator, left)
    assert allocator.peak_reserved == account.reserve(
        traced(plan, how, steps_at([*first, *run]), setting), setting.capability
    )


@pytest.mark.filterwarnings("ignore")
def test_a_run_is_simulated_beside_a_split_step() -> None:
    asked = StepRequest("gpt2", "lora", {}, StepSetting(8, 120), checkpointing=True)
    how, unequal = Sharding("fsdp2", 2), tuple(range(20, 121, 4))
    step, found = simulate_sharded(asked, how), simulate_sharded(asked.at(lengths=unequal), how)
    assert step.reserved_bytes is not None and step.run is None
    assert (found.peak_bytes, found.reserved_bytes) == (step.peak_bytes, step.reserved_bytes)
    assert found.run is not None and found.run.longest == 120
    document = found.as_dict()
    assert document["step_reserved_bytes"] == step.reserved_bytes
    assert document["reserved_bytes"]["value"] == found.run.reserved.value
    capacity = step.reserved_bytes // 2
    tight = reserved_over_run(asked.at(lengths=unequal, capacity=capacity), how, 1)
    assert tight.high > capacity, "more than there is, where it does not fit"
    with pytest.raises(Unsupported, match="several passes"):
        reserved_over_run(asked.at(lengths=unequal, accumulate=2), how, 1)
