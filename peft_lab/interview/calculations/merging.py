"""Several adapters in one: ranks, cross terms, signs, drops, singular values, routing; and what is shipped."""

from __future__ import annotations

import math

from peft_lab.interview.computed import BITS, Answer, Case, line, plain, result, tex

HALF = 2  # bytes per number
E4M3_FRACTION, BF16_FRACTION, E5M2_FRACTION = 3, 7, 2  # stored bits of the significand


def stacked(case: Case) -> Answer:
    """The rank of adapters that are concatenated."""
    ranks = case.numbers("ranks")
    value = sum(ranks)
    return result(
        value, "", [line(" + ".join(map(str, ranks)) + rf" = {value}")],
        (max(ranks), "that all columns and rows are kept side by side"),
        (math.prod(ranks), "that ranks are added"),
        (value / len(ranks), "that nothing is averaged"),
    )  # fmt: skip


def crossed(case: Case) -> Answer:
    """PEFT's ``linear`` on two adapters of one number each, with equal weights of a half."""
    (a1, b1), (a2, b2) = case.numbers("first"), case.numbers("second")
    weight = 0.5
    value = weight * (a1 + a2) * (b1 + b2)
    wanted = weight * (a1 * b1 + a2 * b2)
    steps = [
        line(rf"A = \sqrt{{0.5}} \cdot ({a1} + {a2}) \qquad B = \sqrt{{0.5}} \cdot ({b1} + ({b2}))"),
        line(rf"BA = 0.5 \cdot {a1 + a2} \cdot ({b1 + b2}) = {tex(value)}"),
    ]
    return result(
        value, "", steps,
        (wanted, "that A and B are combined apart: their product has cross terms"),
        (2 * value, "that a weight of a half is shared by A and B as its root"),
        (weight * value, "that the root of the weight is taken on each side, not the weight"),
        (-value, "the sign of the second B"),
        named={"wanted": plain(wanted)},
    )  # fmt: skip


def elected(case: Case) -> Answer:
    """TIES at one entry: the sign of the sum, then the mean of those that agree."""
    values = case.numbers("values")
    sign = 1 if sum(values) >= 0 else -1
    agree = [entry for entry in values if entry * sign > 0]
    value = sum(agree) / len(agree)
    steps = [
        line(rf"\text{{sum}}: {sum(values)} \Rightarrow \text{{sign}}\ {'+' if sign > 0 else '-'}"),
        line(rf"\frac{{{' + '.join(map(str, agree))}}}{{{len(agree)}}} = {tex(value)}"),
    ]
    return result(
        value, "hundredths", steps,
        (sum(values) / len(values), "that entries of the other sign are left out"),
        (sum(agree) / len(values), "that only those that agree are counted in the mean"),
        (float(sum(agree)), "to divide: it is a mean"),
        (float(max(values, key=abs)), "the smaller entries that agree"),
    )  # fmt: skip


def rescaled(case: Case) -> Answer:
    """DARE: the factor for what is kept."""
    percent = case["percent"]
    value = 100 / percent
    return result(
        value, "times", [line(rf"1 / {tex(percent / 100)} = {tex(value)}")],
        (100 / (100 - percent), "that density is the share that is kept, not dropped"),
        (percent / 100, "the direction: what is kept has to grow"),
        (1.0, "the rescaling, which keeps the expected value"),
    )  # fmt: skip


def spread(case: Case) -> Answer:
    """DARE: the standard deviation of an entry, in units of the entry."""
    density = case.number("density")
    value = math.sqrt(1 / density - 1)
    steps = [
        line(r"\mathrm{Var} = \rho \cdot (x / \rho)^2 - x^2 = x^2 (1 / \rho - 1)"),
        line(rf"\sqrt{{1 / {tex(density)} - 1}} = {tex(value)}"),
    ]
    return result(
        value, "times", steps,
        (1 / density - 1, "the square root: that is the variance"),
        (1 / density, "to subtract the square of the mean"),
        (math.sqrt(density * (1 - density)), "the rescaling"),
        tolerance=0.005,
    )  # fmt: skip


def energy(case: Case) -> Answer:
    """The share of squared singular values that the first ones keep."""
    values, kept = case.numbers("singular"), case["kept"]
    squares = [entry**2 for entry in values]
    value = 100 * sum(squares[:kept]) / sum(squares)
    steps = [
        line(
            rf"\frac{{{' + '.join(map(str, squares[:kept]))}}}{{{' + '.join(map(str, squares))}}} = "
            rf"{tex(value)}\,\%"
        ),
    ]
    return result(
        value, "percent", steps,
        (100 * sum(values[:kept]) / sum(values), "that the error is measured by squares"),
        (100 * kept / len(values), "that singular values differ"),
        (100 - value, "the direction: ask for what is kept"),
        tolerance=0.005,
    )  # fmt: skip


def routed(case: Case) -> Answer:
    """The weight of the best adapter under a softmax over the top ones."""
    scores, top, temperature = case.numbers("scores"), case["top"], case.number("temperature")
    best = sorted(scores, reverse=True)[:top]
    value = 100 / sum(math.exp((score - best[0]) / temperature) for score in best)
    every = 100 / sum(math.exp((score - best[0]) / temperature) for score in scores)
    steps = [
        line(
            rf"\frac{{1}}{{{' + '.join(rf'e^{{{score - best[0]}}}' for score in best)}}} = {tex(value)}\,\%"
        ),
    ]
    return result(
        value, "percent", steps,
        (every, "that only the top ones take part"),
        (100 * best[0] / sum(best), "the exponential"),
        (100 / top, "that weights follow the scores"),
        (100.0, "that several adapters share a token"),
        tolerance=0.01,
    )  # fmt: skip


def block_bits(case: Case) -> Answer:
    """Bits per weight of a GGUF block format."""
    block, stored = case["block"], case["stored"]
    value = stored * BITS / block
    return result(
        value, "bits", [line(rf"{stored} \cdot 8 / {block} = {tex(value)}")],
        (float(value - 0.5), "the scale, which is stored with each block"),
        (stored / block, "that a byte has eight bits"),
        (block / stored, "the direction: bits for each weight"),
        tolerance=0.001,
    )  # fmt: skip


def file_bytes(case: Case) -> Answer:
    """Bytes of a file with every parameter at so many bits."""
    total, bits = case.shape.total, case.number("bits")
    value = total * bits / BITS
    steps = [line(rf"{tex(total)} \cdot {tex(bits)} / 8 = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (total * bits, "that eight bits make a byte"),
        (float(total * HALF), "that the weights are quantised"),
        (total * math.floor(bits) / BITS, "the scales: six bits of code are not all"),
        tolerance=0.005,
        named={"half": plain(total * HALF / 1e9)},
    )  # fmt: skip


def e4m3(case: Case) -> Answer:
    """How far the next E4M3 number is above 1."""
    value = 2.0**-E4M3_FRACTION
    return result(
        value, "", [line(rf"2^{{-{E4M3_FRACTION}}} = {tex(value)}")],
        (2.0**-BF16_FRACTION, "that E4M3 has three stored bits of the significand: that is bfloat16's step"),
        (2.0**-E5M2_FRACTION, "that E4M3 has three stored bits: that is E5M2's step"),
        (2.0**-4, "that the four bits are the exponent's"),
        named={"lost": plain(value / 2)},
    )  # fmt: skip
