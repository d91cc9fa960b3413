"""Serving and shipping: files, copies, transfers, slots and cold starts; several adapters merged into one."""

from __future__ import annotations

import math

from peft_lab.interview.computed import (
    Answer,
    Case,
    result,
    tex,
)


def stacked(case: Case) -> Answer:
    """Return the rank of adapters that are concatenated."""
    ranks = case.numbers("ranks")
    value = sum(ranks)
    return result(
        value, "", [" + ".join(map(str, ranks)) + rf" = {value}"],
        (max(ranks), "that all columns and rows are placed side by side"),
        (math.prod(ranks), "that ranks are added"),
        (value / len(ranks), "that nothing is averaged"),
    )  # fmt: skip


def crossed(case: Case) -> Answer:
    """Return the result of PEFT's ``linear`` for two adapters of one number each, with equal weights of a half."""
    (a1, b1), (a2, b2) = case.numbers("first"), case.numbers("second")
    weight = 0.5
    value = weight * (a1 + a2) * (b1 + b2)
    wanted = weight * (a1 * b1 + a2 * b2)
    steps = [
        rf"A = \sqrt{{0.5}} \cdot ({a1} + {a2}) \qquad B = \sqrt{{0.5}} \cdot ({b1} + ({b2}))",
        rf"BA = 0.5 \cdot {a1 + a2} \cdot ({b1 + b2}) = {tex(value)}",
    ]
    return result(
        value, "", steps,
        (wanted, "that A and B are combined separately: their product has cross terms"),
        (2 * value, "that A and B each get the square root of the weight"),
        (weight * value, "that each side gets the square root of the weight, not the weight"),
        (-value, "the sign of the second B"),
        named={"wanted": wanted},
    )  # fmt: skip


def elected(case: Case) -> Answer:
    """Return the result of TIES for one entry: the sign of the sum, then the mean of the values that agree."""
    values = case.numbers("values")
    sign = 1 if sum(values) >= 0 else -1
    agree = [entry for entry in values if entry * sign > 0]
    value = sum(agree) / len(agree)
    steps = [
        rf"\text{{sum}}: {sum(values)} \Rightarrow \text{{sign}}\ {'+' if sign > 0 else '-'}",
        rf"\frac{{{' + '.join(map(str, agree))}}}{{{len(agree)}}} = {tex(value)}",
    ]
    return result(
        value, "hundredths", steps,
        (sum(values) / len(values), "that entries of the other sign are left out"),
        (sum(agree) / len(values), "that the mean covers only the entries that agree"),
        (float(sum(agree)), "to divide: it is a mean"),
        (float(max(values, key=abs)), "the smaller of the agreeing entries"),
    )  # fmt: skip


def energy(case: Case) -> Answer:
    """Return the share of squared singular values that the first ones keep."""
    values, kept = case.numbers("singular"), case["kept"]
    squares = [entry**2 for entry in values]
    value = 100 * sum(squares[:kept]) / sum(squares)
    steps = [
        (
            rf"\frac{{{' + '.join(map(str, squares[:kept]))}}}{{{' + '.join(map(str, squares))}}} = "
            rf"{tex(value)}\,\%"
        ),
    ]
    return result(
        value, "percent", steps,
        (100 * sum(values[:kept]) / sum(values), "that the error is measured in squares"),
        (100 * kept / len(values), "that singular values differ"),
        (100 - value, "the direction: ask how much is kept"),
        tolerance=0.005,
    )  # fmt: skip


def routed(case: Case) -> Answer:
    """Return the weight of the best adapter under a softmax over the top ones."""
    scores, top, temperature = case.numbers("scores"), case["top"], case.number("temperature")
    best = sorted(scores, reverse=True)[:top]
    value = 100 / sum(math.exp((score - best[0]) / temperature) for score in best)
    every = 100 / sum(math.exp((score - best[0]) / temperature) for score in scores)
    steps = [
        rf"\frac{{1}}{{{' + '.join(rf'e^{{{score - best[0]}}}' for score in best)}}} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", steps,
        (every, "that only the best ones take part"),
        (100 * best[0] / sum(best), "the exponential"),
        (100 / top, "that the weights follow the scores"),
        (100.0, "that several adapters share each token"),
        tolerance=0.01,
    )  # fmt: skip
