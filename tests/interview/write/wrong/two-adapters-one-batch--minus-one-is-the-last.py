# kata: two-adapters-one-batch
# slip: -1 indexes the last adapter
# named: last-adapter-for-plain-rows

import torch


def mixed_forward(x, weight, adapters, which):
    h = x @ weight.T
    for i in which.unique().tolist():
        if not adapters:
            break
        A, B, scale = adapters[i]
        rows = which == i
        h[rows] += scale * (x[rows] @ A.T @ B.T)
    return h
