# kata: parallel-lora
# slip: every rank adds the bias, the all-reduce counts it several times
# named: bias-on-every-rank

import torch


def rank_output(rank, ranks, x, up, down, bias, scale):
    Wu, Au, Bu = up
    Wd, Ad, Bd = down
    size = Wu.shape[0] // ranks
    part = slice(rank * size, (rank + 1) * size)
    h = torch.relu(x @ Wu[part].T + scale * (x @ Au.T) @ Bu[part].T)
    y = h @ Wd[:, part].T + scale * (h @ Ad[:, part].T) @ Bd.T
    return y + bias
