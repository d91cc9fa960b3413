"""The work that is counted from a shape, beside the traced work of the same steps."""

from __future__ import annotations

import pytest

from peft_lab.advise.room import COUNTED
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.simulate import simulate
from peft_lab.engine.timing import estimate
from peft_lab.methods import get_method
from peft_lab.models.catalogue import resolve


@pytest.mark.sampled(3)
@pytest.mark.parametrize("gpu", ["l40s", "h100"])
@pytest.mark.parametrize(
    ("model", "method", "batch", "length", "checkpointing"),
    [
        ("llama-3.2-3b", "lora", 4, 240, False),
        ("llama-3.2-3b", "full", 4, 240, False),
        ("llama-3.1-8b", "lora", 2, 2048, True),
        ("llama-3.1-8b", "qlora", 2, 2048, True),
        ("llama-3.1-8b", "qlora", 1, 512, False),
        ("qwen2.5-0.5b", "lora", 4, 512, False),
        ("roberta-base", "lora", 16, 128, False),
    ],
)
def test_counted_is_near_traced(
    model: str, method: str, batch: int, length: int, checkpointing: bool, gpu: str
) -> None:
    shape, spec = resolve(model).shape, get_method(method)
    setting = StepSetting(batch, length, capability=(8, 9))
    asked = StepRequest(model, method, {}, setting, checkpointing=checkpointing)
    formula = spec.formula(shape, spec.defaults(shape))
    full = method == "full"
    adapted = 0.0 if full else estimate.adapted_maps(formula)
    work = estimate.counted_work(
        shape, formula.trainable, batch, length, adapted, full, method == "qlora", checkpointing
    )
    ratio = estimate.seconds(simulate(asked).work[-1], gpu).value / estimate.seconds(work, gpu).value
    assert COUNTED[0] <= ratio <= COUNTED[1]
