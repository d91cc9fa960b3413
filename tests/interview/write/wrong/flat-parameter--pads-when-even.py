# kata: flat-parameter
# slip: adds a whole row of padding when the length already divides
# named: one-number-too-many

import torch


class FlatParameter:
    def __init__(self, tensors, ranks):
        self.shapes = [t.shape for t in tensors]
        self.ranks = ranks
        flat = torch.cat([t.flatten() for t in tensors])
        padding = ranks - flat.numel() % ranks
        self.flat = torch.cat([flat, flat.new_zeros(padding)])
        self.size = self.flat.numel() // ranks

    def shard(self, rank):
        return self.flat[rank * self.size : (rank + 1) * self.size]

    def gather(self, shards):
        flat = torch.cat(shards)
        out, start = [], 0
        for shape in self.shapes:
            n = shape.numel()
            out.append(flat[start : start + n].view(shape))
            start += n
        return out
