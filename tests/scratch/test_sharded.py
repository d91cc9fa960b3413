"""A sharded step from scratch: its gradients and parameters are those of one process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from peft_lab.scratch import sharded
from peft_lab.scratch.sharded import Layer, Ranks, loss_of, shard, step

D, R, ROWS = 16, 4, 8
SHAPES = {"W0": (D, D), "A": (R, D), "B": (D, R)}


def layers() -> list[Layer]:
    random = torch.Generator().manual_seed(0)
    return [
        {name: torch.randn(shape, generator=random) / 4 for name, shape in SHAPES.items()} for _ in range(2)
    ]


@pytest.mark.parametrize("N", [1, 2, 4])
def test_all_parts_together_are_what_one_process_has(N: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(ROWS, D, generator=random), torch.randn(ROWS, D, generator=random)
    whole = [shard(layer, 0, 1) for layer in layers()]
    trained = [part for layer in whole for part in layer.values() if part.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    loss_of(whole, x, y, R, lambda part: part).backward()
    optimizer.step()

    swapped = {"all_gather": 0, "reduce_scatter": 0}
    for name in swapped:
        real = getattr(Ranks, name)

        def counted(
            self: Ranks, rank: int, tensor: torch.Tensor, name: str = name, real: object = real
        ) -> object:
            swapped[name] += (rank == 0) * tensor.numel()
            return real(self, rank, tensor)  # type: ignore[operator]

        monkeypatch.setattr(Ranks, name, counted)
    ranks, xs, ys = Ranks(N), x.chunk(N), y.chunk(N)
    parts = [[shard(layer, rank, N) for layer in layers()] for rank in range(N)]
    with ThreadPoolExecutor(N) as pool:
        list(pool.map(lambda rank: step(ranks, rank, parts[rank], xs[rank], ys[rank], R), range(N)))

    for number, layer in enumerate(whole):
        for name, full in layer.items():
            mine = [parts[rank][number][name] for rank in range(N)]
            assert all(part.numel() == full.numel() // N for part in mine)
            torch.testing.assert_close(torch.cat(mine), full, atol=1e-6, rtol=0)
            if name == "W0":
                assert all(part.grad is None for part in mine)
            else:
                gradient = torch.cat([part.grad for part in mine if part.grad is not None])
                torch.testing.assert_close(gradient, full.grad)
    adapters = len(layers()) * 2 * R * D
    assert swapped["reduce_scatter"] == adapters  # only what is trained, whole before it is parted
    assert swapped["all_gather"] == 2 * (adapters + len(layers()) * D * D) // N  # forward and backward


def test_only_the_adapters_are_trained() -> None:
    part = shard(layers()[0], 1, 4)
    assert [name for name, tensor in part.items() if tensor.requires_grad] == ["A", "B"]
    assert torch.equal(part["W0"], layers()[0]["W0"].flatten()[64:128])
    assert sharded.SCALE == 2.0
