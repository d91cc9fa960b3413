"""Numbers that tell whether a run is healthy."""

from __future__ import annotations

import math

from peft_lab.interview.computed import Answer, Case, line, plain, product, result, tex

FRACTION, EXPONENT = 10, 15  # float16: stored bits of the significand, largest exponent
SCALE = 65_536  # PyTorch's GradScaler starts here and halves at each overflow
SIGMAS = 2


def largest_half(case: Case) -> Answer:
    """float16's largest number."""
    value = (2 - 2.0**-FRACTION) * 2**EXPONENT
    return result(
        value, "", [line(rf"(2 - 2^{{-{FRACTION}}}) \cdot 2^{{{EXPONENT}}} = {tex(value)}")],
        (2.0 ** (EXPONENT + 1), "that the significand stays below two"),
        (2.0**EXPONENT, "the significand: the largest one is almost two"),
        (448.0, "that float16 has ten stored bits: that is an eight-bit format's largest number"),
    )  # fmt: skip


def first_loss(case: Case) -> Answer:
    """Cross-entropy of a head that knows nothing."""
    classes = case["classes"]
    value = math.log(classes)
    return result(
        value, "", [line(rf"-\log \tfrac{{1}}{{{classes}}} = \log {classes} = {tex(value)}")],
        (math.log2(classes), "that the logarithm is the natural one"),
        (1 / classes, "the logarithm"),
        (1 - 1 / classes, "that it is a loss, not an error rate"),
        (0.0, "that a head which knows nothing is wrong most of the time"),
        tolerance=0.01,
        named={"chance": plain(100 / classes)},
    )  # fmt: skip


def tensors(case: Case) -> Answer:
    """Tensors in the file of a LoRA on every linear map of the blocks: A and B for each."""
    layers = case.shape.num_layers
    value = layers * 7 * 2
    return result(
        value, "tensors", [line(rf"{product(layers, 7, 2)} = {tex(value)}")],
        (layers * 7, "that A and B are two tensors"),
        (layers * 2, "the seven maps of a layer"),
        (14, "the layers"),
    )  # fmt: skip


def better_than_chance(case: Case) -> Answer:
    """The accuracy that chance exceeds rarely, in percent."""
    rows, classes = case["rows"], case["classes"]
    chance = 1 / classes
    deviation = math.sqrt(chance * (1 - chance) / rows)
    value = 100 * (chance + SIGMAS * deviation)
    steps = [
        line(rf"\sigma = \sqrt{{{tex(chance)} \cdot {tex(1 - chance)} / {rows}}} = {tex(deviation)}"),
        line(rf"{tex(100 * chance)} + 2 \cdot {tex(100 * deviation)} = {tex(value)}\,\%"),
    ]
    return result(
        value, "percent", steps,
        (100 * chance, "that chance scatters"),
        (100 * (chance + deviation), "the second standard deviation"),
        (100 * (chance + SIGMAS * chance * (1 - chance) / rows), "the square root"),
        tolerance=0.005,
        named={"deviation": plain(100 * deviation)},
    )  # fmt: skip


def scaler(case: Case) -> Answer:
    """PyTorch's loss scale after so many overflows in a row."""
    overflows = case["overflows"]
    value = SCALE / 2**overflows
    return result(
        value, "", [line(rf"65{{,}}536 / 2^{{{overflows}}} = {tex(value)}")],
        (SCALE / (2 * overflows), "that it halves at each of them"),
        (float(SCALE), "that an overflow lowers the scale"),
        (float(SCALE * 2**overflows), "the direction: it falls"),
    )  # fmt: skip
