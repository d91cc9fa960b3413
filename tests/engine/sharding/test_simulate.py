"""A step on several devices, simulated: like real processes, and like itself at its own depth."""

from __future__ import annotations

import pickle

import pytest

from bench import sharded_peaks
from peft_lab.core.errors import BadInput, Unsupported
from peft_lab.core.inspector import question_key
from peft_lab.engine import running
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.sharding.simulate import SHARDED_PARTS, ShardedResult, simulate_sharded
from peft_lab.engine.sharding.wrap import Sharding, sharding_notes

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
