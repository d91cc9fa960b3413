"""LoRA on experts, single tokens, embeddings and heads."""

from __future__ import annotations

from peft_lab.interview.computed import Answer, Case, beside, line, plain, product, result, tex

HALF, SINGLE = 2, 4  # bytes per number
STATE = 4 * SINGLE  # a trained copy, its gradient and Adam's two moments in float32
MAPS = 3  # of a gated expert: gate, up, down


def experts(case: Case) -> Answer:
    """A and B on the three maps of every expert."""
    layers, count, hidden, width, r = (case[name] for name in ("blocks", "experts", "wide", "width", "r"))
    each = r * MAPS * (hidden + width)
    value = layers * count * each
    steps = [
        line(rf"\text{{one expert}}: {r} \cdot {MAPS} \cdot ({tex(hidden)} + {tex(width)}) = {tex(each)}"),
        line(rf"{product(layers, count, each)} = {tex(value)}"),
    ]
    return result(
        value, "parameters", steps,
        (layers * each, "the experts: every one has its own A and B"),
        (count * each, "the layers"),
        (layers * count * each // MAPS, "two of the three maps of an expert"),
        (layers * count * r * (hidden + width), "that gate, up and down are adapted"),
        (layers * case["active"] * each, "that experts which are not active for a token still have to be stored"),
        named={"share": plain(100 * case["active"] / count)},
    )  # fmt: skip


def active_share(case: Case) -> Answer:
    """The share of the experts' adapters that one token passes through."""
    active, count = case["active"], case["experts"]
    value = 100 * active / count
    return result(
        value, "percent", [line(rf"{active} / {count} = {tex(value)}\,\%")],
        (100.0, "that a token is sent to a few experts only"),
        (100 / count, "that several experts are active for a token"),
        (100 * count / active, "the direction: ask for the part, not the multiple"),
    )  # fmt: skip


def tokens(case: Case) -> Answer:
    """One row of the embedding for each new token."""
    new, hidden = case["new"], case.shape.hidden
    value = new * hidden
    return result(
        value, "parameters", [line(rf"{product(new, hidden)} = {tex(value)}")],
        (case.shape.vocab * hidden, "that only the rows of these tokens are trained"),
        (hidden, "that there are several tokens"),
        (new, "that a token is a whole row"),
        wholes=beside(case),
    )  # fmt: skip


def tokens_saved(case: Case) -> Answer:
    """Bytes by which the adapter's file is smaller than with the whole embedding, new rows included, in bfloat16."""
    new, hidden, vocab = case["new"], case.shape.hidden, case.shape.vocab
    value = vocab * hidden * HALF
    steps = [
        line(rf"({tex(vocab)} + {new} - {new}) \cdot {tex(hidden)} \cdot 2 = {tex(value)}\ \text{{bytes}}")
    ]
    return result(
        value, "bytes", steps,
        (vocab * HALF, "that a token is a whole row"),
        (new * hidden * HALF, "that the question is what is saved, not what is left"),
        (value * 2, "that bfloat16 has two bytes"),
        tolerance=0.001,
        named={"left": plain(new * hidden * HALF / 1e3)},
    )  # fmt: skip


def head(case: Case) -> Answer:
    """Bytes of a trained copy of the output layer with gradient and moments, float32."""
    vocab, hidden = case.shape.vocab, case.shape.hidden
    value = vocab * hidden * STATE
    lora = case.trained("lora", r=16, target_modules=["all-linear"])
    steps = [
        line(rf"{product(vocab, hidden)} = {tex(vocab * hidden)}\ \text{{numbers}}"),
        line(rf"{tex(vocab * hidden)} \cdot (4 + 4 + 8) = {tex(value)}\ \text{{bytes}}"),
    ]
    return result(
        value, "bytes", steps,
        (vocab * hidden * SINGLE, "its gradient and Adam's moments"),
        (vocab * hidden * 3 * SINGLE, "one of Adam's two moments (or the copy itself)"),
        (value // 2, "that everything trained is in float32"),
        (hidden * hidden * STATE, "that the output layer is as high as the vocabulary"),
        tolerance=0.01,
        named={"times": plain(vocab * hidden / lora)},
    )  # fmt: skip
