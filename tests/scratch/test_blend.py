"""Blends from scratch are those of PEFT, to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import merge_utils
from torch import nn

from peft_lab.scratch import blend


def tasks() -> torch.Tensor:
    deltas = torch.randn(3, 12, 20, generator=torch.Generator().manual_seed(0))
    deltas[:, :2] = 0  # entries that no task has changed
    deltas[:, 2] = torch.tensor([1.5, -1.5, 0.0])[:, None]  # and such that cancel out
    return deltas


WEIGHTS = torch.tensor([1.0, 0.7, -0.4])


@pytest.mark.parametrize("share", [0.2, 0.55])
@pytest.mark.parametrize(
    "mine, theirs",
    [
        (blend.ties, merge_utils.ties),
        (blend.dare, merge_utils.dare_linear),
        (blend.dare_ties, merge_utils.dare_ties),
    ],
)
def test_blends_are_those_of_peft(mine: object, theirs: object, share: float) -> None:
    torch.manual_seed(1)
    expected = theirs(list(tasks()), WEIGHTS, share)  # type: ignore[operator]
    torch.manual_seed(1)
    assert torch.equal(mine(tasks(), WEIGHTS, share), expected)  # type: ignore[operator]
    assert torch.equal(
        blend.weighted_sum(tasks(), WEIGHTS), merge_utils.task_arithmetic(list(tasks()), WEIGHTS)
    )


@pytest.mark.parametrize("how", ["svd", "ties_svd"])
def test_a_blend_brought_back_to_a_rank_is_pefts_weighted_adapter(how: Any) -> None:
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["0"], init_lora_weights=False)
    model = get_peft_model(nn.Sequential(nn.Linear(20, 12)), config)
    model.add_adapter("second", config)
    inner: Any = model.base_model.model
    layer = inner[0]
    deltas = torch.stack([layer.get_delta_weight(name) for name in ("default", "second")]).detach()
    weights = torch.tensor([1.0, 0.5])
    model.add_weighted_adapter(
        ["default", "second"], [1.0, 0.5], "both", how, svd_rank=3, density=0.5, svd_full_matrices=False
    )
    whole = blend.weighted_sum(deltas, weights) if how == "svd" else blend.ties(deltas, weights, 0.5)
    A, B = blend.low_rank(whole, 3)
    torch.testing.assert_close(layer.get_delta_weight("both"), B @ A * layer.scaling["both"])
    lost = torch.linalg.svdvals(whole)[3:].square().sum().sqrt()
    torch.testing.assert_close((whole - B @ A).norm(), lost)
