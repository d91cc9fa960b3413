# kata: grpo-advantages
# slip: divides by n in the standard deviation instead of n - 1
# named: divided-by-n

import torch


def group_advantages(rewards, group):
    r = rewards.view(-1, group)
    mean = r.mean(dim=1, keepdim=True)
    std = ((r - mean) ** 2).mean(dim=1, keepdim=True).sqrt()
    return ((r - mean) / (std + 1e-4)).flatten()
