"""What a plan for one step settles."""

from __future__ import annotations

import inspect

import pytest

from peft_lab.advise import plan
from peft_lab.advise.recipes.recipe import LAB, RecipeSetting, recipe
from peft_lab.advise.recipes.rules import ADAMW, PAGED, job
from peft_lab.advise.simulating import Step
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
