"""What a plan for one step settles."""

from __future__ import annotations

import inspect

import pytest

from peft_lab.choose import plan
from peft_lab.choose.step import Step
from peft_lab.recipes.recipe import Setting
from peft_lab.recipes.stepping import ADAMW, PAGED


@pytest.mark.parametrize(("name", "of"), [("adafactor", "Adafactor"), ("sgd", "SGD")])
def test_torchs_own_rates_are_torchs(name: str, of: str) -> None:
    import torch

    defaults = inspect.signature(getattr(torch.optim, of)).parameters
    assert plan._TORCHS[name][0] == defaults["lr"].default


@pytest.mark.parametrize(
    ("simulated", "recipe", "settled"),
    [("adamw", PAGED, ADAMW), ("adamw", ADAMW, ADAMW), ("paged_adamw8bit", PAGED, "paged_adamw8bit")],
)
def test_the_optimizer_that_is_said_is_the_one_that_was_simulated(
    simulated: str, recipe: str, settled: str
) -> None:
    step = Step(1, False, 1, 1, simulated, "bfloat16", "none")
    said = Setting("optimizer", recipe, None, (), (), "cited", "", "")
    assert plan._optimizer(step, said, "Simulated").value == settled
