# kata: flat-parameter

import math

import torch


class FlatParameter:
    def __init__(self, tensors, ranks):
        self.shapes = [tuple(t.shape) for t in tensors]
        flat = torch.cat([t.reshape(-1) for t in tensors])
        self.per_rank = math.ceil(flat.numel() / ranks)
        padded = torch.zeros(self.per_rank * ranks, dtype=flat.dtype)
        padded[: flat.numel()] = flat
        self.parts = list(padded.view(ranks, self.per_rank))

    def shard(self, rank):
        return self.parts[rank]

    def gather(self, shards):
        sizes = [math.prod(s) for s in self.shapes]
        whole = torch.cat(list(shards))[: sum(sizes)]
        return [piece.reshape(s) for piece, s in zip(whole.split(sizes), self.shapes)]
