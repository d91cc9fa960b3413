# kata: accumulate-gradients

import torch
import torch.nn.functional as F


def accumulate(weight, batches):
    labelled = sum(int((y != -100).sum()) for _, y in batches)
    loss_sum = 0.0
    for x, y in batches:
        part = F.cross_entropy(F.linear(x, weight), y, reduction="sum", ignore_index=-100)
        (part / labelled).backward()
        loss_sum += part.detach().item()
    return loss_sum / labelled
