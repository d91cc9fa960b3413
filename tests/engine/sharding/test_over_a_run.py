"""What each of several devices reserves over a run of rows of unequal length."""

from __future__ import annotations

import pytest

from peft_lab.core.errors import Unsupported
from peft_lab.engine import account
from peft_lab.engine.account import CachingAllocator
from peft_lab.engine.over_a_run import Steps, steps_at
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.sharding.simulate import reserved_over_run, simulate_sharded, traced
from peft_lab.engine.sharding.wrap import Sharding
from tests.engine import small


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
