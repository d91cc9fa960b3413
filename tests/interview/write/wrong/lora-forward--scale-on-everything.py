# kata: lora-forward
# slip: scales the frozen path as well
# named: scaled-the-base

import torch
import torch.nn.functional as F


def lora_forward(x, W0, A, B, alpha):
    base = F.linear(x, W0)
    update = F.linear(F.linear(x, A), B)
    return (base + update) * alpha / A.shape[0]
