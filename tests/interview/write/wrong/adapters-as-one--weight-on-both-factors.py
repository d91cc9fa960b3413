# kata: adapters-as-one
# slip: multiplies weight and scale into A and into B, so they count squared
# named: weight-in-both

import torch


def combine(adapters, weights):
    As, Bs = [], []
    for (A, B, scale), w in zip(adapters, weights):
        As.append(w * scale * A)
        Bs.append(w * scale * B)
    return torch.cat(As, dim=0), torch.cat(Bs, dim=1)
