# kata: absmax-blocks
# slip: takes the largest value of a block instead of the largest magnitude
# named: sign-forgotten-unwrapped

import torch


def quantise(x, block, bits):
    levels = 2 ** (bits - 1) - 1
    codes, absmax = [], []
    for chunk in x.flatten().split(block):
        biggest = chunk.max()
        absmax.append(biggest)
        if biggest == 0:
            codes.append(torch.zeros_like(chunk))
        else:
            codes.append(torch.round(chunk / biggest * levels))
    return torch.cat(codes).reshape(x.shape).long(), torch.stack(absmax)
