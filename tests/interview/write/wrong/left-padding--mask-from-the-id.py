# kata: left-padding
# slip: makes the mask by comparing ids with the padding id
# named: mask-from-ids

import torch


def pad_prompts(rows, pad):
    longest = max(len(r) for r in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    for i, r in enumerate(rows):
        ids[i, longest - len(r) :] = r
    mask = (ids != pad).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0) * mask
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": positions,
        "next_position": mask.sum(1),
    }
