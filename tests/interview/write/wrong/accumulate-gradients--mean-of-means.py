# kata: accumulate-gradients
# slip: averages the micro-batches' mean losses, each micro-batch counts the same
# named: mean-of-filled-means

import torch
import torch.nn.functional as F


def accumulate(weight, batches):
    useful = [(x, y) for x, y in batches if (y != -100).any()]
    total = 0.0
    for x, y in useful:
        loss = F.cross_entropy(x @ weight.T, y, ignore_index=-100) / len(useful)
        loss.backward()
        total += loss.item()
    return total
