# kata: lora-unmerge

import torch
from torch import nn


class MergeableLoRA(nn.Module):
    def __init__(self, W0, A, B, alpha):
        super().__init__()
        self.W0 = W0
        self.register_buffer("A", A)
        self.register_buffer("B", B)
        self.scale = alpha / A.shape[0]
        self.backup = None

    @property
    def merged(self):
        return self.backup is not None

    def forward(self, x):
        y = self.W0(x)
        if self.merged:
            return y
        return y + self.scale * ((x @ self.A.T) @ self.B.T)

    def merge(self):
        if self.merged:
            return
        with torch.no_grad():
            self.backup = self.W0.weight.detach().clone()
            change = self.scale * (self.B.float() @ self.A.float())
            self.W0.weight.copy_((self.backup.float() + change).to(self.backup.dtype))

    def unmerge(self):
        if self.merged:
            with torch.no_grad():
                self.W0.weight.copy_(self.backup)
            self.backup = None
