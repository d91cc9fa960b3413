"""FLUX.2 klein base 4B's transformer as bare shapes: what the published runs of pictures adapted, without diffusers.

Sizes and names are those of diffusers' ``Flux2Transformer2DModel`` with the config of
``black-forest-labs/FLUX.2-klein-base-4B``: 5 blocks of two streams, 20 of one, width 3072. Nothing here computes; the
published totals, to which it is held, say whether it is complete.
"""

from __future__ import annotations

import torch
from torch import nn

WIDTH, HEAD, DOUBLE, SINGLE = 3072, 128, 5, 20
INNER = 3 * WIDTH  # of the feed-forward; gate and up are one map
CHANNELS, TEXT, TIME = 128, 7680, 256


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear_in, self.linear_out = linear(WIDTH, 2 * INNER), linear(INNER, WIDTH)


class TwoStreams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.Module()
        for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
            self.attn.add_module(name, linear(WIDTH, WIDTH))
        self.attn.add_module("to_out", nn.ModuleList([linear(WIDTH, WIDTH), nn.Dropout()]))
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            self.attn.add_module(name, nn.RMSNorm(HEAD))
        self.ff, self.ff_context = FeedForward(), FeedForward()


class OneStream(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.Module()
        self.attn.add_module("to_qkv_mlp_proj", linear(WIDTH, 3 * WIDTH + 2 * INNER))
        self.attn.add_module("to_out", linear(WIDTH + INNER, WIDTH))
        for name in ("norm_q", "norm_k"):
            self.attn.add_module(name, nn.RMSNorm(HEAD))


class Flux2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = {"model_type": "flux2"}
        self.x_embedder, self.context_embedder = linear(CHANNELS, WIDTH), linear(TEXT, WIDTH)
        self.time = nn.ModuleDict({"first": linear(TIME, WIDTH), "second": linear(WIDTH, WIDTH)})
        self.modulation = nn.ModuleList([linear(WIDTH, parts * WIDTH) for parts in (6, 6, 3)])
        self.transformer_blocks = nn.ModuleList([TwoStreams() for _ in range(DOUBLE)])
        self.single_transformer_blocks = nn.ModuleList([OneStream() for _ in range(SINGLE)])
        self.norm_out, self.proj_out = linear(WIDTH, 2 * WIDTH), linear(WIDTH, CHANNELS)


def build() -> Flux2:
    """The model on the meta device."""
    with torch.device("meta"):
        return Flux2()
