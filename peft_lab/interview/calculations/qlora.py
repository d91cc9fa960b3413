"""QLoRA: what a 4-bit base weighs."""

from __future__ import annotations

from peft_lab.interview import computed
from peft_lab.interview.computed import BITS, Answer, Case, block_entries, line, plain, result, share, tex

DOUBLE = computed.nf4_bits(double=True)
HALF_PRECISION = 2  # bytes of bf16 or fp16
BITS_LINE = line(
    r"4 + \tfrac{8}{64} + \tfrac{32}{64 \cdot 256} = " + f"{DOUBLE:.4g}" + r"\ \text{bits per weight}"
)


def base_bytes(case: Case) -> Answer:
    """Bytes of the linear maps of all layers in NF4 with double quantisation."""
    weights = block_entries(case.shape)
    value = weights * DOUBLE / BITS
    steps = [BITS_LINE, line(rf"{tex(weights)} \cdot {DOUBLE:.4g} / 8 = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (weights * computed.nf4_bits() / BITS, "double quantisation: the constants are quantised, too"),
        (weights * computed.CODE_BITS / BITS, "the constants of the blocks"),
        (weights * DOUBLE, "that eight bits make a byte"),
        (weights * HALF_PRECISION, "the quantisation: that is 16 bits each"),
        tolerance=0.005,
    )  # fmt: skip


def model_bytes(case: Case) -> Answer:
    """Bytes of the whole model: linear maps in NF4, the rest in 16 bits."""
    shape = case.shape
    weights, rest = block_entries(shape), shape.total - block_entries(shape)
    small, large = weights * DOUBLE / BITS, rest * HALF_PRECISION
    value = small + large
    steps = [
        line(rf"{tex(weights)} \cdot {DOUBLE:.4g} / 8 = {tex(small)}"),
        line(rf"({tex(shape.total)} - {tex(weights)}) \cdot 2 = {tex(large)}"),
        line(rf"{tex(small)} + {tex(large)} = {tex(value)}\ \text{{bytes}}"),
    ]
    return result(
        value, "bytes", steps,
        (shape.total * DOUBLE / BITS, "that embeddings, norms and the output layer stay in 16 bits"),
        (small, "the embeddings, norms and output layer"),
        (shape.total * HALF_PRECISION, "the quantisation: that is 16 bits each"),
        tolerance=0.01,
        named={"rest": share(large, value), "half": plain(shape.total * HALF_PRECISION / 1e9)},
    )  # fmt: skip


def left_in_half(case: Case) -> Answer:
    """Percent of the model's parameters that stay in 16 bits."""
    shape = case.shape
    weights = block_entries(shape)
    rest = shape.total - weights
    value = 100 * rest / shape.total
    steps = [
        line(rf"{tex(shape.total)} - {tex(weights)} = {tex(rest)}"),
        line(rf"{tex(rest)} / {tex(shape.total)} = {tex(value)}\,\%"),
    ]
    bytes_share = share(rest * HALF_PRECISION, rest * HALF_PRECISION + weights * DOUBLE / BITS)
    norms = sum(group.each * group.count for group in shape.groups if group.is_norm)
    return result(
        value, "percent", steps,
        (100 * norms / shape.total, "the embeddings, by far the largest part that stays"),
        named={"bytes_share": bytes_share},
    )  # fmt: skip


def saved_share(case: Case) -> Answer:
    """Percent that NF4 saves of the model in 16 bits."""
    shape = case.shape
    weights = block_entries(shape)
    before, after = (
        shape.total * HALF_PRECISION,
        weights * DOUBLE / BITS + (shape.total - weights) * HALF_PRECISION,
    )
    value = 100 * (1 - after / before)
    steps = [line(rf"1 - \frac{{{tex(after)}}}{{{tex(before)}}} = {tex(value)}\,\%")]
    return result(
        value, "percent", steps,
        (100 * (1 - DOUBLE / 16), "that embeddings, norms and the output layer stay in 16 bits"),
        (100 * (1 - computed.CODE_BITS / 16), "the constants, and what stays in 16 bits"),
        (100 * after / before, "the direction: ask what is saved, not what is left"),
        named={"ideal": f"{100 * (1 - DOUBLE / 16):.3g}%"},
    )  # fmt: skip


def adapter_against_base(case: Case) -> Answer:
    """Percent that the adapter's bytes, in float32, are of the base's."""
    shape, r = case.shape, case["r"]
    adapter = case.trained("qlora", r=r) * 4
    weights = block_entries(shape)
    base = weights * DOUBLE / BITS + (shape.total - weights) * HALF_PRECISION
    value = 100 * adapter / base
    steps = [
        line(rf"\text{{adapter}}: {tex(adapter // 4)} \cdot 4 = {tex(adapter)}\ \text{{bytes}}"),
        line(rf"\text{{base}}: {tex(base)}\ \text{{bytes}}"),
        line(rf"{tex(adapter)} / {tex(base)} = {tex(value)}\,\%"),
    ]
    return result(
        value, "percent", steps,
        (
            100 * adapter / (shape.total * HALF_PRECISION),
            "that the base is in 4 bits: that is its share of a 16-bit base",
        ),
        (100 * adapter / 4 / shape.total, "the bytes: adapter and base are stored in different widths"),
        (100 * adapter / 2 / base, "that the adapter is in 32 bits"),
        tolerance=0.01,
        named={"training": plain(4 * adapter / 1e9)},
    )  # fmt: skip


def largest_model(case: Case) -> Answer:
    """Parameters that fit into so many gigabytes in NF4 with double quantisation."""
    gigabytes = case["gigabytes"]
    value = gigabytes * BITS / DOUBLE * 1e9
    steps = [
        BITS_LINE,
        line(rf"\frac{{{gigabytes} \cdot 10^9 \cdot 8}}{{{DOUBLE:.4g}}} = {tex(value / 1e9)} \cdot 10^9"),
    ]
    return result(
        value, "parameters", steps,
        (gigabytes * 1e9 * BITS / computed.CODE_BITS, "the constants of the blocks"),
        (gigabytes * 1e9 * BITS / computed.nf4_bits(), "double quantisation"),
        (gigabytes * 1e9 / HALF_PRECISION, "the quantisation: that is what fits in 16 bits"),
        (gigabytes * 1e9 / computed.CODE_BITS, "that these are bits, not bytes"),
        tolerance=0.01,
    )  # fmt: skip


def naive_numel(case: Case) -> Answer:
    """Entries of a packed 4-bit map's tensor: two weights share one."""
    q = case.matrix("q")
    weights = q.in_features * q.out_features
    value = weights // 2
    steps = [line(rf"{tex(q.out_features)} \cdot {tex(q.in_features)} / 2 = {tex(value)}")]
    return result(
        value, "", steps,
        (weights, "that two 4-bit weights share one byte, and a packed tensor counts bytes"),
        (weights // 4, "that it is two to a byte"),
    )  # fmt: skip
