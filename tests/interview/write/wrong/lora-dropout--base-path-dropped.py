# kata: lora-dropout
# slip: the frozen path reads the dropped input too
# named: base-dropped

import torch


def lora_dropout(x, W0, A, B, alpha, p, keep, training):
    if training:
        x = x * keep / (1 - p)
    return x @ W0.T + alpha / A.shape[0] * (x @ A.T @ B.T)
