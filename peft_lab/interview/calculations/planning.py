"""Planning a job in tokens, hours and money; what a run costs in other abilities, and how to measure that."""

from __future__ import annotations

from peft_lab.interview.computed import (
    SINGLE,
    Answer,
    Case,
    four_bit_bytes,
    line,
    plain,
    result,
    tex,
)
from peft_lab.models.shapes import ModelShape

FULL, FROZEN = 6, 4  # operations per weight and token: with and without the gradients for the weights
TERA = 1e12
CARDS = (24, 48, 80)  # gigabytes


def only_looked_up(shape: ModelShape) -> int:
    """Return the entries of embedding tables that are only looked up: no output layer shares and multiplies them."""
    shared = any(group.tied and group.is_matrix for group in shape.groups)
    return 0 if shared else sum(group.each for group in shape.groups if group.type == "Embedding")


def utilisation(case: Case) -> Answer:
    """Return the share of a card's peak that a LoRA run reaches."""
    total, rate, peak = case.shape.total, case["per_second"], case["peak"]
    looked_up = only_looked_up(case.shape)
    multiply = total - looked_up
    value = 100 * FROZEN * multiply * rate / (peak * TERA)
    steps = [
        rf"\text{{weights that are multiplied with}}: {tex(total)} - {tex(looked_up)} = {tex(multiply)}",
        (
            rf"4 \cdot {tex(multiply)} \cdot {tex(rate)} = {tex(FROZEN * multiply * rate / TERA)} \cdot "
            r"10^{12}"
        ),
        rf"{tex(FROZEN * multiply * rate / TERA)} / {peak} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", steps,
        (value * FULL / FROZEN, "that frozen weights need no gradients: four operations, not six"),
        (value / 2, "the backward pass"),
        (value / FROZEN, "the operations for each weight and token"),
        (value * total / multiply, "that the input embedding is a lookup, which costs no operations"),
        tolerance=0.01,
        named={"multiply": multiply},
    )  # fmt: skip


def smallest_card(case: Case) -> Answer:
    """Return the first card that holds QLoRA's weights and states; the last option if none does."""
    weights = four_bit_bytes(case.shape)
    state = case.lora(case["r"]) * 4 * SINGLE
    need = (weights + state) / 1e9
    value = next((index for index, size in enumerate(CARDS) if need <= size), len(CARDS))
    steps = [
        line(
            rf"\text{{weights}}: {tex(weights / 1e9)} \qquad \text{{adapter, gradients, moments}}: "
            rf"{tex(state / 1e9)}"
        ),
        line(rf"{tex(weights / 1e9)} + {tex(state / 1e9)} = {tex(need)}\ \text{{GB}}"),
    ]
    return Answer(value, "", tuple(steps), named={"need": plain(need)})


def mean_change(case: Case) -> Answer:
    """Return the mean change of several tests in points."""
    before, after = case.numbers("before"), case.numbers("after")
    changes = [b - a for b, a in zip(after, before, strict=True)]
    value = sum(changes) / len(changes)
    steps = [rf"\frac{{{' + '.join(f'({change})' for change in changes)}}}{{{len(changes)}}} = {tex(value)}"]
    return result(
        value, "points", steps,
        (float(min(changes)), "that the mean over all tests is asked for, not the worst"),
        (float(sum(changes)), "to divide by the number of tests"),
        (-value, "the sign: after minus before"),
        named={"worst": -min(changes)},
    )  # fmt: skip
