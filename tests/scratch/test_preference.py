"""DPO's and GRPO's losses from scratch, beside TRL's.

The numbers are TRL 1.16.0's, which is not installed here: ``DPOTrainer._compute_loss`` and
``GRPOTrainer._compute_loss`` were called on these log probabilities and masks, and ``nanstd`` on the rewards.
"""

from __future__ import annotations

import math

import pytest
import torch

from peft_lab.scratch.preference import advantages, dpo_loss, grpo_loss, log_probabilities

IDS = torch.tensor([[1, 4, 2, 6, 3, 0], [1, 4, 5, 5, 2, 1], [1, 4, 6, 0, 0, 0], [1, 4, 3, 2, 6, 0]])
MASK = torch.tensor([[0, 1, 1, 1, 0], [0, 1, 1, 1, 1], [0, 1, 0, 0, 0], [0, 1, 1, 1, 0]])
REWARDS = torch.tensor([[1.0, 0.0, 0.5, 0.25]])
TRL_DPO, TRL_GRPO = 0.730188250541687, -0.017651759088039398
TRL_ADVANTAGES = [1.3171565532684326, -1.024455189704895, 0.14635072648525238, -0.43905219435691833]


def logits(shift: float) -> torch.Tensor:
    number = torch.arange(4 * 6 * 7, dtype=torch.float32).view(4, 6, 7)
    return 2 * torch.sin(number * number * 0.37 + shift)


def of_policy(shift: float) -> torch.Tensor:
    return log_probabilities(logits(shift), IDS)


def test_losses_are_trls() -> None:
    """The ratios go from 0.78 to 1.25, so that some are clipped at 0.2."""
    pi, old, ref = of_policy(0.0), of_policy(0.1), of_policy(0.2)
    assert float(dpo_loss(pi, ref, MASK, beta=0.3)) == pytest.approx(TRL_DPO, abs=1e-6)
    A = advantages(REWARDS)
    assert A[0].tolist() == pytest.approx(TRL_ADVANTAGES, abs=1e-6)
    assert float(grpo_loss(pi, old, ref, A[0], MASK, eps=0.2, beta=0.04)) == pytest.approx(TRL_GRPO, abs=1e-6)


def test_what_the_file_says_of_the_start() -> None:
    pi = of_policy(0.0)
    assert float(dpo_loss(pi, pi, MASK, beta=0.3)) == pytest.approx(math.log(2))
    A = advantages(torch.tensor([[0.5, 0.5, 0.5, 0.5]]))
    assert not A.any()
    assert float(grpo_loss(pi, pi, pi, advantages(REWARDS)[0], MASK, 0.2, 0.04)) == pytest.approx(0, abs=1e-6)


def test_a_clipped_answer_has_no_gradient_and_padding_never_has_one() -> None:
    old = of_policy(0.0)
    pi = (old + 0.5).requires_grad_()  # every ratio is 1.65
    loss = grpo_loss(pi, old, old, torch.tensor([1.0, -1.0, 1.0, -1.0]), MASK, eps=0.2, beta=0.0)
    (gradient,) = torch.autograd.grad(loss, pi)
    assert not gradient[[0, 2]].any() and gradient[[1, 3]][MASK[[1, 3]] == 1].all()
    assert not gradient[MASK == 0].any()


def test_log_probabilities_are_those_of_the_models_loss() -> None:
    expected = torch.nn.functional.cross_entropy(logits(0.0)[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
    torch.testing.assert_close(-of_policy(0.0).mean(), expected)
