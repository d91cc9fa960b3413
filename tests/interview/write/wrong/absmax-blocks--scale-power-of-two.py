# kata: absmax-blocks
# slip: the scale is 2^(bits-1), without the minus one
# named: one-code-too-many

import torch
import torch.nn.functional as F


def quantise(x, block, bits):
    flat = x.reshape(-1)
    missing = -flat.numel() % block
    rows = F.pad(flat, (0, missing)).view(-1, block)
    absmax = rows.abs().amax(dim=1)
    safe = torch.where(absmax == 0, torch.ones_like(absmax), absmax)
    codes = torch.round(rows / safe[:, None] * 2 ** (bits - 1)).to(torch.int32)
    return codes.view(-1)[: flat.numel()].view(x.shape), absmax
