# kata: left-padding
# slip: numbers the columns, padding included, instead of the real tokens
# named: positions-count-padding

import torch


def pad_prompts(rows, pad):
    n = max(r.numel() for r in rows)
    ids, mask, pos = [], [], []
    for r in rows:
        gap = n - r.numel()
        ids.append(torch.cat([torch.full((gap,), pad), r]))
        mask.append(torch.cat([torch.zeros(gap, dtype=torch.long), torch.ones_like(r)]))
        pos.append(torch.arange(n) * mask[-1])
    return {
        "input_ids": torch.stack(ids),
        "attention_mask": torch.stack(mask),
        "position_ids": torch.stack(pos),
        "next_position": torch.tensor([r.numel() for r in rows]),
    }
