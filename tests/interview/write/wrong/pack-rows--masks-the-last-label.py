# kata: pack-rows
# slip: masks the last label of an example instead of the first
# named: last-label-hidden

import torch


def pack(examples):
    examples = [e for e in examples if len(e[0]) > 0]
    ids, labels, positions, bounds = [], [], [], [0]
    for x, y in examples:
        y = y.clone()
        y[-1] = -100
        ids.append(x)
        labels.append(y)
        positions.append(torch.arange(len(x)))
        bounds.append(bounds[-1] + len(x))
    empty = torch.zeros(0, dtype=torch.long)
    return {
        "input_ids": torch.cat([empty, *ids]),
        "labels": torch.cat([empty, *labels]),
        "position_ids": torch.cat([empty, *positions]),
        "boundaries": torch.tensor(bounds),
    }
