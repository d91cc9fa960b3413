# kata: shifted-cross-entropy
# slip: pairs the logits at i + 1 with the token at i
# named: shifted-backwards

import torch
import torch.nn.functional as F


def causal_loss(logits, labels):
    pred = logits[:, 1:].reshape(-1, logits.shape[-1])
    target = labels[:, :-1].reshape(-1)
    count = (target != -100).sum().clamp(min=1)
    return F.cross_entropy(pred, target, reduction="sum") / count
