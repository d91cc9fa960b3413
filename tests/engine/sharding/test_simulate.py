"""A step on several devices, simulated: like real processes, like itself at its own depth, what waits, and a run."""

from __future__ import annotations

from functools import cache

import pytest

from bench import sharded_peaks
from peft_lab.core.errors import BadInput, Unsupported
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
from peft_lab.engine.sharding.wrap import Sharding, sharding_notes
from tests.engine import small

# -- A step on several devices, simulated: like real processes, and like itself at its own depth.

MODEL = "qwen2.5-0.5b"


@cache
def ask(method: str, how: Sharding, optimizer: str = "adamw", offload: bool = False) -> ShardedResult:
    setting = StepSetting(batch=2, seq=64, optimizer=optimizer, offload=offload)
    return simulate_sharded(StepRequest(MODEL, method, {}, setting, checkpointing=True), how)


def most(result: ShardedResult, part: str) -> int:
    return max(point.parts[part] for point in result.points)


def sent(result: ShardedResult, kind: str) -> int:
    return sum(each.nbytes for each in result.exchanges if each.kind == kind)


@pytest.mark.sampled(8)
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
    short = ask.__wrapped__(method, how)
    assert short.unrolled
    monkeypatch.setattr(running, "_unrolled", lambda *_: None)
    deep = ask.__wrapped__(method, how)
    assert not deep.unrolled
    for name in ("peak_bytes", "reserved_bytes", "host_bytes", "parts", *(("aside",) if how.offload else ())):
        assert getattr(short, name) == getattr(deep, name), name
    assert [(e.kind, e.count) for e in short.exchanges] == [(e.kind, e.count) for e in deep.exchanges]
    assert sum(held.nbytes for held in short.peak) == short.peak_bytes


def test_what_is_split_is_split_and_sent_as_theory_says() -> None:
    """Sharded wrappers divide the parts of the peak and send the weights as often as they are read."""
    one, split = ask("full", Sharding("none", 1)), ask("full", Sharding("fsdp2", 4))
    assert tuple(split.parts) == SHARDED_PARTS and split.aside == ()
    assert sum(split.parts.values()) == split.peak_bytes == max(p.nbytes for p in split.points)
    assert split.reserved_bytes is not None and split.reserved_bytes > split.peak_bytes
    for part in ("weights", "optimizer"):
        assert most(one, part) == pytest.approx(4 * most(split, part), rel=1e-3)
    # Layers are gathered twice, embeddings once: they stay whole from forward to backward.
    weights = most(one, "weights")
    assert weights < sent(split, "all-gather") < 2 * weights
    kept, passes = (ask("full", Sharding("zero2", 4, accumulate=many)) for many in (1, 3))
    assert sent(kept, "all-gather") == pytest.approx(weights, rel=1e-3)
    assert sent(kept, "reduce-scatter") == pytest.approx(weights, rel=1e-3)
    assert sent(passes, "reduce-scatter") == 3 * sent(kept, "reduce-scatter")
    whole, states = ask("full", Sharding("ddp", 4)), ask("full", Sharding("zero1", 4))
    assert sent(whole, "all-reduce") == pytest.approx(weights, rel=1e-3)
    assert most(whole, "weights") == most(states, "weights") == weights
    assert most(whole, "gradients") == most(states, "gradients") and not states.unrolled
    # The largest parameter is a quarter of the model, and nobody shares it.
    assert 0.25 * most(whole, "optimizer") <= most(states, "optimizer") < 0.4 * most(whole, "optimizer")


def test_zero_2_leaves_frozen_weights_whole() -> None:
    whole, split, sharded = (
        ask("lora", Sharding(*kind)) for kind in (("none", 1), ("zero2", 4), ("fsdp2", 4))
    )
    assert most(split, "weights") == most(whole, "weights") > 3 * most(sharded, "weights")
    assert most(split, "gathered") < most(whole, "adapter") + 2**16 < most(sharded, "gathered")
    for part in ("adapter", "optimizer"):
        assert most(split, part) == pytest.approx(most(whole, part) / 4, rel=0.01)


@pytest.mark.parametrize(
    ("how", "field", "optimizer", "said"),
    [
        (Sharding("dp", 2), "sharding", "adamw", "dp"),
        (Sharding("fsdp2", 0), "devices", "adamw", "from 1"),
        (Sharding("none", 2), "sharding", "adamw", "share"),
        (Sharding("ddp", 2, offload=True), "sharding", "adamw", "only for"),
        (Sharding("ddp", 2, bucket_mb=0), "bucket_mb", "adamw", "range"),
        (Sharding("ddp", 2, accumulate=0), "accumulate", "adamw", "range"),
        (Sharding("fsdp2", 2), "optimizer", "adamw8bit", "8-bit"),
        (Sharding("zero1", 2), "optimizer", "adamw8bit", "8-bit"),
        (Sharding("fsdp2", 2), "optimizer", "adafactor", "squares a norm"),
        (Sharding("fsdp2", 2), "optimizer", "muon", "whole matrices"),
        (Sharding("fsdp2", 2), "optimizer", "lorafa", "torch refuses"),
        (Sharding("ddp", 2), "optimizer", "lorafa", "DDP waits"),
    ],
)
def test_what_cannot_be_meant_or_is_not_simulated_is_refused(
    how: Sharding, field: str, optimizer: str, said: str
) -> None:
    with pytest.raises(BadInput, match=said) as error:
        ask("lora", how, optimizer)
    assert error.value.field == field


def test_an_optimizer_that_needs_whole_matrices_has_them_where_nothing_is_split() -> None:
    usual, other = (ask("lora", Sharding("ddp", 2), name).points[-1].parts for name in ("adamw", "adafactor"))
    assert 0 < other["optimizer"] < usual["optimizer"]


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


@pytest.mark.slow
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


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("method", "devices"), [("full", 3), ("lora", 2), ("qlora", 2)])
def test_shares_that_wait_add_up_to_what_is_known_of_the_whole(method: str, devices: int) -> None:
    """Main memory's bytes come from the optimizer's parameters, copied ones from what is gathered and summed up: none
    of them is asked here."""
    found = ask(method, Sharding("fsdp2", devices, offload=True))
    phases = {one.phase: one for one in found.aside}
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
    assert here.get("logits", 0) + here["activations"] == pytest.approx(2 * 64 * 151_936 * 2, rel=0.1)


def test_each_layers_input_leaves_and_comes_back() -> None:
    phases = {one.phase: one for one in ask("lora", Sharding("ddp", 2), offload=True).aside}
    inputs = 24 * 2 * 64 * 896 * 2  # layers, rows, tokens, width and bytes of a number
    assert phases["forward"].layers == phases["backward"].layers == inputs
    assert phases["forward"].taken == phases["backward"].brought > inputs
    assert phases["forward"].held == {"activations": phases["forward"].taken} == phases["backward"].held
    assert not phases["forward"].brought and not phases["backward"].taken
    assert not phases["zero_grad"].held and not phases["optimizer"].held


# -- What each of several devices reserves over a run of rows of unequal length.


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(Sharding("fsdp2", 4), marks=pytest.mark.slow),
        pytest.param(Sharding("ddp", 2), marks=pytest.mark.rest),
        pytest.param(Sharding("zero2", 4), marks=pytest.mark.rest),
        pytest.param(Sharding("fsdp2", 2, offload=True), marks=pytest.mark.rest),
        pytest.param(Sharding("tp", 2), marks=pytest.mark.rest),
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


@pytest.mark.slow
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
