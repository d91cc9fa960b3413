# kata: lora-dora
# slip: divides by the norms of W0, which do not follow A and B
# named: norm-of-base

import torch


def dora_forward(x, W0, A, B, m, alpha):
    scale = alpha / A.size(0)
    norm = torch.linalg.vector_norm(W0, dim=1).detach()
    out = x @ W0.T + scale * (x @ A.T) @ B.T
    return m / norm * out
