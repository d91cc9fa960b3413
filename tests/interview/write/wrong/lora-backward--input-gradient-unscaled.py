# kata: lora-backward
# slip: the LoRA path's gradient of x lacks alpha / r
# named: x-not-scaled

import torch


def lora_backward(G, x, W0, A, B, alpha):
    s = alpha / A.shape[0]
    GB = G @ B
    dx = G @ W0 + GB @ A
    dA = s * GB.T @ x
    dB = s * G.T @ (x @ A.T)
    return dx, dA, dB
