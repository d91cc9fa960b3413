# kata: prefix-attention
# slip: the tokens' positions start at 0 instead of after the prefix
# named: positions-from-zero

import torch


def rotate(t, positions):
    """Rotate the numbers of t, (batch, tokens, d), in pairs by angles that grow with the positions, (tokens,)."""
    half = t.shape[-1] // 2
    angles = positions[:, None] / 10000 ** (torch.arange(half) / half)
    first, second = t.chunk(2, dim=-1)
    turned = [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()]
    return torch.cat(turned, dim=-1)


def prefix_attention(q, k, v, prefix_k, prefix_v, mask):
    batch, tokens, d = q.shape
    n = prefix_k.shape[0]
    pos = torch.arange(tokens)
    q, k = rotate(q, pos), rotate(k, pos)
    keys = torch.cat([prefix_k.expand(batch, n, d), k], dim=1)
    values = torch.cat([prefix_v.expand(batch, n, d), v], dim=1)
    scores = q @ keys.transpose(1, 2) / d**0.5
    allowed = torch.ones(tokens, tokens, dtype=torch.bool).tril() & mask.bool()[:, None, :]
    allowed = torch.cat([torch.ones(batch, tokens, n, dtype=torch.bool), allowed], dim=2)
    scores = scores.masked_fill(~allowed, -1e9)
    return scores.softmax(-1) @ values
