# kata: prompt-prepend
# slip: the new positions get a 0 in the attention mask
# named: prompt-masked

import torch


def prepend(prompt, embeddings, mask, labels):
    batch, n = embeddings.shape[0], prompt.shape[0]
    new_embeddings = torch.cat([prompt.expand(batch, -1, -1), embeddings], dim=1)
    new_mask = torch.cat([mask.new_zeros(batch, n), mask], dim=1)
    new_labels = torch.cat([labels.new_full((batch, n), -100), labels], dim=1)
    return new_embeddings, new_mask, new_labels
