"""Training: steps, batches, work, masks, attention's scores, losses, preferences, and signs of a healthy run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from peft_lab.interview.computed import (
    Answer,
    Case,
    figure,
    line,
    product,
    result,
    tex,
)

Matrix = list[list[float]]


def first_gradient(case: Case) -> Answer:
    """Return the gradients of A and B for a map of two inputs and two outputs, by the chain rule on plain lists."""
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


def sorted_padding(case: Case) -> Answer:
    """Return the padding where the sequences are sorted and batched by halves."""
    lengths = sorted(case.numbers("lengths"))
    half = len(lengths) // 2
    places = half * lengths[half - 1] + (len(lengths) - half) * lengths[-1]
    return figure(100 * (1 - sum(lengths) / places), "percent")


def accumulated(case: Case) -> Answer:
    """Return the mean loss per token over two batches of different length."""
    tokens, losses = case.numbers("tokens_each"), case.numbers("losses")
    value = sum(n * loss for n, loss in zip(tokens, losses, strict=True)) / sum(tokens)
    means = sum(losses) / len(losses)
    parts = " + ".join(rf"{n} \cdot {tex(loss)}" for n, loss in zip(tokens, losses, strict=True))
    return result(
        value, "", [rf"\frac{{{parts}}}{{{sum(tokens)}}} = {tex(value)}"],
        (means, "that batches hold different numbers of tokens: a mean of means gives the shorter one too much weight"),
        (max(losses), "the longer batch"),
        (sum(losses), "to divide by the tokens"),
        tolerance=0.005,
        named={"means": means, "weight": max(tokens) / min(tokens)},
    )  # fmt: skip


def foreign_pairs(case: Case) -> Answer:
    """Return the share of query-key pairs that cross examples in a packed sequence under plain attention."""
    lengths = case.numbers("lengths")
    whole = sum(lengths)
    pairs = whole * (whole + 1) // 2
    own = sum(n * (n + 1) // 2 for n in lengths)
    value = 100 * (pairs - own) / pairs
    steps = [
        rf"\text{{all}}: \tfrac{{{whole} \cdot {whole + 1}}}{{2}} = {tex(pairs)}",
        (
            rf"\text{{within examples}}: {tex(own)} \qquad \frac{{{tex(pairs - own)}}}{{{tex(pairs)}}} = "
            rf"{tex(value)}\,\%"
        ),
    ]
    first = 100 * (whole - lengths[0]) / whole
    return result(
        value, "percent", steps,
        (100 * own / pairs, "the direction: ask for the pairs that cross"),
        (first, "that pairs grow with the square of the length"),
        (
            100 * (whole**2 - sum(n**2 for n in lengths)) / whole**2,
            "that attention is causal: a token looks back, and at itself",
        ),
        tolerance=0.005,
        named={"times": pairs / own},
    )  # fmt: skip


def _loss(margin: float) -> float:
    """Return -log σ(margin)."""
    return math.log1p(math.exp(-margin))


def dpo_start(case: Case) -> Answer:
    """Return DPO's loss while the policy is the reference: every log ratio is zero."""
    value = _loss(0.0)
    return result(
        value, "", [rf"-\log \sigma(\beta \cdot (0 - 0)) = \log 2 = {tex(value)}"],
        (0.0, "the logarithm: σ(0) is a half, not one"),
        (0.5, "the logarithm of the half"),
        (1.0, "that the logarithm is natural: log₂ of a half is −1"),
        tolerance=0.005,
        named={"beta": case.number("strength")},
    )  # fmt: skip


def dpo_loss(case: Case) -> Answer:
    """Return DPO's loss on one pair from the log ratios of policy and reference."""
    beta, chosen, rejected = (case.number(name) for name in ("strength", "chosen", "rejected"))
    margin = beta * (chosen - rejected)
    value = _loss(margin)
    steps = [
        rf"\beta (\Delta_w - \Delta_l) = {tex(beta)} \cdot ({tex(chosen)} - ({tex(rejected)})) = {tex(margin)}",
        rf"-\log \sigma({tex(margin)}) = {tex(value)}",
    ]
    return result(
        value, "", steps,
        (_loss(beta * (chosen + rejected)), "that the rejected answer's log ratio is subtracted"),
        (_loss(chosen - rejected), "β, which scales the margin"),
        (_loss(-margin), "the sign: the chosen answer's ratio should be larger"),
        (_loss(beta * chosen), "the rejected answer"),
        tolerance=0.005,
        named={"start": _loss(0.0)},
    )  # fmt: skip


def advantage(case: Case) -> Answer:
    """Return GRPO's advantage of a right answer in a group of rewards of zero and one."""
    rewards = case.numbers("rewards")
    mean = sum(rewards) / len(rewards)
    spread = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(rewards))
    value = (1 - mean) / spread
    sample = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1))
    steps = [
        rf"\text{{mean}}: {tex(mean)} \qquad \text{{standard deviation}}: {tex(spread)}",
        rf"\frac{{1 - {tex(mean)}}}{{{tex(spread)}}} = {tex(value)}",
    ]
    return result(
        value, "", steps,
        (1 - mean, "to divide by the standard deviation"),
        ((1 - mean) / spread**2, "the square root: this is the variance"),
        ((1 - mean) / sample, "that the group is the whole population: divide by its size (TRL's code: by one less)"),
        (1 / spread, "to subtract the group's mean"),
        tolerance=0.005,
        named={"wrong": -mean / spread, "mean": mean, "sample": (1 - mean) / sample},
    )  # fmt: skip


def prompts(case: Case) -> Answer:
    """Return the prompts of one update, when each takes several completions."""
    devices, each, accumulate, group = (case[name] for name in ("devices", "each", "accumulate", "group"))
    completions = devices * each * accumulate
    value = completions / group
    steps = [
        rf"{product(devices, each, accumulate)} = {completions}\ \text{{completions}}",
        rf"{completions} / {group} = {tex(value)}",
    ]
    return result(
        value, "prompts", steps,
        (float(completions), "that several completions belong to one prompt"),
        (float(completions * group), "that a batch is counted in completions, not in prompts"),
        (devices * each / group, "the accumulation"),
        (each * accumulate / group, "the devices"),
        named={"completions": completions},
    )  # fmt: skip
