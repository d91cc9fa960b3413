"""A LoRA step under FSDP from scratch: every rank holds a part of each parameter (Zhao et al. 2023, arXiv 2304.11277).

    rank 0   [a0] ------------> [a0 a1] -- forward, backward --> [g g] ----------------> [g0]
    rank 1   [a1] ------------> [a0 a1] -- forward, backward --> [g g] ----------------> [g1]    mean over ranks
                   all-gather                                          reduce-scatter

    held always: 1/N of W0, A and B, of the gradients of A and B, and of AdamW's two numbers for each
    held while a layer computes: the whole of that layer's W0, A and B, in the forward and again in the backward pass

Every rank reads rows of its own. After the step all parts together are what one process would have with all rows: the
mean of the ranks' mean losses is the mean over all rows. Ranks are threads here, which swap tensors through a list; on
GPUs they are processes, and NCCL sends the same parts through cables.

    python -m peft_lab.scratch.sharded
"""

from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Layer = dict[str, Tensor]  # W0: (d, d), frozen; A: (r, d) and B: (d, r), trained
SCALE = 2.0  # alpha / r


class Ranks:
    """N threads that wait for each other to swap tensors."""

    def __init__(self, N: int) -> None:
        self.N = N
        self.slots = [torch.empty(0)] * N
        self.barrier = Barrier(N, timeout=60)

    def swap(self, rank: int, mine: Tensor) -> list[Tensor]:
        self.slots[rank] = mine
        self.barrier.wait()  # until all have put theirs
        everyone = list(self.slots)
        self.barrier.wait()  # until all have read
        return everyone

    def all_gather(self, rank: int, part: Tensor) -> Tensor:
        """Return all ranks' parts in a row: (n / N,) to (n,)."""
        return torch.cat(self.swap(rank, part))

    def reduce_scatter(self, rank: int, whole: Tensor) -> Tensor:
        """Return this rank's part of the mean over ranks: (n,) to (n / N,)."""
        return torch.stack([other.chunk(self.N)[rank] for other in self.swap(rank, whole)]).mean(dim=0)


class Gather(torch.autograd.Function):
    """All-gather going forward; going backward, for what is trained, reduce-scatter."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks, rank: int) -> Tensor:
        ctx.ranks, ctx.rank = ranks, rank
        return ranks.all_gather(rank, part)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.ranks.reduce_scatter(ctx.rank, gradient), None, None


def shard(layer: Layer, rank: int, N: int) -> Layer:
    """Return a rank's part of each parameter, flattened: n / N numbers of n (N has to divide n)."""
    parts = {name: whole.detach().flatten().chunk(N)[rank].clone() for name, whole in layer.items()}
    return {name: part.requires_grad_(name != "W0") for name, part in parts.items()}


def loss_of(
    layers: list[Layer],
    x: Tensor,
    y: Tensor,
    r: int,
    gather: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return the mean squared error of a stack of LoRA layers, whose parameters `gather` makes whole.

    x, y: (rows, d).
    """

    def forward(x: Tensor, layer: Layer) -> Tensor:
        d = x.shape[1]
        W0 = gather(layer["W0"]).view(d, d)
        A, B = gather(layer["A"]).view(r, d), gather(layer["B"]).view(d, r)
        return torch.tanh(x @ W0.T + SCALE * (x @ A.T @ B.T))  # (rows, d)

    for layer in layers:
        # W0, A and B are dropped after each call; going backward, checkpoint calls again and so gathers again.
        x = checkpoint(forward, x, layer, use_reentrant=False)
    return (x - y).square().mean()


def step(ranks: Ranks, rank: int, parts: list[Layer], x: Tensor, y: Tensor, r: int) -> None:
    """Make a rank's step: forward, backward and AdamW on its own parts, with its own rows."""
    trained = [part for layer in parts for part in layer.values() if part.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)  # works number by number, so parts are enough
    loss_of(parts, x, y, r, lambda part: Gather.apply(part, ranks, rank)).backward()
    optimizer.step()


if __name__ == "__main__":
    N, d, r = 4, 64, 4
    layers = [
        {"W0": torch.randn(d, d) / 8, "A": torch.randn(r, d) / 8, "B": torch.randn(d, r) / 8}
    ] * 3  # equal
    x, y = torch.randn(32, d), torch.randn(32, d)
    whole = [shard(layer, 0, 1) for layer in layers]  # one rank that has all
    loss_of(whole, x, y, r, lambda part: part).backward()

    ranks, xs, ys = Ranks(N), x.chunk(N), y.chunk(N)
    parts = [[shard(layer, rank, N) for layer in layers] for rank in range(N)]
    threads = [Thread(target=step, args=(ranks, i, parts[i], xs[i], ys[i], r)) for i in range(N)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("A", "B"):
        gradient = torch.cat([parts[rank][0][name].grad for rank in range(N)])
        print(f"{name}: largest difference of gradients {(gradient - whole[0][name].grad).abs().max():.1e}")
