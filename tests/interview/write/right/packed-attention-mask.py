# kata: packed-attention-mask

import torch


def packed_mask(position_ids):
    n = position_ids.size(-1)
    index = torch.arange(n)
    starts = torch.where(position_ids == 0, index, 0).cummax(dim=-1).values
    i, j = index.view(1, n, 1), index.view(1, 1, n)
    return ((j <= i) & (j >= starts[:, :, None])).unsqueeze(1)
