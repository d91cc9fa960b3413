# kata: lora-unmerge
# slip: keeps a reference to the weight's data, which merging changes in place
# named: backup-shared

import torch
from torch import nn


class MergeableLoRA(nn.Module):
    def __init__(self, W0, A, B, alpha):
        super().__init__()
        self.W0 = W0
        self.A = nn.Parameter(A)
        self.B = nn.Parameter(B)
        self.scale = alpha / A.shape[0]
        self.merged = False
        self._saved = None

    def forward(self, x):
        out = self.W0(x)
        if not self.merged:
            out = out + self.scale * (x @ self.A.T @ self.B.T)
        return out

    @torch.no_grad()
    def merge(self):
        if self.merged:
            return
        self._saved = self.W0.weight.data
        full = self.W0.weight.float() + self.scale * (self.B.float() @ self.A.float())
        self.W0.weight.copy_(full)
        self.merged = True

    @torch.no_grad()
    def unmerge(self):
        if not self.merged:
            return
        self.W0.weight.copy_(self._saved)
        self._saved = None
        self.merged = False
