# kata: lora-raise-rank
# slip: multiplies B by r / r' instead of r' / r
# named: ratio-upside-down

import torch


def raise_rank(A, B, extra, use_rslora):
    old = A.shape[0]
    new = old + extra.shape[0]
    ratio = old / new
    if use_rslora:
        ratio = ratio**0.5
    zeros = B.new_zeros(B.shape[0], extra.shape[0])
    return torch.cat([A, extra]), torch.cat([B * ratio, zeros], dim=1)
