# kata: lora-layer
# slip: freezes the weight of the wrapped layer but not its bias
# named: bias-trained

import math

import torch
from torch import nn


class LoRA(nn.Module):
    def __init__(self, W0, r, alpha):
        super().__init__()
        self.W0 = W0
        self.W0.weight.requires_grad = False
        d_out, d_in = W0.weight.shape
        self.A = nn.Parameter(torch.empty(r, d_in))
        self.B = nn.Parameter(torch.zeros(d_out, r))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.scale = alpha / r

    def forward(self, x):
        return self.W0(x) + self.scale * (x @ self.A.T @ self.B.T)
