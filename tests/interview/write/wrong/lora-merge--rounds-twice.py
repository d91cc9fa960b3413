# kata: lora-merge
# slip: rounds the change to the weight's dtype before adding
# named: rounded-twice

import torch


def merge(W0, A, B, alpha):
    delta = (alpha / A.shape[0]) * (B @ A)
    return W0 + delta.to(W0.dtype)
