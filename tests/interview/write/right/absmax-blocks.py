# kata: absmax-blocks

import torch


def quantise(x, block, bits):
    top = 2 ** (bits - 1) - 1
    flat = x.flatten()
    codes = torch.zeros(flat.shape, dtype=torch.int16)
    constants = []
    for start in range(0, flat.numel(), block):
        piece = flat[start : start + block]
        c = piece.abs().max()
        constants.append(c)
        if c > 0:
            codes[start : start + block] = (piece / c * top).round().to(torch.int16)
    return codes.reshape(x.shape), torch.stack(constants)
