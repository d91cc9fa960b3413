# kata: dpo-loss
# slip: writes log(sigmoid(z)), which is -inf for large negative z
# named: log-of-sigmoid

import torch


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    logits = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return -torch.log(torch.sigmoid(logits)).mean()
