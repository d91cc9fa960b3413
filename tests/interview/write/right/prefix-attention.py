# kata: prefix-attention

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
    n = prefix_k.shape[0]
    positions = torch.arange(n, n + t)
    keys = torch.cat([prefix_k.expand(b, -1, -1), rotate(k, positions)], dim=1)
    values = torch.cat([prefix_v.expand(b, -1, -1), v], dim=1)
    seen = torch.ones(t, n + t, dtype=torch.bool).tril(n).expand(b, -1, -1).clone()
    seen[:, :, n:] &= mask.bool()[:, None, :]
    scores = rotate(q, positions) @ keys.mT / d**0.5
    return scores.masked_fill(~seen, -1e30).softmax(dim=-1) @ values
