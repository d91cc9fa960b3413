# kata: grpo-loss
# slip: the ratio in k3 is policy over reference
# named: kl-reversed

import torch


def grpo_loss(pi, old, ref, A, mask, eps, beta):
    rho = torch.exp(pi - old)
    clipped = torch.clamp(rho, 1 - eps, 1 + eps)
    policy = torch.min(rho * A[:, None], clipped * A[:, None])
    r = torch.exp(pi - ref)
    k3 = r - r.log() - 1
    loss = -policy + beta * k3
    return ((loss * mask).sum(1) / mask.sum(1)).mean()
