"""Products with reordered frozen weights are the plain ones to the bit, and are let go before weights change."""

from __future__ import annotations

import pytest

from peft_lab.core import machine
from peft_lab.training import prepacked

needs_bfloat16 = pytest.mark.skipif(
    not machine.in_use().computes_bfloat16() or machine.in_use().kind != "cpu",
    reason="products in bfloat16 are this processor's only where it has them",
)


def _loss(model: object, x: object) -> tuple[object, ...]:
    import torch

    assert isinstance(model, torch.nn.Module) and isinstance(x, torch.Tensor)
    model.zero_grad()
    loss = model(x).float().square().mean()
    loss.backward()
    with torch.no_grad():
        alone = model(x[:1])
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return (loss.detach(), alone, *grads)


def _model() -> tuple[object, object]:
    import torch

    torch.manual_seed(0)
    linear = torch.nn.Linear
    model = torch.nn.Sequential(
        linear(96, 192, bias=False),
        linear(192, 64),
        torch.nn.SiLU(),
        linear(64, 320, bias=False),
        linear(320, 8),
    ).bfloat16()
    for number in (1, 3):
        model[number].requires_grad_(False)
    model[0].requires_grad_(True)
    return model, torch.randn(5, 7, 96).bfloat16()


@needs_bfloat16
def test_reordered_products_give_the_same_loss_and_gradients() -> None:
    import torch

    model, x = _model()
    assert isinstance(model, torch.nn.Module)
    plain = _loss(model, x)
    release = prepacked.pack_frozen(model)
    # Neither a bias nor a trained weight.
    assert ["forward" in vars(module) for module in model.children()] == [False, False, False, True, False]
    packed = _loss(model, x)
    release()
    assert not any("forward" in vars(module) for module in model.modules())
    assert len(plain) == len(packed) == 5
    assert all(torch.equal(a, b) for a, b in zip(plain, packed, strict=True))  # type: ignore[arg-type]


@needs_bfloat16
def test_nothing_is_reordered_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    model, _ = _model()
    assert isinstance(model, torch.nn.Module)
    monkeypatch.setattr(machine, "free_memory", lambda: 1000)
    prepacked.pack_frozen(model)()
    assert not any("forward" in vars(module) for module in model.modules())
