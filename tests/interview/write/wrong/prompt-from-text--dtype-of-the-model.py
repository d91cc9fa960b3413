# kata: prompt-from-text
# slip: the parameter stays in the embedding's dtype instead of float32
# named: dtype-kept

import torch
from torch import nn


def prompt_from_text(embedding, ids, n):
    repeats = -(-n // len(ids))
    ids = (ids * repeats)[:n]
    return nn.Parameter(embedding[torch.tensor(ids)].detach().clone())
