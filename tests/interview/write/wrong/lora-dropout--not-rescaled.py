# kata: lora-dropout
# slip: zeroes the entries but does not divide the kept ones by 1 - p
# named: not-rescaled

import torch


def lora_dropout(x, W0, A, B, alpha, p, keep, training):
    dropped = torch.where(keep, x, torch.zeros_like(x)) if training else x
    low = dropped @ A.T
    return x @ W0.T + (alpha / A.shape[0]) * (low @ B.T)
