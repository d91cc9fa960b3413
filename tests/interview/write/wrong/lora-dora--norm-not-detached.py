# kata: lora-dora
# slip: gradients go through the norms
# named: norm-not-detached

import torch


def dora_forward(x, W0, A, B, m, alpha):
    V = W0 + alpha / A.shape[0] * B @ A
    norm = V.norm(dim=1)
    return (x @ V.T) * (m / norm)
