"""Sums that need float64 are done on the processor: Apple's GPUs have none, and raise."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from peft_lab.methods.adapters import recording as insight
from peft_lab.methods.shared.virtual_tokens import start_as_words


@pytest.fixture(autouse=True)
def without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor behaves as if on a GPU without float64 until it has been moved by ``cpu()``."""
    import torch

    moved: list[torch.Tensor] = []  # kept alive, so that no later tensor takes the place of one
    cpu, double = torch.Tensor.cpu, torch.Tensor.double

    def to_processor(tensor: torch.Tensor) -> torch.Tensor:
        moved.append(cpu(tensor).clone())
        return moved[-1]

    def as_float64(tensor: torch.Tensor) -> torch.Tensor:
        if not any(tensor is one for one in moved):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return double(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", to_processor)
    monkeypatch.setattr(torch.Tensor, "double", as_float64)


def test_a_prompt_encoder_starts_as_words() -> None:
    import torch

    encoder = torch.nn.Module()
    encoder.embedding = torch.nn.Embedding(4, 8)
    encoder.mlp_head = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 6))
    words = torch.nn.Embedding(20, 6)
    base = SimpleNamespace(get_input_embeddings=lambda: words)
    model = SimpleNamespace(prompt_encoder={"default": encoder}, get_base_model=lambda: base)
    start_as_words(model, [1, 2, 3, 4])
    made = encoder.mlp_head(encoder.embedding.weight)
    assert torch.allclose(made, words.weight[1:5], atol=1e-4)


def test_linear_maps_are_fitted_and_put_in_an_adapters_place() -> None:
    import torch

    x, y = torch.randn(30, 5), torch.randn(30, 3)
    line = insight.fit(x, y)
    assert line(x).shape == y.shape
    assert 0 < insight.missed(line, x, y) <= 1
    module = SimpleNamespace(down=torch.nn.Linear(5, 2), up=torch.nn.Linear(2, 3))
    straight = insight._without_function(module, x)
    assert torch.allclose(straight.float(), module.up(module.down(x)), atol=1e-5)
