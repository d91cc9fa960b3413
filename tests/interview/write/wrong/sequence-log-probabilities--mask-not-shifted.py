# kata: sequence-log-probabilities
# slip: shifts ids and logits but takes the mask's first n - 1 columns
# named: mask-not-shifted

import torch
import torch.nn.functional as F


def sequence_logps(logits, ids, mask):
    logps = F.log_softmax(logits[:, :-1], dim=-1)
    token_logps = logps.gather(-1, ids[:, 1:, None]).squeeze(-1)
    return (token_logps * mask[:, :-1]).sum(-1)
