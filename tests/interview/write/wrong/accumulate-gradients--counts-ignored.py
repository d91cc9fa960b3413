# kata: accumulate-gradients
# slip: divides by all tokens, those with label -100 too
# named: hidden-tokens-counted

import torch
import torch.nn.functional as F


def accumulate(weight, batches):
    n = sum(len(labels) for _, labels in batches)
    result = 0.0
    for x, labels in batches:
        logits = x @ weight.T
        loss = F.cross_entropy(logits, labels, reduction="sum") / n
        loss.backward()
        result += loss.item()
    return result
