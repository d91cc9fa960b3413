# kata: double-quantisation
# slip: spreads the 32 bits of c1 over the group's constants but not over their weights
# named: group-of-weights

import torch


def double_quantise(absmax, group, block):
    mean = absmax.mean()
    centred = absmax - mean
    codes, c1, restored = [], [], []
    for part in centred.split(group):
        top = part.abs().max()
        if top > 0:
            q = torch.round(part / top * 127)
        else:
            q = torch.zeros_like(part)
        codes.append(q.int())
        c1.append(top)
        restored.append(q / 127 * top + mean)
    return {
        "codes": torch.cat(codes),
        "c1": torch.stack(c1),
        "mean": mean,
        "restored": torch.cat(restored),
        "bits": 4 + 8 / block + 32 / group,
    }
