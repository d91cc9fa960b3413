# kata: nf4-round-trip
# slip: takes the next value above, as searchsorted gives it, instead of the nearest
# named: rounded-up

import torch


def round_trip(W, code, block):
    blocks = W.reshape(-1, block)
    absmax = blocks.abs().amax(1, keepdim=True)
    index = torch.searchsorted(code, (blocks / absmax).contiguous()).clamp(max=15)
    hi, lo = index.reshape(-1, 2).unbind(1)
    packed = (hi * 16 + lo).to(torch.uint8)
    return packed, absmax.squeeze(1), (code[index] * absmax).reshape(W.shape)
