"""What of a step waits in main memory and is copied, read off its trace: the parts that the whole is known of."""

from __future__ import annotations

import pytest

from peft_lab.engine import running
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.sharding.simulate import ShardedResult, simulate_sharded
from peft_lab.engine.sharding.watch import Aside
from peft_lab.engine.sharding.wrap import Sharding

MODEL, LAYERS, WIDTH, TOKENS, ROWS = "qwen2.5-0.5b", 24, 896, 64, 2


def ask(method: str, how: Sharding, offload: bool = False) -> ShardedResult:
    setting = StepSetting(batch=ROWS, seq=TOKENS, offload=offload)
    return simulate_sharded(StepRequest(MODEL, method, {}, setting, checkpointing=True), how)


def by_phase(found: ShardedResult) -> dict[str, Aside]:
    return {one.phase: one for one in found.aside}


@pytest.mark.parametrize(("method", "devices"), [("lora", 2), ("full", 3), ("qlora", 2)])
def test_shares_that_wait_add_up_to_what_is_known_of_the_whole(method: str, devices: int) -> None:
    """Main memory's bytes come from the optimizer's parameters, copied ones from what is gathered and summed up: none
    of them is asked here."""
    found = ask(method, Sharding("fsdp2", devices, offload=True))
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
    found = ask("lora", Sharding("ddp", 2), offload=True)
    phases = by_phase(found)
    inputs = LAYERS * ROWS * TOKENS * WIDTH * 2
    assert phases["forward"].layers == phases["backward"].layers == inputs
    assert phases["forward"].taken == phases["backward"].brought > inputs
    assert phases["forward"].held == {"activations": phases["forward"].taken} == phases["backward"].held
    assert not phases["forward"].brought and not phases["backward"].taken
    assert not phases["zero_grad"].held and not phases["optimizer"].held


def test_of_a_step_that_keeps_all_on_its_devices_nothing_is_said() -> None:
    for how in (Sharding("fsdp2", 2), Sharding("ddp", 2)):
        assert ask("lora", how).aside == ()


@pytest.mark.slow
def test_a_few_layers_show_what_all_of_them_keep_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [("lora", Sharding("fsdp2", 2, offload=True), False), ("lora", Sharding("ddp", 2), True)]
    short = [ask(*one) for one in asked]
    assert all(one.unrolled for one in short)
    monkeypatch.setattr(running, "_unrolled", lambda *_: None)
    deep = [ask(*one) for one in asked]
    assert [one.aside for one in short] == [one.aside for one in deep]
