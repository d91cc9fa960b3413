"""NF4 with double quantisation from scratch, to the bit as bitsandbytes has it."""

from __future__ import annotations

import bitsandbytes.functional as bnb
import pytest
import torch

from peft_lab.scratch import qlora, quantise

SHAPES = [(96, 64), (576, 576), (192, 1536), (37, 10)]


def weights(shape: tuple[int, int]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.03


def test_the_code_books_are_those_of_bitsandbytes() -> None:
    assert torch.equal(quantise.nf4_code(), bnb.get_4bit_type("nf4", device="cpu"))
    assert torch.equal(quantise.dynamic_code(), bnb.create_dynamic_map())
    assert torch.equal(qlora.CODE, quantise.nf4_code())


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_and_scales_are_those_of_bitsandbytes(shape: tuple[int, int]) -> None:
    W = weights(shape)
    mine = quantise.quantise(W)
    packed, state = bnb.quantize_4bit(W, compress_statistics=True, quant_type="nf4")
    assert torch.equal(mine.packed, packed.flatten())
    assert torch.equal(mine.absmax8, state.state2.absmax) and torch.equal(mine.mean, state.offset)
    # bitsandbytes' compiled CPU kernel takes the other neighbour for some values near the middle between two. For
    # float64 it has none, and compares all distances.
    absmax = bnb.quantize_4bit(W, quant_type="nf4")[1].absmax
    plain = torch.ops.bitsandbytes.quantize_blockwise.default(
        (absmax - absmax.mean()).double(), bnb.create_dynamic_map(), 256
    )[0]
    assert torch.equal(mine.q8, plain.flatten())
    other = (mine.q8.int() - state.absmax.flatten().int()).abs()
    assert other.max() <= 1 and (other > 0).float().mean() < 0.01
    theirs = mine._replace(q8=state.absmax.flatten())
    assert torch.equal(quantise.dequantise(theirs), bnb.dequantize_4bit(packed, state))


def test_without_double_quantisation_qlora_has_the_same_bytes() -> None:
    W = weights((192, 128))
    packed, absmax = qlora.quantise(W)
    theirs, state = bnb.quantize_4bit(W, quant_type="nf4")
    assert torch.equal(packed, theirs.flatten()) and torch.equal(absmax.flatten(), state.absmax)
    assert torch.equal(qlora.dequantise(packed, absmax).view(W.shape), bnb.dequantize_4bit(theirs, state))


def test_a_block_of_zeros_stays_zero_and_bits_are_as_the_file_says() -> None:
    W = torch.cat([torch.zeros(1, 64), weights((64 * 256 - 1, 64))])
    x = quantise.quantise(W)
    assert not quantise.dequantise(x)[0].any()
    bits = 8 * sum(tensor.nbytes for tensor in (x.packed, x.q8, x.absmax8)) / W.numel()
    assert bits == pytest.approx(4 + 8 / 64 + 32 / (64 * 256))
