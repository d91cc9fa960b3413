"""What a plan for one step settles."""

from __future__ import annotations

import inspect

import pytest

from peft_lab.choose import plan


@pytest.mark.parametrize(("name", "of"), [("adafactor", "Adafactor"), ("sgd", "SGD")])
def test_torchs_own_rates_are_torchs(name: str, of: str) -> None:
    import torch

    defaults = inspect.signature(getattr(torch.optim, of)).parameters
    assert plan._TORCHS[name][0] == defaults["lr"].default
