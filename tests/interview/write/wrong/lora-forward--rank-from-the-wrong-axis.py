# kata: lora-forward
# slip: takes A's number of columns for the rank
# named: rank-from-inputs

import torch


def lora_forward(x, W0, A, B, alpha):
    r = A.shape[-1]
    return x @ W0.T + (alpha / r) * ((x @ A.T) @ B.T)
