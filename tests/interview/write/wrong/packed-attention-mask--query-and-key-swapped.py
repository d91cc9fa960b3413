# kata: packed-attention-mask
# slip: the triangle points the wrong way: a query reads the tokens after it
# named: keys-before-queries

import torch


def packed_mask(position_ids):
    n = position_ids.shape[1]
    example = (position_ids == 0).cumsum(dim=1)
    same = example[:, :, None] == example[:, None, :]
    causal = torch.ones(n, n, dtype=torch.bool).triu()
    return (same & causal)[:, None]
