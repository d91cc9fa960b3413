# kata: shifted-cross-entropy
# slip: takes each row's mean first and then the mean of the rows
# named: mean-of-rows

import torch
import torch.nn.functional as F


def causal_loss(logits, labels):
    losses = []
    for row, target in zip(logits[:, :-1], labels[:, 1:]):
        if (target != -100).any():
            losses.append(F.cross_entropy(row, target, ignore_index=-100))
    if not losses:
        return logits.sum() * 0.0
    return torch.stack(losses).mean()
