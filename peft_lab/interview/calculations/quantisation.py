"""Number formats, 4-bit bases and what they weigh, and how they are stored and shared between devices.

One calculation runs bitsandbytes and so needs torch: ``gaussian_error``.
"""

from __future__ import annotations

from bisect import bisect

from peft_lab.core import units
from peft_lab.interview import computed
from peft_lab.interview.computed import (
    BITS,
    BYTE,
    HALF,
    MOMENTS,
    SINGLE,
    Answer,
    Case,
    block_entries,
    four_bit_bytes,
    product,
    result,
    share,
    tex,
    told,
)

SAMPLES, SEED = 1 << 18, 0
LARGE, LARGER = 128, 256  # weights of a block
WIDTHS = (16, 4)
DOUBLE = computed.nf4_bits(double=True)
BITS_LINE = r"4 + \tfrac{8}{64} + \tfrac{32}{64 \cdot 256} = " + f"{DOUBLE:.4g}" + r"\ \text{bits per weight}"
MILLIONS = 40
CODE, SCALE, ZERO = 4, 16, 4  # bits of GPTQ and AWQ: a weight, and the scale and zero point of a group
STORED = 16  # bits of the type that packs the codes


def single_level(case: Case) -> Answer:
    block = case["block"]
    value = computed.nf4_bits(block)
    steps = [rf"4 + \frac{{32}}{{{block}}} = {tex(value)}"]
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
    steps = [rf"4 + \frac{{8}}{{{block}}} + \frac{{32}}{{{block} \cdot {group}}} = {tex(value)}"]
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
    saved = computed.nf4_bits() - DOUBLE
    value = saved * billions * 1e9 / BITS
    steps = [
        rf"\frac{{32}}{{64}} - \frac{{8}}{{64}} - \frac{{32}}{{64 \cdot 256}} = {saved:.4g}\ \text{{bits}}",
        rf"{saved:.4g} \cdot {billions} \cdot 10^9 / 8 = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (value * BITS, "that eight bits make a byte"),
        (computed.nf4_bits() % 1 * billions * 1e9 / BITS, "that the constants get smaller, but are not removed"),
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


def group_format(case: Case) -> Answer:
    group, scale, zero = case["group"], case["scale"], case["zero"]
    value = computed.CODE_BITS + (scale + zero) / group
    steps = [rf"4 + \frac{{{scale} + {zero}}}{{{group}}} = {tex(value)}"]
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
    steps = [rf"{billions} \cdot 10^9 \cdot {width} / 8 = {tex(value)}\ \text{{bytes}}"]
    return result(
        value,
        "bytes",
        steps,
        (value * BITS, "that eight bits make a byte"),
        (billions * 1e9 * 2, "the quantisation: this is 16 bits each"),
        tolerance=0.005,
    )


def code_levels(case: Case) -> Answer:
    width = case["width"]
    value = 2**width
    steps = [rf"2^{{{width}}} = {value}"]
    return result(
        value,
        "values",
        steps,
        (2 * width, "that each bit doubles the number of values"),
        (2 ** (width - 1), "one bit"),
        (value - 1, "zero, which is a code value"),
    )


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


def larger_blocks(case: Case) -> Answer:
    return told(computed.nf4_bits(LARGER), "bits", block=LARGER, now=f"{computed.nf4_bits(case['block']):g}")


def other_widths(case: Case) -> Answer:
    half, four = (told(case["billions"] * 1e9 * width / BITS, "bytes").shown for width in WIDTHS)
    return told(0, "", half=half, four=four)


def third_level(case: Case) -> Answer:
    """Return the bits per weight of the second constants, the most that a third level of quantisation could save."""
    return told(computed.CONSTANT_BITS / (computed.NF4_BLOCK * computed.SECOND_BLOCK), "bits")


def base_bytes(case: Case) -> Answer:
    """Return the bytes of the linear maps of all layers in NF4 with double quantisation."""
    weights = block_entries(case.shape)
    value = weights * DOUBLE / BITS
    steps = [BITS_LINE, rf"{tex(weights)} \cdot {DOUBLE:.4g} / 8 = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (weights * computed.nf4_bits() / BITS, "double quantisation: the constants are quantised, too"),
        (weights * computed.CODE_BITS / BITS, "the constants of the blocks"),
        (weights * DOUBLE, "that eight bits make a byte"),
        (weights * HALF, "the quantisation: this is 16 bits each"),
        tolerance=0.005,
    )  # fmt: skip


def model_bytes(case: Case) -> Answer:
    """Return the bytes of the whole model: linear maps in NF4, the rest in 16 bits."""
    shape = case.shape
    weights, rest = block_entries(shape), shape.total - block_entries(shape)
    small, large = weights * DOUBLE / BITS, rest * HALF
    value = small + large
    steps = [
        rf"{tex(weights)} \cdot {DOUBLE:.4g} / 8 = {tex(small)}",
        rf"({tex(shape.total)} - {tex(weights)}) \cdot 2 = {tex(large)}",
        rf"{tex(small)} + {tex(large)} = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (shape.total * DOUBLE / BITS, "that embeddings, norms and the output layer stay in 16 bits"),
        (small, "the embeddings, norms and output layer"),
        (shape.total * HALF, "the quantisation: this is 16 bits each"),
        tolerance=0.01,
        named={"rest": share(large, value), "half": shape.total * HALF / 1e9},
    )  # fmt: skip


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


def saved_share(case: Case) -> Answer:
    """Return the percent that NF4 saves of the model in 16 bits."""
    before, after = case.shape.total * HALF, four_bit_bytes(case.shape)
    value = 100 * (1 - after / before)
    steps = [rf"1 - \frac{{{tex(after)}}}{{{tex(before)}}} = {tex(value)}\,\%"]
    return result(
        value, "percent", steps,
        (100 * (1 - DOUBLE / 16), "that embeddings, norms and the output layer stay in 16 bits"),
        (100 * (1 - computed.CODE_BITS / 16), "the constants, and what stays in 16 bits"),
        (100 * after / before, "the direction: ask what is saved, not what is left"),
        named={"ideal": f"{100 * (1 - DOUBLE / 16):.3g}%"},
    )  # fmt: skip


def adapter_against_base(case: Case) -> Answer:
    """Return the adapter's bytes, in float32, in percent of the base's."""
    shape, r = case.shape, case["r"]
    adapter = case.trained("qlora", r=r) * 4
    base = four_bit_bytes(shape)
    value = 100 * adapter / base
    steps = [
        rf"\text{{adapter}}: {tex(adapter // 4)} \cdot 4 = {tex(adapter)}\ \text{{bytes}}",
        rf"\text{{base}}: {tex(base)}\ \text{{bytes}}",
        rf"{tex(adapter)} / {tex(base)} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", steps,
        (
            100 * adapter / (shape.total * HALF),
            "that the base is in 4 bits: this is the share of a 16-bit base",
        ),
        (100 * adapter / 4 / shape.total, "the bytes: adapter and base are stored in different widths"),
        (100 * adapter / 2 / base, "that the adapter is in 32 bits"),
        tolerance=0.01,
        named={"training": 4 * adapter / 1e9},
    )  # fmt: skip


def largest_model(case: Case) -> Answer:
    """Return the parameters that fit into so many gigabytes in NF4 with double quantisation."""
    gigabytes = case["gigabytes"]
    value = gigabytes * BITS / DOUBLE * 1e9
    steps = [
        BITS_LINE,
        rf"\frac{{{gigabytes} \cdot 10^9 \cdot 8}}{{{DOUBLE:.4g}}} = {tex(value / 1e9)} \cdot 10^9",
    ]
    return result(
        value, "parameters", steps,
        (gigabytes * 1e9 * BITS / computed.CODE_BITS, "the constants of the blocks"),
        (gigabytes * 1e9 * BITS / computed.nf4_bits(), "double quantisation"),
        (gigabytes * 1e9 / HALF, "the quantisation: this is what fits in 16 bits"),
        (gigabytes * 1e9 / computed.CODE_BITS, "that these are bits, not bytes"),
        tolerance=0.01,
    )  # fmt: skip


def naive_numel(case: Case) -> Answer:
    """Return the entries of a packed 4-bit map's tensor: two weights share one."""
    q = case.matrix("q")
    weights = q.in_features * q.out_features
    value = weights // 2
    steps = [rf"{tex(q.out_features)} \cdot {tex(q.in_features)} / 2 = {tex(value)}"]
    return result(
        value, "", steps,
        (weights, "that two 4-bit weights share one byte, and a packed tensor counts bytes"),
        (weights // 4, "that two weights share a byte"),
    )  # fmt: skip


def bytes_left_in_half(case: Case) -> Answer:
    return told((case.shape.total - block_entries(case.shape)) * HALF, "bytes")


def bits_per_ingredient(case: Case) -> Answer:
    return told(
        0,
        "",
        four=f"{BITS * HALF - computed.nf4_bits():.3g}",
        double=f"{computed.nf4_bits() - DOUBLE:.2g}",
    )


def adapter_in_half(case: Case) -> Answer:
    trained = case.lora(case["r"])
    each = 2 * HALF + MOMENTS * BYTE
    return told(trained * each, "bytes", each=each, was=SINGLE * (2 + MOMENTS))


def moments_in_eight_bits(case: Case) -> Answer:
    return told(
        MILLIONS * 1e6 * MOMENTS * SINGLE, "bytes", eight=told(MILLIONS * 1e6 * MOMENTS, "bytes").shown
    )


def grouped(case: Case) -> Answer:
    """Return the bytes of the model with its blocks' maps in groups of 4-bit codes, the rest in two bytes."""
    group, blocks, total = case["group"], block_entries(case.shape), case.shape.total
    each = CODE + (SCALE + ZERO) / group
    value = blocks * each / BITS + (total - blocks) * HALF
    steps = [
        rf"4 + \frac{{16 + 4}}{{{group}}} = {tex(each)}\ \text{{bits}}",
        rf"{tex(blocks)} \cdot {tex(each)} / 8 + {tex(total - blocks)} \cdot 2 = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (total * each / BITS, "that embeddings, norms and output layer stay in two bytes"),
        (blocks * CODE / BITS + (total - blocks) * HALF, "the scale and zero point of each group"),
        (blocks * each / BITS, "everything outside the blocks"),
        (total * HALF, "that the blocks' maps are in 4 bits"),
        tolerance=0.005,
        named={"bits": each, "nf4": four_bit_bytes(case.shape) / 1e9},
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


def compensation(case: Case) -> Answer:
    """Return the bytes of a low-rank compensation in bfloat16, as a percentage of the 4-bit base."""
    low, base = case.lora(case["r"]) * HALF, four_bit_bytes(case.shape)
    value = 100 * low / base
    steps = [
        rf"{tex(low // HALF)} \cdot 2 = {tex(low)}\ \text{{bytes}}",
        rf"{tex(low)} / {tex(base)} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", steps,
        (100 * low / (case.shape.total * HALF), "that the base is in 4 bits"),
        (value / 2, "the two bytes of each number"),
        (100 * low / HALF / case.shape.total, "the bytes: the two are stored in different widths"),
        tolerance=0.01,
        named={"gigabytes": low / 1e9},
    )  # fmt: skip


def packed(case: Case) -> Answer:
    """Return the entries of one query map's packed weight when codes are stored as bfloat16."""
    q = case.matrix("q")
    entries = q.in_features * q.out_features
    value = entries * CODE // STORED
    return result(
        value, "entries", [rf"{product(q.in_features, q.out_features)} \cdot 4 / 16 = {tex(value)}"],
        (entries // 2, "that a stored number has 16 bits now, not 8"),
        (entries, "that codes are packed"),
        (entries // 8, "that float32 would hold eight codes; bfloat16 holds four"),
        named={"share": 100 * value / entries},
    )  # fmt: skip


def shard(case: Case) -> Answer:
    """Return the bytes of a 4-bit base on each of several devices."""
    whole, devices = four_bit_bytes(case.shape), case["devices"]
    value = whole / devices
    return result(
        value, "bytes", [rf"{tex(whole)} / {devices} = {tex(value)}\ \text{{bytes}}"],
        (whole, "that each device holds only a part"),
        (case.shape.total * HALF / devices, "that the blocks' maps are in 4 bits"),
        (whole / devices / 2, "to divide only once"),
        tolerance=0.01,
        named={"whole": whole / 1e9},
    )  # fmt: skip


def gathered(case: Case) -> Answer:
    """Return the bytes of one layer's maps, put together on a device for its turn, in NF4 with double quantisation."""
    layer = block_entries(case.shape) / case.shape.num_layers
    value = layer * DOUBLE / BITS
    steps = [
        rf"\text{{one layer}}: {tex(layer)}\ \text{{weights}}",
        rf"{tex(layer)} \cdot {tex(DOUBLE)} / 8 = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (layer * HALF, "that weights travel packed, in 4 bits"),
        (value * case.shape.num_layers, "that layers are gathered one at a time"),
        (value / case["devices"], "that the whole layer must be present while it computes"),
        tolerance=0.01,
        named={"half": units.size(layer * HALF)},
    )  # fmt: skip


def second_stage(case: Case) -> Answer:
    """Return the bytes that sharding gradients and moments of a LoRA saves on each device."""
    devices, trained = case["devices"], case.lora(case["r"])
    state = trained * (SINGLE + 2 * SINGLE)
    value = state * (devices - 1) / devices
    steps = [
        rf"{tex(trained)} \cdot (4 + 8) = {tex(state)}\ \text{{bytes}}",
        rf"{tex(state)} \cdot \frac{{{devices - 1}}}{{{devices}}} = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (state, "that each device keeps its own part"),
        (state / devices, "that the question is what is saved, not what is left"),
        (case.shape.total * 12 * (devices - 1) / devices, "that only the adapter has gradients and moments"),
        tolerance=0.01,
        named={"base": case.shape.total * HALF / 1e9},
    )  # fmt: skip


def traffic(case: Case) -> Answer:
    """Return the bytes that a device receives in a step to gather each frozen weight for both passes."""
    devices, total = case["devices"], case.shape.total
    value = 2 * total * HALF * (devices - 1) / devices
    steps = [
        rf"\text{{once}}: {tex(total)} \cdot 2 \cdot \frac{{{devices - 1}}}{{{devices}}} = {tex(value / 2)}",
        rf"\text{{forward and backward}}: {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (value / 2, "that weights are freed after the forward pass and gathered again for the backward pass"),
        (value * 1.5, "that frozen weights have no gradients to scatter"),
        (2 * total * HALF, "that a device has its own part already"),
        tolerance=0.005,
        named={"seconds": value / (case["speed"] * 1e9)},
    )  # fmt: skip
