# kata: lora-merge
# slip: float() gives W0 itself when it is float32, and += then changes it
# named: changed-a-float32-base

import torch


def merge(W0, A, B, alpha):
    W = W0.float()
    W += alpha / A.shape[0] * (B.float() @ A.float())
    return W.to(W0.dtype)
