"""Prompt Tuning: sizes, the room that virtual tokens take, and what they add to attention."""

from __future__ import annotations

from peft_lab.interview.computed import Answer, Case, beside, both, line, plain, product, result, share, tex

SINGLE = 4  # bytes of float32


def count(case: Case) -> Answer:
    """Parameters of the virtual tokens: ``n d``."""
    shape, n = case.shape, case["n"]
    value = case.trained("prompt", num_virtual_tokens=n)
    steps = [line(rf"n \cdot d = {n} \cdot {tex(shape.hidden)} = {tex(value)}")]
    return result(
        value, "parameters", steps,
        (value * shape.num_layers, "that the prompt stands at the input only, not in every layer"),
        (
            2 * shape.num_layers * shape.kv_width * n,
            "that this is not Prefix Tuning: there are no keys and values to learn",
        ),
        (n * shape.vocab, "that a soft token is an embedding, not a distribution over words"),
        named={"share": share(value, shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip


def share_of_model(case: Case) -> Answer:
    """Percent of model and prompt together that the virtual tokens are."""
    shape, n = case.shape, case["n"]
    trained = case.trained("prompt", num_virtual_tokens=n)
    value = 100 * trained / (shape.total + trained)
    steps = [
        line(
            rf"\frac{{{product(n, shape.hidden)}}}{{{tex(shape.total)} + {tex(trained)}}} = {tex(value)}\,\%"
        )
    ]
    return result(
        value, "percent", steps,
        (value * shape.num_layers, "that the prompt stands at the input only, not in every layer"),
        (value / n, "the number of tokens"),
        (100 * n / shape.vocab, "that the share is of all parameters, not of the vocabulary"),
        named={"trained": plain(trained)},
    )  # fmt: skip


def tensor_bytes(case: Case) -> Answer:
    """Bytes of the virtual tokens' table in float32."""
    n, d = case["n"], case.shape.hidden
    value = case.stored("prompt", num_virtual_tokens=n) * SINGLE
    steps = [line(rf"{n} \cdot {tex(d)} \cdot 4 = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (value // SINGLE, "that a float32 number has four bytes"),
        (value // 2, "that it is stored in float32, not in 16 bits"),
        (value * 8, "that the question is in bytes, not bits"),
        named={"per_gigabyte": f"{10**9 // value:,}"},
    )  # fmt: skip


def room(case: Case) -> Answer:
    """Percent of the model's positions that the virtual tokens take."""
    positions, n = case.shape.max_positions or 0, case["n"]
    value = 100 * n / positions
    steps = [
        line(rf"{tex(positions)} - {n} = {tex(positions - n)}"),
        line(rf"{n} / {tex(positions)} = {tex(value)}\,\%"),
    ]
    return result(
        value, "percent", steps,
        (100 * n / (positions - n), "that the share is of all positions, not of those that are left"),
        (100 * (positions - n) / positions, "the direction: ask what is lost, not what is left"),
        named={"left": f"{positions - n:,}"},
    )  # fmt: skip


def attention_growth(case: Case) -> Answer:
    """How many times more pairs of positions attention has with the virtual tokens."""
    n, length = case["n"], case["length"]
    value = ((n + length) / length) ** 2
    steps = [line(rf"\frac{{({n} + {length})^2}}{{{length}^2}} = {tex(value)}")]
    return result(
        value, "times", steps,
        ((n + length) / length, "the square: every position attends to every other"),
        (value - 1, "the original pairs: ask for the ratio, not the increase"),
        named={"linear": f"{(n + length) / length:.3g}"},
    )  # fmt: skip


def matching_tokens(case: Case) -> Answer:
    """Virtual tokens with as many parameters as LoRA on queries and values."""
    shape, r = case.shape, case["r"]
    names = [shape.target_name(shape.block[role]) for role in ("q", "v")]
    lora = case.trained("lora", r=r, target_modules=names)
    value = lora / shape.hidden
    sums = [both(shape.block[role]) for role in ("q", "v")]
    steps = [
        line(
            rf"\text{{LoRA}}: {shape.num_layers} \cdot {r} \cdot ({tex(sums[0])} + {tex(sums[1])}) = {tex(lora)}"
        ),
        line(rf"{tex(lora)} / {tex(shape.hidden)} = {tex(value)}"),
    ]
    return result(
        value, "tokens", steps,
        (value / shape.num_layers, "that LoRA is in every layer"),
        (
            shape.num_layers * r * 2 * sums[0] / shape.hidden,
            "grouped-query attention: values are narrower than queries here",
        ),
        tolerance=0.01,
    )  # fmt: skip


def seq2seq_rows(case: Case) -> Answer:
    """Parameters on an encoder-decoder, for which PEFT makes two tables."""
    n, d = case["n"], case.shape.hidden
    value = case.trained("prompt", num_virtual_tokens=n)
    steps = [line(rf"2 \cdot {n} \cdot {tex(d)} = {tex(value)}")]
    return result(
        value,
        "parameters",
        steps,
        (n * d, "that PEFT makes one table for the encoder and one for the decoder"),
        named={"used": plain(n * d)},
        wholes=beside(case),
    )


def returned_length(case: Case) -> Answer:
    """Length of the logits that come back when a prompt stands before the text."""
    n, length = case["n"], case["length"]
    value = n + length
    steps = [line(rf"{n} + {length} = {value}")]
    return result(
        value,
        "positions",
        steps,
        (length, "the virtual tokens: the model sees a longer sequence"),
        (n, "the text"),
    )
