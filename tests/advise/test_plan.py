"""What a plan for one step settles."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.advise import plan
from peft_lab.advise.recipes.recipe import LAB, RecipeSetting, recipe
from peft_lab.advise.recipes.rules import ADAMW, PAGED, job
from peft_lab.advise.simulating import Step
from peft_lab.core import units
from peft_lab.models.catalogue import get_model


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


def test_gradients_kept_between_passes_are_said_of_full_fine_tuning() -> None:
    shape = get_model("llama-3.2-1b").shape
    situation = SimpleNamespace(shape=shape, row_tokens=None, seq=512, devices=1, link="", purpose="sft")
    bf16 = units.size(2 * shape.total)

    def said(method: str, **how: Any) -> str:
        step = plan.StepPlan({}, 1, 512, True, **{"accumulate": 8, **how}, learning_rate=1e-5, needed_bytes=1,
                             memory_bytes=2, trainable=1, stored_bytes=1)  # fmt: skip
        return " ".join(plan._memory(situation, SimpleNamespace(method=method), step))  # type: ignore[arg-type]

    assert bf16 in said("full") and units.size(4 * shape.total) in said("full", remembered="float32")
    assert units.size(2 * shape.total // 4) in said("full", sharding="fsdp2", devices=4)
    assert bf16 not in said("lora") + said("full", accumulate=1)
