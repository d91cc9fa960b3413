"""Data of a training run: what the loss is taken on, packing, attention's scores and the loss itself."""

from __future__ import annotations

from peft_lab.interview.computed import Answer, Case, line, plain, product, result, share, tex

HALF, SINGLE = 2, 4  # bytes per number


def mixed_loss(case: Case) -> Answer:
    """The mean loss when the prompt's tokens count as well."""
    prompt, completion = case["prompt"], case["completion"]
    easy, hard = case.number("prompt_loss"), case.number("answer_loss")
    summed = prompt * easy + completion * hard
    value = summed / (prompt + completion)
    steps = [
        line(
            rf"\frac{{{prompt} \cdot {tex(easy)} + {completion} \cdot {tex(hard)}}}{{{prompt} + {completion}}} = "
            rf"{tex(value)}"
        )
    ]
    return result(
        value, "", steps,
        (hard, "that every token counts when nothing is masked"),
        ((easy + hard) / 2, "that the two parts have different lengths"),
        (easy, "the answer's tokens"),
        tolerance=0.005,
        named={"part": share(completion, prompt + completion), "of_loss": share(completion * hard, summed)},
    )  # fmt: skip


def accumulated(case: Case) -> Answer:
    """The mean loss per token over two batches of different length."""
    tokens, losses = case.numbers("tokens_each"), case.numbers("losses")
    value = sum(n * loss for n, loss in zip(tokens, losses, strict=True)) / sum(tokens)
    means = sum(losses) / len(losses)
    parts = " + ".join(rf"{n} \cdot {tex(loss)}" for n, loss in zip(tokens, losses, strict=True))
    return result(
        value, "", [line(rf"\frac{{{parts}}}{{{sum(tokens)}}} = {tex(value)}")],
        (means, "that batches hold different numbers of tokens: a mean of means weighs the short one too much"),
        (max(losses), "the longer batch"),
        (sum(losses), "to divide by the tokens"),
        tolerance=0.005,
        named={"means": plain(means), "weight": plain(max(tokens) / min(tokens))},
    )  # fmt: skip


def foreign_pairs(case: Case) -> Answer:
    """The share of query-key pairs that cross examples in a packed sequence whose attention is not kept apart."""
    lengths = case.numbers("lengths")
    whole = sum(lengths)
    pairs = whole * (whole + 1) // 2
    own = sum(n * (n + 1) // 2 for n in lengths)
    value = 100 * (pairs - own) / pairs
    steps = [
        line(rf"\text{{all}}: \tfrac{{{whole} \cdot {whole + 1}}}{{2}} = {tex(pairs)}"),
        line(
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
        named={"times": plain(pairs / own)},
    )  # fmt: skip


def scores(case: Case) -> Answer:
    """Bytes of one layer's attention scores when the matrix is written out, in bfloat16."""
    shape, tokens, batch = case.shape, case["tokens"], case["batch"]
    value = batch * shape.heads * tokens**2 * HALF
    steps = [
        line(rf"{batch} \cdot {shape.heads} \cdot {tex(tokens)}^2 \cdot 2 = {tex(value)}\ \text{{bytes}}")
    ]
    return result(
        value, "bytes", steps,
        (batch * tokens**2 * HALF, "that every head has its own scores"),
        (batch * shape.heads * tokens * HALF, "that scores are a square: each token with each token"),
        (
            batch * shape.kv_heads * tokens**2 * HALF,
            "that there is a row of scores for each query head, not for each key/value head",
        ),
        (value * 2, "that bfloat16 has two bytes"),
        tolerance=0.01,
        named={"hidden": plain(value / (batch * tokens * shape.hidden * HALF))},
    )  # fmt: skip


def chunked_logits(case: Case) -> Answer:
    """Bytes of logits and their gradient for one chunk of positions, float32."""
    vocab, chunk = case.shape.vocab, case["chunk"]
    value = chunk * vocab * SINGLE * 2
    steps = [line(rf"{product(chunk, vocab)} \cdot 4 \cdot 2 = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (value // 2, "the gradient, which is as large as the logits"),
        (chunk * case.shape.hidden * SINGLE * 2, "that logits are as wide as the vocabulary"),
        (value * (case["positions_all"] / chunk), "that only one chunk is in memory at a time"),
        tolerance=0.01,
        named={"times": plain(case["positions_all"] / chunk)},
    )  # fmt: skip
