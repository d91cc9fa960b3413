# kata: left-padding

import torch


def pad_prompts(rows, pad):
    lengths = torch.tensor([len(row) for row in rows])
    longest = int(lengths.max())
    flipped = [row.flip(0) for row in rows]
    ids = torch.nn.utils.rnn.pad_sequence(flipped, batch_first=True, padding_value=pad).flip(1)
    offset = torch.arange(longest)[None] - (longest - lengths)[:, None]
    return {
        "input_ids": ids,
        "attention_mask": (offset >= 0).long(),
        "position_ids": offset.clamp(min=0),
        "next_position": lengths,
    }
