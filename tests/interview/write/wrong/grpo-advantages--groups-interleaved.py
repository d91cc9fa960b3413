# kata: grpo-advantages
# slip: takes every k-th answer for one group, the answers being strided
# named: groups-interleaved

import torch


def group_advantages(rewards, group):
    r = rewards.reshape(group, -1)
    adv = (r - r.mean(dim=0)) / (r.std(dim=0) + 1e-4)
    return adv.reshape(-1)
