"""Training: steps, batches, work, and the first step's gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

from peft_lab.interview.computed import Answer, Case, block_entries, line, plain, product, result, tex

BF16_FRACTION, FP16_FRACTION, FP32_FRACTION = 7, 10, 23  # stored bits of the significand
Matrix = list[list[float]]


def steps(case: Case) -> Answer:
    rows, batch, epochs = case["rows"], case["batch"], case["epochs"]
    each = math.ceil(rows / batch)
    value = each * epochs
    working = [
        line(rf"\lceil {tex(rows)} / {batch} \rceil = {tex(each)}"),
        line(rf"{epochs} \cdot {tex(each)} = {tex(value)}"),
    ]
    return result(
        value, "steps", working,
        (rows // batch * epochs, "the last, smaller batch of each epoch"),
        (each, "the epochs"),
        (rows * epochs, "that a step takes a whole batch"),
    )  # fmt: skip


def effective_batch(case: Case) -> Answer:
    each, accumulate, devices = case["each"], case["accumulate"], case["devices"]
    value = each * accumulate * devices
    return result(
        value, "examples", [line(rf"{product(each, accumulate, devices)} = {value}")],
        (each * accumulate, "the devices"),
        (each * devices, "the accumulation"),
        (each, "accumulation and devices"),
    )  # fmt: skip


def work_ratio(case: Case) -> Answer:
    shape = case.shape
    added = case.trained("lora", r=case["r"], target_modules=["all-linear"])
    maps = block_entries(shape) + shape.vocab * shape.hidden
    full, lora = 6 * maps, 4 * maps + 6 * added
    value = 100 * lora / full
    working = [
        line(r"\text{full}: 2N\ \text{forward} + 2N\ \text{for inputs} + 2N\ \text{for weights} = 6N"),
        line(r"\text{LoRA}: 2N + 2N\ \text{for the base} + 6n\ \text{for A and B}"),
        line(
            rf"\frac{{4 \cdot {tex(maps)} + 6 \cdot {tex(added)}}}{{6 \cdot {tex(maps)}}} = {tex(value)}\,\%"
        ),
    ]
    return result(
        value, "percent", working,
        (100 * 2 / 6, "that the gradient for the inputs still passes through every frozen map"),
        (100 * added / maps, "that the frozen maps still work forward and backward"),
        (100 * (1 - lora / full), "the direction: ask what is left, not what is saved"),
        tolerance=0.02,
        named={"saved": plain(100 - value)},
    )  # fmt: skip


def warm_up(case: Case) -> Answer:
    total, percent = case["total"], case["percent"]
    exact = total * percent / 100
    value = math.ceil(exact)
    working = line(rf"\lceil {tex(total)} \cdot {percent}\,\% \rceil = \lceil {tex(exact)} \rceil = {value}")
    return result(
        value, "steps", [working],
        (total - value, "the direction: ask how many steps warm up, not how many are left"),
        (math.floor(exact), "that Transformers rounds up: a step that has begun counts"),
    )  # fmt: skip


def labelled_share(case: Case) -> Answer:
    prompt, completion = case["prompt"], case["completion"]
    value = 100 * completion / (prompt + completion)
    return result(
        value, "percent", [line(rf"\frac{{{completion}}}{{{prompt} + {completion}}} = {tex(value)}\,\%")],
        (100 * completion / prompt, "that the whole sequence is read, answer included"),
        (100 - value, "the direction: ask which tokens count in the loss"),
    )  # fmt: skip


def padding(case: Case) -> Answer:
    lengths = case.numbers("lengths")
    padded = max(lengths) * len(lengths)
    value = 100 * (1 - sum(lengths) / padded)
    working = [
        line(rf"{len(lengths)} \cdot {max(lengths)} = {padded} \qquad \sum = {sum(lengths)}"),
        line(rf"1 - {sum(lengths)} / {padded} = {tex(value)}\,\%"),
    ]
    return result(
        value, "percent", working,
        (100 * sum(lengths) / padded, "the direction: ask what is padding, not what is text"),
        (100 * (padded / sum(lengths) - 1), "that the share is of all positions, padding included"),
    )  # fmt: skip


def bf16_spacing(case: Case) -> Answer:
    value = 2.0**-BF16_FRACTION
    return result(
        value, "", [line(rf"2^{{-{BF16_FRACTION}}} = {tex(value)}")],
        (2.0**-FP16_FRACTION, "that bfloat16 spends its bits on range: this is float16's spacing"),
        (2.0**-FP32_FRACTION, "that bfloat16 is short: this is float32's spacing"),
        (2.0 ** -(BF16_FRACTION + 1), "that half the spacing is what rounding swallows; the spacing is twice that"),
        (2.0**-16, "that sign and exponent take most of the 16 bits"),
        tolerance=0.03,
        named={"lost": plain(value / 2)},
    )  # fmt: skip


def first_gradient(case: Case) -> Answer:
    """The gradients of A and B for a map of two inputs and two outputs, by the chain rule on plain lists."""
    a: Matrix = [[0.3, -0.7]]
    b: Matrix = [[0.0], [0.0]]
    x: Matrix = [[1.0], [2.0]]
    g: Matrix = [[0.5], [-0.4]]
    grad_b = _times(g, _flip(_times(a, x)))
    grad_a = _times(_times(_flip(b), g), _flip(x))
    size_a, size_b = _norm(grad_a), _norm(grad_b)
    working = [
        line(
            r"\partial L / \partial B = s\,g\,(Ax)^\top \qquad \partial L / \partial A = s\,B^\top g\,x^\top"
        ),
        line(
            rf"\text{{for one example with }} B = 0\text{{: norms }} {tex(size_b)}\ \text{{and}}\ {tex(size_a)}"
        ),
    ]
    flags = (
        size_a > 0 and size_b > 0,
        size_a > 0 and size_b == 0,
        size_a == 0 and size_b > 0,
        size_a == 0 and size_b == 0,
    )
    return Answer(flags.index(True), "option", tuple(working))


def _times(left: Matrix, right: Matrix) -> Matrix:
    return [
        [sum(a * b for a, b in zip(row, column, strict=True)) for column in zip(*right, strict=True)]
        for row in left
    ]


def _flip(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


def _norm(matrix: Sequence[Sequence[float]]) -> float:
    return math.sqrt(sum(value * value for row in matrix for value in row))
