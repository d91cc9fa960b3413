# kata: dpo-loss
# slip: adds the reference's margin instead of subtracting it
# named: reference-added

import torch
import torch.nn.functional as F


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    policy_margin = chosen - rejected
    reference_margin = ref_chosen - ref_rejected
    return -F.logsigmoid(beta * (policy_margin + reference_margin)).mean()
