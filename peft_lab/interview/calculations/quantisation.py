"""Number formats, 4-bit bases and what they weigh, and how they are stored and shared between devices.

One calculation runs bitsandbytes and so needs torch: ``gaussian_error``.
"""

from __future__ import annotations

from bisect import bisect

from peft_lab.interview import computed
from peft_lab.interview.computed import (
    BITS,
    HALF,
    Answer,
    Case,
    block_entries,
    figure,
    result,
    share,
    tex,
)

SAMPLES, SEED = 1 << 18, 0
WIDTHS = (16, 4)
DOUBLE = computed.nf4_bits(double=True)


def round_trip(case: Case) -> Answer:
    weight, largest = case.number("weight"), case.number("largest")
    code = computed.nearest_nf4(weight / largest)
    value = code * largest
    codes = computed.nf4_values()
    below, above = codes[bisect(codes, weight / largest) - 1], codes[bisect(codes, weight / largest)]
    steps = [
        rf"{weight:g} / {largest:g} = {tex(weight / largest)}",
        rf"{below:.4f} < {tex(weight / largest)} < {above:.4f} \;\Rightarrow\; {code:.4f}",
        rf"{code:.4f} \cdot {largest:g} = {tex(value)}",
    ]
    other = above if code == below else below
    return result(
        value, "", steps,
        (code, "to multiply by the block's constant at the end"),
        (other * largest, "that the nearer of the two neighbours is chosen"),
        (weight, "the rounding"),
        tolerance=0.002,
        named={"error": f"{100 * abs(value / weight - 1):.2g}%"},
    )  # fmt: skip


def code_book() -> str:
    """Return the 16 values, for a question's text."""
    return ", ".join(f"{value:.4f}" for value in computed.nf4_values())


def negative_values(case: Case) -> Answer:
    codes = computed.nf4_values()
    value = sum(code < 0 for code in codes)
    positive = sum(code > 0 for code in codes)
    steps = [rf"{value}\ \text{{negative}} + 1\ \text{{zero}} + {positive}\ \text{{positive}} = {len(codes)}"]
    return result(
        value,
        "values",
        steps,
        (positive, "that the exact zero takes one of the values"),
        named={"positive": str(positive)},
    )


def outlier(case: Case) -> Answer:
    factor = case["factor"]
    codes = computed.nf4_values()
    reach = 1 / factor
    used = sorted({computed.nearest_nf4(-reach + 2 * reach * step / 2000) for step in range(2001)})
    value = len(used)
    steps = [
        rf"\text{{all others lie within}} \pm \tfrac{{1}}{{{factor}}} = \pm {reach:g}",
        rf"\text{{nearest code values there: }} {', '.join(f'{code:.4f}' for code in used)}",
    ]
    inside = sum(abs(code) <= reach for code in codes)
    return result(
        value, "values", steps,
        (len(codes), "that the block is scaled by its largest magnitude, the outlier's"),
        (inside - 1, "zero, which is a code value"),
    )  # fmt: skip


def gaussian_error(case: Case) -> Answer:
    """Return the relative error of NF4 on normal numbers, by bitsandbytes. Imports torch."""
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
        rf"\lVert \hat w - w \rVert / \lVert w \rVert,\quad {tex(SAMPLES)}\ \text{{normal numbers, blocks of 64}}",
        rf"\text{{NF4}}: {value:.3g}\,\% \qquad \text{{FP4}}: {100 * errors['fp4']:.3g}\,\%",
    ]
    return result(
        value, "percent", steps,
        (value**2 / 100, "the square root: this is the share of the squared error"),
        (100 * errors["fp4"], "that NF4 is better than FP4 on normal numbers"),
        tolerance=0.1,
        named={"fp4": 100 * errors["fp4"]},
    )  # fmt: skip


def other_widths(case: Case) -> Answer:
    half, four = (figure(case["billions"] * 1e9 * width / BITS, "bytes").shown for width in WIDTHS)
    return figure(0, "", half=half, four=four)


def left_in_half(case: Case) -> Answer:
    """Return the percent of the model's parameters that stay in 16 bits."""
    shape = case.shape
    weights = block_entries(shape)
    rest = shape.total - weights
    value = 100 * rest / shape.total
    steps = [
        rf"{tex(shape.total)} - {tex(weights)} = {tex(rest)}",
        rf"{tex(rest)} / {tex(shape.total)} = {tex(value)}\,\%",
    ]
    bytes_share = share(rest * HALF, rest * HALF + weights * DOUBLE / BITS)
    norms = sum(group.each * group.count for group in shape.groups if group.is_norm)
    return result(
        value, "percent", steps,
        (100 * norms / shape.total, "the embeddings, by far the largest part that stays in 16 bits"),
        named={"bytes_share": bytes_share},
    )  # fmt: skip


def qdora_magnitudes(case: Case) -> Answer:
    """Return what DoRA's magnitudes add to LoRA's parameters on every map, in percent."""
    inside = [case.shape.block[role] for role in ("q", "k", "v", "o", "gate", "up", "down")]
    outputs, lora = case.shape.num_layers * sum(group.out_features for group in inside), case.lora(case["r"])
    value = 100 * outputs / lora
    steps = [
        rf"\text{{magnitudes}}: {tex(outputs)} \qquad \text{{A and B}}: {tex(lora)}",
        rf"{tex(outputs)} / {tex(lora)} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", steps,
        (100 * outputs / case.shape.total, "that the comparison is with LoRA, not with the model"),
        (
            100 * case.shape.num_layers * sum(group.in_features for group in inside) / lora,
            "that there is a magnitude for each output",
        ),
        (100 * outputs * case["r"] / lora, "that a magnitude is one number, whatever the rank"),
        tolerance=0.01,
    )  # fmt: skip
