"""Planning a job in tokens, hours and money; what a run costs in other abilities, and how to measure that."""

from __future__ import annotations

import math

from peft_lab.interview.computed import (
    SINGLE,
    Answer,
    Case,
    four_bit_bytes,
    line,
    plain,
    product,
    result,
    tex,
)
from peft_lab.models.shapes import ModelShape

FULL, FROZEN = 6, 4  # operations per weight and token: with and without the gradients for the weights
PETA, TERA = 1e15, 1e12
HOUR = 3600
CARDS = (24, 48, 80)  # gigabytes
Z = 1.96  # two-sided, five percent


def job_tokens(case: Case) -> Answer:
    """Return the tokens that a run goes through."""
    rows, mean, epochs = case["rows"], case["mean"], case["epochs"]
    value = rows * mean * epochs
    return result(
        value, "tokens", [rf"{product(rows, mean, epochs)} = {tex(value)}"],
        (rows * mean, "the epochs"),
        (rows * epochs, "that a row has many tokens"),
        (mean * epochs, "the rows"),
    )  # fmt: skip


def full_work(case: Case) -> Answer:
    """Return the operations of full fine-tuning, in units of 10^15."""
    total, corpus = case.shape.total, case["corpus"]
    value = FULL * total * corpus / PETA
    steps = [rf"6 \cdot {tex(total)} \cdot {tex(corpus)} / 10^{{15}} = {tex(value)}"]
    return result(
        value, "petaFLOP", steps,
        (value / 3, "the backward pass: twice the forward pass"),
        (value / 6, "the six operations for each weight and token"),
        (value * 2 / 3, "that in full fine-tuning the weights have gradients"),
        tolerance=0.01,
        named={"lora": FROZEN * total * corpus / PETA},
    )  # fmt: skip


def hours(case: Case) -> Answer:
    """Return the hours of a LoRA run on one card at a given share of its peak."""
    total, corpus, peak, percent = case.shape.total, case["corpus"], case["peak"], case["percent"]
    value = FROZEN * total * corpus / (peak * TERA * percent / 100) / HOUR
    steps = [
        rf"4 \cdot {tex(total)} \cdot {tex(corpus)} = {tex(FROZEN * total * corpus / PETA)} \cdot 10^{{15}}",
        (
            rf"\frac{{{tex(FROZEN * total * corpus / PETA)} \cdot 10^{{15}}}}{{{peak} \cdot 10^{{12}} \cdot "
            rf"{tex(percent / 100)} \cdot 3600}} = {tex(value)}\ \text{{h}}"
        ),
    ]
    return result(
        value, "hours", steps,
        (value * percent / 100, "that a card does not reach its peak speed"),
        (value * FULL / FROZEN, "that frozen weights need no gradients"),
        (value / 2, "the backward pass through the frozen maps"),
        (value * HOUR, "that the question is in hours, not seconds"),
        tolerance=0.02,
    )  # fmt: skip


def money(case: Case) -> Answer:
    """Return the cost of a run."""
    length, cards, price = case["length_hours"], case["cards"], case.number("price")
    value = length * cards * price
    return result(
        value, "dollars", [rf"{length} \cdot {cards} \cdot {tex(price)} = {tex(value)}"],
        (length * price, "that every card is paid for"),
        (cards * price, "the hours"),
        (length * cards, "the price"),
        named={"seeds": 3 * value},
    )  # fmt: skip


def measured(case: Case) -> Answer:
    """Return the hours of a run from a measured throughput."""
    corpus, epochs, rate = case["corpus"], case["epochs"], case["per_second"]
    value = corpus * epochs / rate / HOUR
    steps = [rf"\frac{{{tex(corpus)} \cdot {epochs}}}{{{tex(rate)} \cdot 3600}} = {tex(value)}\ \text{{h}}"]
    return result(
        value, "hours", steps,
        (value / epochs, "the epochs"),
        (value * HOUR, "that the question is in hours, not seconds"),
        (value * 60, "that the question is in hours, not minutes"),
        tolerance=0.01,
    )  # fmt: skip


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


def worth_it(case: Case) -> Answer:
    """Return the number of requests after which shorter prompts have paid for the tuned model's training."""
    dollars, saved, price = case["dollars"], case["saved"], case.number("price")
    value = dollars / (saved * price / 1e6)
    each = saved * price / 1e6
    steps = [
        rf"\text{{saved per request}}: {tex(saved)} \cdot {tex(price)} / 10^6 = {tex(each)}",
        rf"{dollars} / {tex(each)} = {tex(value)}",
    ]
    return result(
        value, "requests", steps,
        (dollars / price * 1e6, "that each request saves many tokens"),
        (dollars / (saved * price / 1e3), "that the price is for a million tokens"),
        (dollars * each, "to divide by the saving per request"),
        tolerance=0.01,
    )  # fmt: skip


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


def rows_needed(case: Case) -> Answer:
    """Return the rows that each of two separate samples needs to tell a drop of accuracy from chance."""
    accuracy, drop = case.number("accuracy"), case.number("drop")
    value = math.ceil(2 * accuracy * (1 - accuracy) * (Z / drop) ** 2)
    steps = [
        (
            rf"n = 2\, p (1 - p) \left(\frac{{z}}{{\delta}}\right)^2 = 2 \cdot {tex(accuracy)} \cdot "
            rf"{tex(1 - accuracy)} \cdot \left(\frac{{{Z}}}{{{tex(drop)}}}\right)^2"
        ),
        rf"\lceil \ldots \rceil = {tex(value)}",
    ]
    return result(
        value, "rows", steps,
        (math.ceil(accuracy * (1 - accuracy) * (Z / drop) ** 2), "that both scores vary, before and after"),
        (
            math.ceil(2 * accuracy * (1 - accuracy) * Z / drop),
            "the square: halving the difference takes four times the rows",
        ),
        (math.ceil(2 * accuracy * (1 - accuracy) / drop**2), "the factor for the level of confidence"),
        tolerance=0.01,
    )  # fmt: skip


def replayed(case: Case) -> Answer:
    """Return the tokens of old text that make up a share of the mixture with the new text."""
    corpus, percent = case["corpus"], case["percent"]
    value = corpus * percent / (100 - percent)
    steps = [rf"{tex(corpus)} \cdot \frac{{{percent}}}{{100 - {percent}}} = {tex(value)}"]
    return result(
        value, "tokens", steps,
        (corpus * percent / 100, "that the share is of the mixture, not of the new text"),
        (corpus * (100 - percent) / 100, "the direction: ask for the old text"),
        (corpus * (100 + percent) / 100, "that the question is about the old text only"),
        tolerance=0.001,
        named={"more": 100 * percent / (100 - percent)},
    )  # fmt: skip


def answered(case: Case) -> Answer:
    """Return by which factor the number of answered harmful requests grows when the refusal rate falls."""
    before, after = case["before"], case["after"]
    value = (100 - after) / (100 - before)
    steps = [rf"\frac{{100 - {after}}}{{100 - {before}}} = {tex(value)}"]
    return result(
        value, "times", steps,
        (before / after, "that the question counts answers, not refusals"),
        (float(before - after), "that the question asks for a factor, not a difference in points"),
        ((100 - before) / (100 - after), "the direction: more requests are answered afterwards"),
        tolerance=0.005,
        named={"points": before - after},
    )  # fmt: skip


def safety_pairs(case: Case) -> Answer:
    """Return single adapters and pairs of them that a safety test would have to run."""
    count = case["count"]
    value = count + count * (count - 1) // 2
    return result(
        value, "combinations", [rf"{count} + \tfrac{{{product(count, count - 1)}}}{{2}} = {tex(value)}"],
        (count, "that several adapters are combined"),
        (count * (count - 1) // 2, "the single adapters"),
        (count + count * (count - 1), "that a pair has no order"),
        (count * count, "that a pair has two different adapters and no order"),
    )  # fmt: skip
