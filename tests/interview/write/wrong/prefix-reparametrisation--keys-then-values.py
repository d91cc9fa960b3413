# kata: prefix-reparametrisation
# slip: reads all layers' keys first and then all values
# named: keys-before-values

import torch


def prefix_from_mlp(E, W1, b1, W2, b2, layers, heads):
    n, d = E.shape
    out = torch.tanh(E @ W1.T + b1) @ W2.T + b2
    out = out.view(n, 2, layers, heads, d // heads)
    return out.permute(2, 1, 3, 0, 4)
