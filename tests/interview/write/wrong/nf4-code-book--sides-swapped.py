# kata: nf4-code-book
# slip: gives the negative side the larger number of values
# named: sides-swapped

import torch


def normal_float(bits, offset):
    half = 2 ** (bits - 1)
    positive = torch.special.ndtri(torch.linspace(offset, 0.5, half)[:-1])
    negative = -torch.special.ndtri(torch.linspace(offset, 0.5, half + 1)[:-1])
    values = torch.cat([positive, torch.zeros(1), negative])
    return (values / values.max()).sort().values
