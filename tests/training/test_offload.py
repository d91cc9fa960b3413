"""What the backward pass needs in main memory: the same gradients, and as many bytes there as are simulated."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from peft_lab.core.errors import Unsupported
from peft_lab.engine import running, work
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.simulate import simulate, simulate_blueprint
from peft_lab.training.optimizers import LEAST, offloading, to_host
from tests.engine import real, small

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = ("llama", "gpt2", "gemma")


def batch() -> dict[str, Any]:
    ids = torch.arange(3, 67).repeat(2, 1)
    return {"input_ids": ids, "labels": ids.clone()}


def blueprint(kind: str, checkpointing: bool) -> Any:
    adapter = small.adapter("LORA", kind, r=4)
    return small.blueprint(kind, 3, adapter, dtype=torch.float32, checkpointing=checkpointing)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_same_and_as_many_bytes_leave_as_are_simulated(
    kind: str, checkpointing: bool
) -> None:
    here = real.built(blueprint(kind, checkpointing)).train()
    away = copy.deepcopy(here)
    torch.manual_seed(0)  # of dropout
    here(**batch()).loss.backward()
    left: list[torch.Tensor] = []

    def leave(tensor: torch.Tensor) -> torch.Tensor:
        left.append(tensor)
        return to_host(tensor)

    torch.manual_seed(0)
    with offloading(away, leave):
        away(**batch()).loss.backward()
    for first, second in zip(here.parameters(), away.parameters(), strict=True):
        assert (first.grad is None) == (second.grad is None)
        assert first.grad is None or torch.equal(first.grad, second.grad)
    own = {parameter.untyped_storage().data_ptr() for parameter in away.parameters()}
    assert left and not {tensor.untyped_storage().data_ptr() for tensor in left} & own
    assert min(tensor.nbytes for tensor in left) >= LEAST
    setting = StepSetting(2, 64, offload=True, device="cpu")
    found = simulate_blueprint(blueprint(kind, checkpointing), setting, kind, "test", works=False)
    assert found.host_bytes == sum(tensor.nbytes for tensor in left)


def test_the_device_needs_less_and_the_copies_take_time() -> None:
    asked = StepRequest("smollm2-135m", "lora", {}, StepSetting(1, 2048, loss="chunked"), checkpointing=True)
    here, away = simulate(asked), simulate(asked.at(offload=True))
    inputs = 30 * 2048 * 576 * 2  # of every layer, in 16 bits
    assert away.unrolled and inputs <= away.host_bytes < 1.2 * inputs
    assert here.parts["activations"] - away.parts["activations"] > 0.9 * inputs
    assert here.host_bytes == work.left(here.work[-1]) == 0
    copied = sum(
        op.nbytes * count * piece.times
        for piece in away.work[-1]
        for op, count in piece.ops
        if op.kind == "offload"
    )
    assert copied == 2 * away.host_bytes, "there and back"


def test_five_layers_stand_for_all_also_where_tensors_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = small.blueprint("llama", 9, small.adapter("LORA", r=4), checkpointing=True)
    setting = StepSetting(2, 32, offload=True)
    few = simulate_blueprint(deep, setting, "llama", "test")
    monkeypatch.setattr(running, "DEPTH", 99)
    all_ = simulate_blueprint(deep, setting, "llama", "test")
    assert few.unrolled and not all_.unrolled
    assert (few.host_bytes, few.peak_bytes) == (all_.host_bytes, all_.peak_bytes)


def test_split_weights_are_refused() -> None:
    from peft_lab.engine.sharding.simulate import simulate_sharded
    from peft_lab.engine.sharding.wrap import Sharding

    asked = StepRequest("smollm2-135m", "lora", {}, StepSetting(1, 64, offload=True), checkpointing=True)
    with pytest.raises(Unsupported, match="one of the two"):
        simulate_sharded(asked, Sharding("fsdp2", 2))
