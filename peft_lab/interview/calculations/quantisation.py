"""Number formats: bits per weight, code values and their errors. The last one runs bitsandbytes and so needs torch."""

from __future__ import annotations

from bisect import bisect

from peft_lab.interview import computed
from peft_lab.interview.computed import BITS, Answer, Case, line, plain, result, tex

SAMPLES, SEED = 1 << 18, 0


def single_level(case: Case) -> Answer:
    block = case["block"]
    value = computed.nf4_bits(block)
    steps = [line(rf"4 + \frac{{32}}{{{block}}} = {tex(value)}")]
    return result(
        value, "bits", steps,
        (float(computed.CODE_BITS), "the constant of each block"),
        (computed.nf4_bits(block, constant=16), "that the constant is in float32"),
        (computed.nf4_bits(block, double=True), "that the constants themselves are not quantised here"),
        named={"more": f"{100 * (value / computed.CODE_BITS - 1):.3g}%"},
    )  # fmt: skip


def double_level(case: Case) -> Answer:
    block, group = case["block"], case["group"]
    value = (
        computed.CODE_BITS + computed.SECOND_CONSTANT_BITS / block + computed.CONSTANT_BITS / (block * group)
    )
    steps = [line(rf"4 + \frac{{8}}{{{block}}} + \frac{{32}}{{{block} \cdot {group}}} = {tex(value)}")]
    return result(
        value, "bits", steps,
        (computed.nf4_bits(block), "that the constants are quantised, too"),
        (float(computed.CODE_BITS), "the constants"),
        (
            computed.CODE_BITS + computed.SECOND_CONSTANT_BITS / block + computed.CONSTANT_BITS / group,
            "that a second constant serves block × group weights",
        ),
        tolerance=0.0003,
    )  # fmt: skip


def double_saving(case: Case) -> Answer:
    billions = case["billions"]
    saved = computed.nf4_bits() - computed.nf4_bits(double=True)
    value = saved * billions * 1e9 / BITS
    steps = [
        line(
            rf"\frac{{32}}{{64}} - \frac{{8}}{{64}} - \frac{{32}}{{64 \cdot 256}} = {saved:.4g}\ \text{{bits}}"
        ),
        line(rf"{saved:.4g} \cdot {billions} \cdot 10^9 / 8 = {tex(value)}\ \text{{bytes}}"),
    ]
    return result(
        value, "bytes", steps,
        (value * BITS, "that eight bits make a byte"),
        (computed.nf4_bits() % 1 * billions * 1e9 / BITS, "that the constants are made smaller, not removed"),
        tolerance=0.01,
        named={"bits": f"{saved:.3g}"},
    )  # fmt: skip


def round_trip(case: Case) -> Answer:
    weight, largest = case.number("weight"), case.number("largest")
    code = computed.nearest_nf4(weight / largest)
    value = code * largest
    codes = computed.nf4_values()
    below, above = codes[bisect(codes, weight / largest) - 1], codes[bisect(codes, weight / largest)]
    steps = [
        line(rf"{weight:g} / {largest:g} = {tex(weight / largest)}"),
        line(rf"{below:.4f} < {tex(weight / largest)} < {above:.4f} \;\Rightarrow\; {code:.4f}"),
        line(rf"{code:.4f} \cdot {largest:g} = {tex(value)}"),
    ]
    other = above if code == below else below
    return result(
        value, "", steps,
        (code, "to multiply by the block's constant again"),
        (other * largest, "that the nearer of the two neighbours is taken"),
        (weight, "the rounding"),
        tolerance=0.002,
        named={"error": f"{100 * abs(value / weight - 1):.2g}%"},
    )  # fmt: skip


def code_book() -> str:
    """The 16 values, for a question's text."""
    return ", ".join(f"{value:.4f}" for value in computed.nf4_values())


def negative_values(case: Case) -> Answer:
    codes = computed.nf4_values()
    value = sum(code < 0 for code in codes)
    positive = sum(code > 0 for code in codes)
    steps = [
        line(rf"{value}\ \text{{negative}} + 1\ \text{{zero}} + {positive}\ \text{{positive}} = {len(codes)}")
    ]
    return result(
        value,
        "values",
        steps,
        (positive, "that an exact zero takes one place, from the negative side"),
        named={"positive": str(positive)},
    )


def outlier(case: Case) -> Answer:
    factor = case["factor"]
    codes = computed.nf4_values()
    reach = 1 / factor
    used = sorted({computed.nearest_nf4(-reach + 2 * reach * step / 2000) for step in range(2001)})
    value = len(used)
    steps = [
        line(rf"\text{{all others lie within}} \pm \tfrac{{1}}{{{factor}}} = \pm {reach:g}"),
        line(rf"\text{{nearest code values there: }} {', '.join(f'{code:.4f}' for code in used)}"),
    ]
    inside = sum(abs(code) <= reach for code in codes)
    return result(
        value, "values", steps,
        (len(codes), "that the block is scaled by its largest magnitude, the outlier's"),
        (inside - 1, "zero, which is a code value"),
    )  # fmt: skip


def group_format(case: Case) -> Answer:
    group, scale, zero = case["group"], case["scale"], case["zero"]
    value = computed.CODE_BITS + (scale + zero) / group
    steps = [line(rf"4 + \frac{{{scale} + {zero}}}{{{group}}} = {tex(value)}")]
    return result(
        value, "bits", steps,
        (computed.CODE_BITS + scale / group, "the zero point of each group"),
        (computed.CODE_BITS + zero / group, "the scale of each group"),
        (float(computed.CODE_BITS), "scale and zero point"),
        tolerance=0.0005,
    )  # fmt: skip


def seven_billion(case: Case) -> Answer:
    billions, width = case["billions"], case["width"]
    value = billions * 1e9 * width / BITS
    steps = [line(rf"{billions} \cdot 10^9 \cdot {width} / 8 = {tex(value)}\ \text{{bytes}}")]
    return result(
        value,
        "bytes",
        steps,
        (value * BITS, "that eight bits make a byte"),
        (billions * 1e9 * 2, "the quantisation: that is 16 bits each"),
        tolerance=0.005,
    )


def levels(case: Case) -> Answer:
    width = case["width"]
    value = 2**width
    steps = [line(rf"2^{{{width}}} = {value}")]
    return result(
        value,
        "values",
        steps,
        (2 * width, "that each bit doubles the number of values"),
        (2 ** (width - 1), "one bit"),
        (value - 1, "zero, which is a code value"),
    )


def gaussian_error(case: Case) -> Answer:
    """Relative error of NF4 on normal numbers, by bitsandbytes. Imports torch."""
    import bitsandbytes.functional as bnb
    import torch

    weights = torch.randn(SAMPLES, generator=torch.Generator().manual_seed(SEED))
    errors = {}
    for kind in ("nf4", "fp4"):
        packed, state = bnb.quantize_4bit(weights, blocksize=computed.NF4_BLOCK, quant_type=kind)
        restored = bnb.dequantize_4bit(packed, state).float()
        errors[kind] = float((restored - weights).norm() / weights.norm())
    value = 100 * errors["nf4"]
    steps = [
        line(
            rf"\lVert \hat w - w \rVert / \lVert w \rVert,\quad {tex(SAMPLES)}\ \text{{normal numbers, blocks of 64}}"
        ),
        line(rf"\text{{NF4}}: {value:.3g}\,\% \qquad \text{{FP4}}: {100 * errors['fp4']:.3g}\,\%"),
    ]
    return result(
        value, "percent", steps,
        (value**2 / 100, "the square root: that is the share of squared error"),
        (100 * errors["fp4"], "that NF4 is better than FP4 on normal numbers"),
        tolerance=0.1,
        named={"fp4": plain(100 * errors["fp4"])},
    )  # fmt: skip
