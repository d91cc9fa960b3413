"""LoRA's rate, scale, targets and capacity, and what its first step does."""

from __future__ import annotations

import math

from peft_lab.interview.computed import Answer, Case, Given, both, line, plain, product, result, tex
from peft_lab.models.catalogue import get_model

TENFOLD, SHORT_RUN = (
    10,
    15,
)  # times the rate of full fine-tuning; the second for runs of about a hundred steps
ATTENTION, FEED_FORWARD = ("q", "k", "v", "o"), ("gate", "up", "down")


def per_rank(case: Case) -> int:
    """Parameters that one rank on every linear map of the blocks trains."""
    return case.trained("lora", r=1, target_modules=["all-linear"])


def rank_one(model: str) -> dict[str, Given]:
    """What a question on rank one names: a model, and the parameters of LoRA of rank one on all its linear maps."""
    shape = get_model(model).shape
    return {"large": shape.title, "parameters": per_rank(Case(shape, {}))}


def tenfold(case: Case) -> Answer:
    """The rate to try first, in millionths."""
    full = case["full"]
    value = TENFOLD * full
    return result(
        value, "millionths", [line(rf"{product(TENFOLD, full)} = {tex(value)}")],
        (full, "the factor of ten: that is the rate of full fine-tuning itself"),
        (SHORT_RUN * full, "that the factor of fifteen was found for runs of about a hundred steps only"),
        (full / TENFOLD, "the direction: LoRA takes the larger rate"),
        named={"short": plain(SHORT_RUN * full)},
    )  # fmt: skip


def invariant_rates(case: Case) -> Answer:
    """A and B scaled by p, α by 1 / p²: the same product at every step of Adam if the rates are scaled by p."""
    factor = case["factor"]
    value = math.sqrt(factor)
    steps = [
        line(r"\gamma B A = \tfrac{\gamma}{p^2} (pB)(pA)"),
        line(rf"p^2 = {factor} \;\Rightarrow\; p = \sqrt{{{factor}}} = {tex(value)}"),
    ]
    return result(
        value, "times", steps,
        (float(factor), "that the factor is shared by A and B: each takes its square root"),
        (1 / value, "the direction: what the scale loses, A and B have to gain"),
        (1.0, "that a smaller scale asks for larger steps of A and B"),
        tolerance=0.005,
    )  # fmt: skip


def attention_rank(case: Case) -> Answer:
    """The rank on attention maps alone that has as many parameters as a rank on the feed-forward maps alone."""
    r, block = case["r"], case.shape.block
    feed = sum(both(group) for role, group in block.items() if role in FEED_FORWARD)
    attention = sum(both(group) for role, group in block.items() if role in ATTENTION)
    value = r * feed / attention
    steps = [
        line(
            rf"\text{{feed-forward, per rank}}: {tex(feed)} \qquad \text{{attention, per rank}}: {tex(attention)}"
        ),
        line(rf"{r} \cdot \frac{{{tex(feed)}}}{{{tex(attention)}}} = {tex(value)}"),
    ]
    query_value = both(block["q"]) + both(block["v"])
    return result(
        value, "", steps,
        (float(r), "that the feed-forward maps are wider: one rank costs more there"),
        (r * attention / feed, "the direction: the narrow maps need the higher rank"),
        (r * feed / query_value, "two of the four attention maps"),
        (r * 2 * both(block["up"]) / attention, "the gate: a gated feed-forward part has three maps"),
        tolerance=0.01,
    )  # fmt: skip


def capacity_rank(case: Case) -> Answer:
    """The least rank on every map whose parameters hold the bits of a corpus."""
    corpus, bits, held, each = case["corpus"], case["token_bits"], case["parameter_bits"], per_rank(case)
    value = math.ceil(corpus * bits / (held * each))
    steps = [
        line(rf"\text{{to learn}}: {product(corpus, bits)} = {tex(corpus * bits)}\ \text{{bits}}"),
        line(rf"\text{{one rank holds}}: {product(each, held)} = {tex(each * held)}\ \text{{bits}}"),
        line(rf"\lceil {tex(corpus * bits)} / {tex(each * held)} \rceil = {tex(value)}"),
    ]
    return result(
        value, "", steps,
        (math.ceil(corpus * bits / each), "what a parameter holds: more than one bit"),
        (math.ceil(corpus * bits * 16 / (held * each)), "that this is counted in bits of information, not of storage"),
        (math.floor(corpus * bits / (held * each)), "to round up: a rank below does not hold it"),
        named={"each": plain(each)},
    )  # fmt: skip


def reward_room(case: Case) -> Answer:
    """How many times over rank 1 holds what a run of reinforcement learning can say, at a bit an episode."""
    prompts, answers, held, each = case["prompts"], case["answers"], case["parameter_bits"], per_rank(case)
    episodes = prompts * answers
    value = each * held / episodes
    steps = [
        line(rf"\text{{episodes}}: {product(prompts, answers)} = {tex(episodes)}\ \text{{bits}}"),
        line(rf"\text{{rank 1 holds}}: {product(each, held)} = {tex(each * held)}\ \text{{bits}}"),
        line(rf"{tex(each * held)} / {tex(episodes)} = {tex(value)}"),
    ]
    return result(
        value, "times", steps,
        (each * held / prompts, "that every prompt is answered several times, and each answer is an episode"),
        (each / episodes, "what a parameter holds: more than one bit"),
        (episodes / (each * held), "the direction: ask how often the adapter holds it"),
        tolerance=0.01,
        named={"episodes": plain(episodes)},
    )  # fmt: skip


def random_cosine(case: Case) -> Answer:
    """The mean absolute cosine of a random direction with a fixed one, in as many dimensions as the model is wide."""
    hidden = case.shape.hidden
    value = math.sqrt(2 / (math.pi * hidden))
    steps = [
        line(
            rf"\sqrt{{\tfrac{{2}}{{\pi d}}}} = \sqrt{{\tfrac{{2}}{{\pi \cdot {tex(hidden)}}}}} = {tex(value)}"
        )
    ]
    return result(
        value, "", steps,
        (1 / hidden, "the square root: a cosine falls with the root of the dimension"),
        (1 / math.sqrt(hidden), "the mean of the absolute value: that is its root mean square"),
        (0.0, "the absolute value: with signs the mean is zero"),
        tolerance=0.02,
        named={"times": plain(0.5 / value)},
    )  # fmt: skip


def first_step(case: Case) -> Answer:
    """The norm of B after Adam's first step, in millionths: every entry has moved by the rate."""
    out, r, rate = case.matrix("q").out_features, case["r"], case["rate"]
    value = rate * math.sqrt(out * r)
    steps = [
        line(r"|\Delta b_{ij}| = \eta \frac{|g|}{\sqrt{g^2}} = \eta"),
        line(rf"\eta \sqrt{{d_{{out}} \cdot r}} = {rate} \cdot \sqrt{{{product(out, r)}}} = {tex(value)}"),
    ]
    return result(
        value, "millionths", steps,
        (float(rate), "that all entries of B move, not one"),
        (float(rate * out * r), "the square root: a norm adds squares"),
        (rate * math.sqrt(case.matrix("q").in_features * r + out * r), "that A's first gradient is zero: it stays"),
        (rate * math.sqrt(out), "the rank: B has r columns"),
        tolerance=0.01,
    )  # fmt: skip
