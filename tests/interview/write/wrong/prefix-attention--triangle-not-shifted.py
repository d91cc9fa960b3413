# kata: prefix-attention
# slip: the causal triangle starts at the prefix's first column, so tokens see too little
# named: prefix-causal

import torch


def rotate(t, positions):
    """Rotate the numbers of t, (batch, tokens, d), in pairs by angles that grow with the positions, (tokens,)."""
    half = t.shape[-1] // 2
    angles = positions[:, None] / 10000 ** (torch.arange(half) / half)
    first, second = t.chunk(2, dim=-1)
    turned = [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()]
    return torch.cat(turned, dim=-1)


def prefix_attention(q, k, v, prefix_k, prefix_v, mask):
    b, t, d = q.shape
    n = len(prefix_k)
    positions = n + torch.arange(t)
    q = rotate(q, positions)
    k = torch.cat([prefix_k[None].repeat(b, 1, 1), rotate(k, positions)], 1)
    v = torch.cat([prefix_v[None].repeat(b, 1, 1), v], 1)
    full_mask = torch.cat([torch.ones(b, n), mask.float()], 1).bool()
    causal = torch.tril(torch.ones(t, n + t)).bool()
    visible = causal[None] & full_mask[:, None]
    scores = torch.einsum("bqd,bkd->bqk", q, k) / d**0.5
    scores = torch.where(visible, scores, torch.tensor(torch.finfo(scores.dtype).min))
    return torch.einsum("bqk,bkd->bqd", torch.softmax(scores, -1), v)
