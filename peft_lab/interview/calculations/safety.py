"""What a run costs in other abilities and in safety, and how to measure it."""

from __future__ import annotations

import math

from peft_lab.interview.computed import Answer, Case, line, plain, product, result, tex

Z = 1.96  # two-sided, five percent


def mean_change(case: Case) -> Answer:
    """Mean change of several tests in points."""
    before, after = case.numbers("before"), case.numbers("after")
    changes = [b - a for b, a in zip(after, before, strict=True)]
    value = sum(changes) / len(changes)
    steps = [
        line(rf"\frac{{{' + '.join(f'({change})' for change in changes)}}}{{{len(changes)}}} = {tex(value)}")
    ]
    return result(
        value, "points", steps,
        (float(min(changes)), "that the mean over all tests is asked for, not the worst"),
        (float(sum(changes)), "to divide by the number of tests"),
        (-value, "the sign: after minus before"),
        named={"worst": plain(-min(changes))},
    )  # fmt: skip


def rows_needed(case: Case) -> Answer:
    """Rows on each side to tell a drop of accuracy from chance, with separate samples."""
    accuracy, drop = case.number("accuracy"), case.number("drop")
    value = math.ceil(2 * accuracy * (1 - accuracy) * (Z / drop) ** 2)
    steps = [
        line(
            rf"n = 2\, p (1 - p) \left(\frac{{z}}{{\delta}}\right)^2 = 2 \cdot {tex(accuracy)} \cdot "
            rf"{tex(1 - accuracy)} \cdot \left(\frac{{{Z}}}{{{tex(drop)}}}\right)^2"
        ),
        line(rf"\lceil \ldots \rceil = {tex(value)}"),
    ]
    return result(
        value, "rows", steps,
        (math.ceil(accuracy * (1 - accuracy) * (Z / drop) ** 2), "that both scores scatter, before and after"),
        (
            math.ceil(2 * accuracy * (1 - accuracy) * Z / drop),
            "the square: half the difference takes four times the rows",
        ),
        (math.ceil(2 * accuracy * (1 - accuracy) / drop**2), "the factor for the level of confidence"),
        tolerance=0.01,
    )  # fmt: skip


def replayed(case: Case) -> Answer:
    """Tokens of old text that make up a share of the mixture with the new text."""
    corpus, percent = case["corpus"], case["percent"]
    value = corpus * percent / (100 - percent)
    steps = [line(rf"{tex(corpus)} \cdot \frac{{{percent}}}{{100 - {percent}}} = {tex(value)}")]
    return result(
        value, "tokens", steps,
        (corpus * percent / 100, "that the share is one of the mixture, not of the new text"),
        (corpus * (100 - percent) / 100, "the direction: ask for the old text"),
        (corpus * (100 + percent) / 100, "that the old text alone is asked for"),
        tolerance=0.001,
        named={"more": plain(100 * percent / (100 - percent))},
    )  # fmt: skip


def answered(case: Case) -> Answer:
    """How many times more harmful requests are answered when the refusal rate falls."""
    before, after = case["before"], case["after"]
    value = (100 - after) / (100 - before)
    steps = [line(rf"\frac{{100 - {after}}}{{100 - {before}}} = {tex(value)}")]
    return result(
        value, "times", steps,
        (before / after, "that what counts is what is answered, not what is refused"),
        (float(before - after), "that a factor is asked for, not a difference in points"),
        ((100 - before) / (100 - after), "the direction: more are answered afterwards"),
        tolerance=0.005,
        named={"points": plain(before - after)},
    )  # fmt: skip


def pairs(case: Case) -> Answer:
    """Single adapters and pairs of them that a safety test would have to run."""
    count = case["count"]
    value = count + count * (count - 1) // 2
    return result(
        value, "combinations", [line(rf"{count} + \tfrac{{{product(count, count - 1)}}}{{2}} = {tex(value)}")],
        (count, "that adapters are combined"),
        (count * (count - 1) // 2, "the adapters by themselves"),
        (count + count * (count - 1), "that the order of a pair does not matter"),
        (count * count, "that a pair has two different adapters and no order"),
    )  # fmt: skip
