# kata: grpo-loss
# slip: takes the mean over all tokens of the batch, long answers weigh more
# named: mean-over-all-tokens

import torch


def grpo_loss(pi, old, ref, A, mask, eps, beta):
    ratio = (pi - old).exp()
    adv = A.unsqueeze(1)
    surrogate = torch.minimum(ratio * adv, ratio.clamp(1 - eps, 1 + eps) * adv)
    log_r = ref - pi
    kl = log_r.exp() - log_r - 1
    per_token = -surrogate + beta * kl
    return (per_token * mask).sum() / mask.sum()
