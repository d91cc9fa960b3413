# kata: nf4-round-trip
# slip: puts the first index into the lower four bits
# named: halves-swapped

import torch


def round_trip(W, code, block):
    blocks = W.reshape(-1, block)
    absmax = blocks.abs().max(dim=1).values
    scaled = blocks / absmax[:, None]
    index = (scaled[..., None] - code).abs().argmin(dim=-1)
    flat = index.flatten().to(torch.uint8)
    packed = flat[0::2] | (flat[1::2] << 4)
    restored = (code[index] * absmax[:, None]).view(W.shape)
    return packed, absmax, restored
