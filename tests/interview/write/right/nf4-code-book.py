# kata: nf4-code-book

from statistics import NormalDist

import torch


def normal_float(bits, offset):
    half = 2 ** (bits - 1)
    q = NormalDist().inv_cdf
    positive = [q(offset + (0.5 - offset) * i / half) for i in range(half)]
    negative = [-q(offset + (0.5 - offset) * i / (half - 1)) for i in range(half - 1)]
    table = sorted([*negative, 0.0, *positive])
    return torch.tensor(table) / max(table)
