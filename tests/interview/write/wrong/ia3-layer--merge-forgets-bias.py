# kata: ia3-layer
# slip: the merged layer's bias is not scaled
# named: bias-not-merged

import torch
from torch import nn


class IA3(nn.Module):
    def __init__(self, W, on_input):
        super().__init__()
        self.W = W
        self.on_input = on_input
        W.requires_grad_(False)
        self.l = nn.Parameter(torch.ones(W.in_features if on_input else W.out_features))

    def forward(self, x):
        if self.on_input:
            return self.W(x * self.l)
        return self.W(x) * self.l

    @torch.no_grad()
    def merged(self):
        has_bias = self.W.bias is not None
        new = nn.Linear(self.W.in_features, self.W.out_features, bias=has_bias)
        scale = self.l if self.on_input else self.l[:, None]
        new.weight.copy_(self.W.weight * scale)
        if has_bias:
            new.bias.copy_(self.W.bias)
        return new
