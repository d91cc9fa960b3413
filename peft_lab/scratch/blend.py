"""Blends of several LoRAs from scratch: TIES, DARE and SVD, as in PEFT's `add_weighted_adapter`.

    deltas                 keep a share            elect a sign           average what agrees
    task 1  +3 -1 +2       +3  .  +2
    task 2  -2 -4 +1       -2 -4   .               +   -   +              3    -4    2
    task 3   .  .  .        .  .   .               (sign of the sum)      (only those with that sign)

TIES (Yadav et al. 2023, arXiv 2306.01708) keeps the largest entries; DARE (Yu et al. 2023, arXiv 2311.03099) keeps
random ones and divides them by the share, so that the expected value stays. What comes out of a blend has a high rank:
the singular value decomposition gives the closest matrix of rank r again as a pair A, B.

    delta_t = scale_t B_t A_t        sum of w_t delta_t ~ B A,  B = U S: d_out x r,  A = V^T: r x d_in

    python -m peft_lab.scratch.blend
"""

import torch


def keep_largest(delta: torch.Tensor, share: float) -> torch.Tensor:
    """Return the tensor with all but its largest entries set to zero: TIES' trim."""
    kept = delta.abs().flatten().topk(int(share * delta.numel())).indices  # (share * n,)
    mask = torch.zeros(delta.numel())
    mask[kept] = 1
    return delta * mask.view(delta.shape)


def keep_random(delta: torch.Tensor, share: float) -> torch.Tensor:
    """Return the tensor with random entries set to zero and the others divided by the share: DARE."""
    mask = torch.bernoulli(torch.full_like(delta, share))
    return delta * mask / share


def weighted_sum(deltas: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the sum of all tasks' deltas, each times its weight: task arithmetic.

    deltas: (tasks, d_out, d_in). weights: (tasks,).
    """
    return (deltas * weights[:, None, None]).sum(dim=0)  # (d_out, d_in)


def elect_and_average(deltas: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the mean of the entries that have the elected sign, that of the sum over tasks: TIES' merge.

    deltas: (tasks, d_out, d_in), trimmed. weights: (tasks,), which have no say in the election.
    """
    elected = torch.where(deltas.sum(dim=0) >= 0, 1, -1)  # (d_out, d_in)
    agrees = deltas.sign() == elected  # (tasks, d_out, d_in); a zero agrees with nothing
    total = weighted_sum(deltas * agrees, weights)  # (d_out, d_in)
    return total / agrees.sum(dim=0).clamp(min=1)


def ties(deltas: torch.Tensor, weights: torch.Tensor, share: float) -> torch.Tensor:
    """Trim, elect, average: (tasks, d_out, d_in) to (d_out, d_in)."""
    return elect_and_average(torch.stack([keep_largest(delta, share) for delta in deltas]), weights)


def dare(deltas: torch.Tensor, weights: torch.Tensor, share: float) -> torch.Tensor:
    """Drop at random, rescale, add: (tasks, d_out, d_in) to (d_out, d_in)."""
    return weighted_sum(torch.stack([keep_random(delta, share) for delta in deltas]), weights)


def dare_ties(deltas: torch.Tensor, weights: torch.Tensor, share: float) -> torch.Tensor:
    """Drop at random, rescale, elect, average: (tasks, d_out, d_in) to (d_out, d_in)."""
    return elect_and_average(torch.stack([keep_random(delta, share) for delta in deltas]), weights)


def low_rank(delta: torch.Tensor, r: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A, (r, d_in), and B, (d_out, r), whose product B A is the closest of rank r (Eckart and Young 1936)."""
    U, S, Vt = torch.linalg.svd(delta, full_matrices=False)  # (d_out, k), (k,), (k, d_in)
    return Vt[:r], U[:, :r] * S[:r]


if __name__ == "__main__":
    d_out, d_in, r, scale = 32, 48, 4, 2.0
    deltas = torch.stack([scale * torch.randn(d_out, r) @ torch.randn(r, d_in) for _ in range(3)])
    weights = torch.tensor([1.0, 1.0, 1.0])
    for name, blended in (
        ("sum", weighted_sum(deltas, weights)),
        ("TIES", ties(deltas, weights, share=0.5)),
        ("DARE", dare(deltas, weights, share=0.5)),
        ("DARE, TIES", dare_ties(deltas, weights, share=0.5)),
    ):
        for rank in (r, 3 * r):
            A, B = low_rank(blended, rank)
            error = (B @ A - blended).norm() / blended.norm()
            print(f"{name}: rank {torch.linalg.matrix_rank(blended)}, at rank {rank} {error:.0%} are lost")
