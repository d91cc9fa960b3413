# kata: adapter-placement
# slip: the sequential branch replaces F's output, it is not added to it
# named: inner-residual-lost

import torch


def block(x, W1, W2, down, up, placement, s):
    def mlp(z):
        return torch.relu(z @ W1.T) @ W2.T

    def adapter(z):
        return torch.relu(z @ down.T) @ up.T

    if placement == "sequential":
        return x + adapter(mlp(x))
    return x + mlp(x) + s * adapter(x)
