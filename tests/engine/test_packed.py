"""A packed step: what is simulated is what a real one takes, mask and all."""

from __future__ import annotations

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.engine import account, running
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.simulate import simulate
from peft_lab.training.batches import Encoded, Packed, collate_packed, no_cache
from tests.engine import real, small

pytestmark = pytest.mark.filterwarnings("ignore")
LENGTH = 64


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma"])
def test_simulated_is_what_a_real_packed_step_takes(kind: str, checkpointing: bool) -> None:
    import torch

    blueprint = small.blueprint(
        kind, 3, small.adapter("LORA", kind, r=4), dtype=torch.float32, checkpointing=checkpointing
    )
    trace, _, _ = running.run(blueprint, StepSetting(2, LENGTH, packed=True, device="cpu"))
    found = max(point.nbytes for point in account.timeline(trace))
    rows = [Encoded(tuple(range(3, 3 + length)), 1) for length in (40, LENGTH - 40, 30, LENGTH - 30)]
    batch = collate_packed([Packed(tuple(rows[:2])), Packed(tuple(rows[2:]))], 0, "cpu")
    measured = max(point.nbytes for point in real.points(blueprint, batch, no_cache))
    assert found == pytest.approx(measured, rel=0.003)


def test_the_mask_of_packed_rows_is_in_the_figures() -> None:
    """Without it attention runs the kernel for rows that are not packed."""
    asked = StepRequest("smollm2-135m", "lora", {}, StepSetting(1, 512))
    plain, packed = simulate(asked), simulate(asked.at(packed=True))
    masks = 30 * 512 * 512 * 2  # each layer keeps one in 16 bits
    assert packed.parts["activations"] - plain.parts["activations"] > masks
    kinds = {op.kind for piece in packed.work[-1] for op, _ in piece.ops}
    assert "attention" in kinds


def test_packed_rows_are_neither_padded_nor_generated_from() -> None:
    with pytest.raises(BadInput, match="leave padding out"):
        StepSetting(1, 8, padded=True, packed=True).check()
    with pytest.raises(BadInput, match="generation"):
        StepSetting(1, 8, generate=(1, 1), packed=True).check()
