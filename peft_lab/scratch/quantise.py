"""NF4 with double quantisation from scratch: QLoRA's 4-bit weights (Dettmers et al. 2023, arXiv 2305.14314, section 3).

    W ~ code[q] * absmax        q: 4 bits a weight        absmax: one number per block of 64 weights
    absmax ~ code8[q8] * absmax8 + mean                   q8: 8 bits a block, absmax8: one number per 256 blocks

    weights    | 64 | 64 | 64 | ...     32 bits each
                  |
                  |  / absmax, then the nearest of 16 values
                  v
    q          |0110|1011|...           4 bits a weight, two in a byte
    absmax     | 0.12 | 0.09 | ...      32 bits a block        4 + 32/64 = 4.5 bits a weight
                  |
                  |  - mean, / absmax8, then the nearest of 256 values
                  v
    q8         |01101001|...            8 bits a block         4 + 8/64 + 32/(64 * 256) = 4.127 bits a weight

The 16 values are quantiles of a normal distribution, because trained weights are nearly normal.

    python -m peft_lab.scratch.quantise FOLDER_OF_MODEL
"""

import sys
from statistics import NormalDist
from typing import NamedTuple

import torch

BLOCK = 64  # weights that share one absmax
BLOCK8 = 256  # values of absmax that share one absmax8


def nf4_code() -> torch.Tensor:
    """Return the 16 values of NF4, from -1 to 1: quantiles of the normal distribution, 8 above zero and 7 below."""
    most = 0.9677083  # (1 - 1/32 + 1 - 1/30) / 2: the quantile that becomes 1, since that of 1 is infinite
    quantile = NormalDist().inv_cdf
    positive = [quantile(p) for p in torch.linspace(most, 0.5, 9)[:-1].tolist()]
    negative = [-quantile(p) for p in torch.linspace(most, 0.5, 8)[:-1].tolist()]
    code = torch.tensor(sorted([*negative, 0.0, *positive]))  # (16,)
    return code / code.max()


def dynamic_code() -> torch.Tensor:
    """Return the 256 values that hold absmax: a sign, a power of ten, and evenly spaced fractions.

    The larger the power, the more bits are left for the fraction (Dettmers 2016, arXiv 1511.04561).
    """
    values = [torch.tensor([0.0, 1.0])]
    for i in range(7):  # powers from 1e-6 to 1
        edges = torch.linspace(0.1, 1, 2**i + 1)  # (2^i + 1,)
        middles = (edges[:-1] + edges[1:]) / 2  # (2^i,)
        values += [10.0 ** (i - 6) * middles, -(10.0 ** (i - 6)) * middles]
    return torch.cat(values).sort().values  # (256,)


def to_blocks(x: torch.Tensor, code: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale every block into -1 to 1 and round it to the nearest values of the code.

    Returns the indices of those values, (n,), and the largest magnitude of every block, (n / block,).
    """
    n = x.numel()
    padded = torch.nn.functional.pad(x.flatten(), (0, -n % block))  # the last block may be short
    blocks = padded.view(-1, block)  # (n / block, block)
    absmax = blocks.abs().amax(dim=1)  # (n / block,)
    scaled = blocks * (1 / absmax.clamp(min=1e-38))[:, None]  # (n / block, block), from -1 to 1
    borders = (code[:-1] + code[1:]) / 2  # halfway between neighbours
    return torch.bucketize(scaled, borders).flatten()[:n], absmax


def from_blocks(q: torch.Tensor, absmax: torch.Tensor, code: torch.Tensor, block: int) -> torch.Tensor:
    """Return the values that `to_blocks` rounded to, (n,)."""
    return code[q] * absmax.repeat_interleave(block)[: len(q)]


class NF4(NamedTuple):
    """A tensor in 4 bits.

    packed: (n / 2,) bytes, two weights in each. q8: (n / 64,) bytes. absmax8: (n / 64 / 256,). mean: a scalar.
    """

    packed: torch.Tensor
    q8: torch.Tensor
    absmax8: torch.Tensor
    mean: torch.Tensor
    shape: torch.Size


def quantise(W: torch.Tensor) -> NF4:
    """Store an even number of float32 weights in 4 bits each."""
    q, absmax = to_blocks(W, nf4_code(), BLOCK)  # (n,), (n / 64,)
    q = q.to(torch.uint8)
    packed = q[0::2] << 4 | q[1::2]  # (n / 2,): the first of two weights in the upper four bits
    mean = absmax.mean()  # absmax is positive; around its mean both signs of the code are used
    q8, absmax8 = to_blocks(absmax - mean, dynamic_code(), BLOCK8)
    return NF4(packed, q8.to(torch.uint8), absmax8, mean, W.shape)


def dequantise(x: NF4) -> torch.Tensor:
    """Return the weights that are closest to the original ones, in float32."""
    absmax = from_blocks(x.q8.long(), x.absmax8, dynamic_code(), BLOCK8) + x.mean  # (n / 64,)
    q = torch.stack([x.packed >> 4, x.packed & 15], dim=1).flatten()  # (n,)
    return from_blocks(q.long(), absmax, nf4_code(), BLOCK).view(x.shape)


if __name__ == "__main__":
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    for path, W in model.named_parameters():
        if W.dim() == 2 and "proj" in path:
            x = quantise(W.data)
            bits = 8 * sum(tensor.nbytes for tensor in x[:4]) / W.numel()
            error = (dequantise(x) - W.data).norm() / W.data.norm()
            print(f"{path}: {bits:.3f} bits a weight, error {error:.1%}")
