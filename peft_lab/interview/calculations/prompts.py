"""Prefix Tuning, Prompt Tuning and P-Tuning: what is stored and trained, and what virtual tokens take."""

from __future__ import annotations

from peft_lab.interview.computed import (
    BITS,
    HALF,
    MOMENTS,
    NO_GQA,
    SINGLE,
    Answer,
    Case,
    beside,
    both,
    product,
    result,
    share,
    tex,
    told,
    widest_kv,
)

NARROW = 64  # a cheaper width of the projection
BATCH = 32
LONG = 128 * 1024  # positions of a long model


def prefix_stored(case: Case) -> Answer:
    """Return the parameters in the saved prefix: keys and values of every layer."""
    shape, n = case.shape, case["n"]
    value = case.stored("prefix", num_virtual_tokens=n)
    steps = [
        rf"2\,L\,d_{{kv}}\,n = 2 \cdot {shape.num_layers} \cdot {tex(shape.kv_width)} \cdot {n} = {tex(value)}"
    ]
    return result(
        value, "parameters", steps,
        (2 * shape.num_layers * widest_kv(case) * n, NO_GQA),
        (value // 2, "that there are keys and values"),
        (value // shape.num_layers, "the layers: each of them has its own prefix"),
        (n * shape.hidden, "that this is not Prompt Tuning: every layer has a prefix"),
        named={"share": share(value, shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip


def projected(case: Case) -> Answer:
    """Return the parameters that are trained when an MLP makes the prefix."""
    shape, n, width = case.shape, case["n"], case.shape.kv_width
    value = case.trained("prefix", num_virtual_tokens=n, prefix_projection=True, encoder_hidden_size=width)
    kept = case.stored("prefix", num_virtual_tokens=n)
    out = 2 * shape.num_layers * width
    steps = [
        rf"\text{{table}}: {n} \cdot {tex(width)} = {tex(n * width)}",
        rf"\text{{first layer}}: {tex(width)} \cdot {tex(width)} + {tex(width)} = {tex(width * width + width)}",
        (
            rf"\text{{second layer}}: ({tex(width)} + 1) \cdot 2 \cdot {shape.num_layers} \cdot {tex(width)} = "
            rf"{tex((width + 1) * out)}"
        ),
        rf"\text{{together}}: {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (kept, "the projection: this is what is stored"),
        (value - width - out, "the biases of the projection"),
        (value - n * width, "the table that is the input of the projection"),
        (n * width + 2 * (width * width + width), "that its output contains the keys and values of all layers"),
        named={"share": share(value, shape.total + value), "kept": kept, "times": value / kept},
        wholes=beside(case),
    )  # fmt: skip


def projected_share(case: Case) -> Answer:
    """Return the percent of model and prefix together that is trained when an MLP makes the prefix."""
    shape, n, width = case.shape, case["n"], case.shape.kv_width
    trained = case.trained("prefix", num_virtual_tokens=n, prefix_projection=True, encoder_hidden_size=width)
    kept = case.stored("prefix", num_virtual_tokens=n)
    value = 100 * trained / (shape.total + trained)
    if value < case["claimed"]:  # what is kept is less than what is trained
        verdict = "both of what is stored and of what is trained here"
    elif 100 * kept / (shape.total + kept) < case["claimed"]:
        verdict = "of what is stored, not of what is trained here"
    else:
        verdict = "neither of what is stored nor of what is trained here"
    steps = [rf"\frac{{{tex(trained)}}}{{{tex(shape.total)} + {tex(trained)}}} = {tex(value)}\,\%"]
    return result(
        value, "percent", steps,
        (100 * kept / (shape.total + kept), "the projection, which is trained as well"),
        (100 * trained / shape.total, "the adapter itself in the denominator"),
        named={"kept": share(kept, shape.total + kept), "verdict": verdict},
    )  # fmt: skip


def cache_bytes(case: Case) -> Answer:
    """Return the bytes of one prefix token in the cache, in 16 bits."""
    shape = case.shape
    value = 2 * shape.num_layers * shape.kv_width * HALF
    steps = [
        (
            rf"2 \cdot L \cdot d_{{kv}} \cdot 2\ \text{{bytes}} = 2 \cdot {shape.num_layers} \cdot "
            rf"{tex(shape.kv_width)} \cdot 2 = {tex(value)}"
        )
    ]
    return result(
        value, "bytes", steps,
        (2 * shape.num_layers * widest_kv(case) * HALF, NO_GQA),
        (value // 2, "that there are keys and values (or the two bytes of bfloat16)"),
        (value // 2 * 4, "that bfloat16 has two bytes, not four"),
        (value // shape.num_layers, "the layers"),
        (value * BITS, "that the question is in bytes, not bits"),
    )  # fmt: skip


def prefix_matching_tokens(case: Case) -> Answer:
    """Return the prefix length with as many stored parameters as LoRA on queries and values."""
    shape, r = case.shape, case["r"]
    lora = case.lora(r, "q", "v")
    each = case.stored("prefix", num_virtual_tokens=1)
    value = lora / each
    q, v = shape.block["q"], shape.block["v"]
    steps = [
        (
            rf"\text{{LoRA}}: {shape.num_layers} \cdot {r} \cdot ({tex(q.in_features + q.out_features)} + "
            rf"{tex(v.in_features + v.out_features)}) = {tex(lora)}"
        ),
        rf"\text{{one prefix token}}: 2 \cdot {shape.num_layers} \cdot {tex(shape.kv_width)} = {tex(each)}",
        rf"{tex(lora)} / {tex(each)} = {tex(value)}",
    ]
    return result(
        value, "tokens", steps,
        (lora / (2 * shape.num_layers * widest_kv(case)), NO_GQA + ", which makes a prefix token cheaper"),
        (2 * value, "that a prefix token has keys and values"),
        (lora / shape.hidden, "that a prefix token has keys and values in every layer"),
        tolerance=0.01,
    )  # fmt: skip


def batch_cache(case: Case) -> Answer:
    """Return the bytes of the prefix in the cache of a whole batch, in 16 bits."""
    shape, n, batch = case.shape, case["n"], case["batch"]
    each = 2 * shape.num_layers * shape.kv_width * HALF
    value = each * n * batch
    steps = [rf"{batch} \cdot {n} \cdot {tex(each)} = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (each * n, "the batch: PEFT writes the prefix into the cache of every sequence"),
        (2 * shape.num_layers * widest_kv(case) * HALF * n * batch, NO_GQA),
        (value // 2, "that there are keys and values (or the two bytes of bfloat16)"),
        tolerance=0.005,
        named={"once": each * n / 1e6},
    )  # fmt: skip


def uniform_attention(case: Case) -> Answer:
    """Return the percent of the attention that falls on the prefix when it is spread evenly."""
    n, length = case["n"], case["length"]
    value = 100 * n / (n + length)
    steps = [rf"\frac{{{n}}}{{{n} + {length}}} = {tex(value)}\,\%"]
    return result(
        value,
        "percent",
        steps,
        (100 * n / length, "that the weights are shared by prefix and text"),
    )


def prefix_bytes(case: Case) -> Answer:
    return told(2 * case.shape.num_layers * case.shape.kv_width * HALF * case["n"], "bytes")


def token_bytes_in_batch(case: Case) -> Answer:
    each = 2 * case.shape.num_layers * case.shape.kv_width * HALF
    return told(each * BATCH, "bytes", batch=BATCH)


def projection_moments(case: Case) -> Answer:
    width = case.shape.kv_width
    trained = case.trained(
        "prefix", num_virtual_tokens=case["n"], prefix_projection=True, encoder_hidden_size=width
    )
    kept = case.stored("prefix", num_virtual_tokens=case["n"])
    return told(
        trained * MOMENTS * SINGLE, "bytes", plain_prefix=told(kept * MOMENTS * SINGLE, "bytes").shown
    )


def first_token_share(case: Case) -> Answer:
    return told(100 * case["n"] / (case["n"] + 1), "percent")


def narrow_projection(case: Case) -> Answer:
    value = case.trained(
        "prefix", num_virtual_tokens=case["n"], prefix_projection=True, encoder_hidden_size=NARROW
    )
    return told(value, "parameters", width=NARROW)


def prompt_parameters(case: Case) -> Answer:
    """Return the parameters of the virtual tokens: ``n d``."""
    shape, n = case.shape, case["n"]
    value = case.trained("prompt", num_virtual_tokens=n)
    steps = [rf"n \cdot d = {n} \cdot {tex(shape.hidden)} = {tex(value)}"]
    return result(
        value, "parameters", steps,
        (value * shape.num_layers, "that the prompt is at the input only, not in every layer"),
        (
            2 * shape.num_layers * shape.kv_width * n,
            "that this is not Prefix Tuning: there are no keys and values to learn",
        ),
        (n * shape.vocab, "that a soft token is an embedding, not a distribution over words"),
        named={"share": share(value, shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip


def prompt_share(case: Case) -> Answer:
    """Return the virtual tokens' parameters as a percentage of model and prompt together."""
    shape, n = case.shape, case["n"]
    trained = case.trained("prompt", num_virtual_tokens=n)
    value = 100 * trained / (shape.total + trained)
    steps = [
        rf"\frac{{{product(n, shape.hidden)}}}{{{tex(shape.total)} + {tex(trained)}}} = {tex(value)}\,\%"
    ]
    return result(
        value, "percent", steps,
        (value * shape.num_layers, "that the prompt is at the input only, not in every layer"),
        (value / n, "the number of tokens"),
        (100 * n / shape.vocab, "that the share is of all parameters, not of the vocabulary"),
        named={"trained": trained},
    )  # fmt: skip


def tensor_bytes(case: Case) -> Answer:
    """Return the bytes of the virtual tokens' table in float32."""
    n, d = case["n"], case.shape.hidden
    value = case.stored("prompt", num_virtual_tokens=n) * SINGLE
    steps = [rf"{n} \cdot {tex(d)} \cdot 4 = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (value // SINGLE, "that a float32 number has four bytes"),
        (value // 2, "that it is stored in float32, not in 16 bits"),
        (value * 8, "that the question is in bytes, not bits"),
        named={"per_gigabyte": f"{10**9 // value:,}"},
    )  # fmt: skip


def positions_left(case: Case) -> Answer:
    """Return the percent of the model's positions that the virtual tokens take."""
    positions, n = case.shape.max_positions or 0, case["n"]
    value = 100 * n / positions
    steps = [
        rf"{tex(positions)} - {n} = {tex(positions - n)}",
        rf"{n} / {tex(positions)} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", steps,
        (100 * n / (positions - n), "that the share is of all positions, not of the remaining ones"),
        (100 * (positions - n) / positions, "the direction: ask what is lost, not what is left"),
        named={"left": f"{positions - n:,}"},
    )  # fmt: skip


def attention_growth(case: Case) -> Answer:
    """Return by which factor the virtual tokens multiply attention's pairs of positions."""
    n, length = case["n"], case["length"]
    value = ((n + length) / length) ** 2
    steps = [rf"\frac{{({n} + {length})^2}}{{{length}^2}} = {tex(value)}"]
    return result(
        value, "times", steps,
        ((n + length) / length, "the square: each position attends to each other"),
        (value - 1, "the original pairs: ask for the ratio, not the increase"),
        named={"linear": f"{(n + length) / length:.3g}"},
    )  # fmt: skip


def prompt_matching_tokens(case: Case) -> Answer:
    """Return the virtual tokens with as many parameters as LoRA on queries and values."""
    shape, r = case.shape, case["r"]
    lora = case.lora(r, "q", "v")
    value = lora / shape.hidden
    sums = [both(shape.block[role]) for role in ("q", "v")]
    steps = [
        rf"\text{{LoRA}}: {shape.num_layers} \cdot {r} \cdot ({tex(sums[0])} + {tex(sums[1])}) = {tex(lora)}",
        rf"{tex(lora)} / {tex(shape.hidden)} = {tex(value)}",
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
    """Return the parameters on an encoder-decoder, for which PEFT makes two tables."""
    n, d = case["n"], case.shape.hidden
    value = case.trained("prompt", num_virtual_tokens=n)
    steps = [rf"2 \cdot {n} \cdot {tex(d)} = {tex(value)}"]
    return result(
        value,
        "parameters",
        steps,
        (n * d, "that PEFT makes one table for the encoder and one for the decoder"),
        named={"used": n * d},
        wholes=beside(case),
    )


def returned_length(case: Case) -> Answer:
    """Return the length of the logits that come back when a prompt stands before the text."""
    n, length = case["n"], case["length"]
    value = n + length
    steps = [rf"{n} + {length} = {value}"]
    return result(
        value,
        "positions",
        steps,
        (length, "the virtual tokens: they make the sequence longer"),
        (n, "the text"),
    )


def prefix_of_same_length(case: Case) -> Answer:
    value = 2 * case.shape.num_layers * case.shape.kv_width * case["n"]
    return told(value, "parameters", times=value / (case["n"] * case.shape.hidden))


def share_of_long_context(case: Case) -> Answer:
    return told(100 * case["n"] / LONG, "percent")


def growth_through_prefix(case: Case) -> Answer:
    n, length = case["n"], case["length"]
    return told((n + length) / length, "times")


def unchanged_length(case: Case) -> Answer:
    return told(case["length"], "positions")


def ptuning_stored(case: Case) -> Answer:
    """Return the parameters in the saved prompt, without the encoder that made it."""
    shape, n = case.shape, case["n"]
    value = case.stored("ptuning", num_virtual_tokens=n)
    trained = case.trained("ptuning", num_virtual_tokens=n)
    steps = [rf"n \cdot d = {n} \cdot {tex(shape.hidden)} = {tex(value)}"]
    return result(
        value, "parameters", steps,
        (trained, "that the encoder is discarded after training"),
        (trained - value, "the tokens: only the encoder is discarded"),
        (2 * shape.num_layers * shape.kv_width * n, "that version 1 acts at the input only"),
        named={"bytes": value * SINGLE / 1e6, "trained": trained},
        wholes=beside(case),
    )  # fmt: skip


def mlp(case: Case) -> Answer:
    """Return the parameters that are trained with an MLP of a given width."""
    d, n, h = case.shape.hidden, case["n"], case["width"]
    value = case.trained("ptuning", num_virtual_tokens=n, encoder_hidden_size=h)
    steps = [
        rf"n\,d = {n} \cdot {tex(d)} = {tex(n * d)}",
        rf"(d\,h + h) + (h^2 + h) + (h\,d + d) = {tex(d * h + h)} + {tex(h * h + h)} + {tex(h * d + d)}",
        rf"\text{{together}}: {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (n * d, "the encoder, which is trained as well"),
        (value - n * d, "the table that is the input of the encoder"),
        (value - h * h - h, "that the MLP has three linear layers"),
        (value - 2 * h - d, "the biases"),
        tolerance=0.0005,
        named={"share": share(value, case.shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip


def default_width(case: Case) -> Answer:
    """Return the parameters that are trained with an MLP as wide as the model."""
    d, n = case.shape.hidden, case["n"]
    value = case.trained("ptuning", num_virtual_tokens=n)
    steps = [
        rf"h = d: \quad n\,d + 3\,(d^2 + d) = {tex(n * d)} + 3 \cdot {tex(d * d + d)}",
        rf"= {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (n * d, "the encoder, which is trained as well"),
        (n * d + 2 * (d * d + d), "that the MLP has three linear layers"),
        tolerance=0.0005,
        named={"share": share(value, case.shape.total + value), "times": value / (n * d)},
        wholes=beside(case),
    )  # fmt: skip


def lstm(case: Case) -> Answer:
    """Return the parameters that are trained with an LSTM in both directions."""
    d, n, layers = case.shape.hidden, case["n"], case["lstm_layers"]
    value = case.trained(
        "ptuning", num_virtual_tokens=n, encoder_reparameterization_type="LSTM", encoder_num_layers=layers
    )
    first, later = 8 * d * (2 * d + 2), 8 * d * (3 * d + 2)
    head = (4 * d * d + 2 * d) + (2 * d * d + d)
    steps = [
        rf"\text{{first layer}}: 2 \cdot 4 \cdot d\,(d + d + 2) = {tex(first)}",
        rf"\text{{each further layer}}: 2 \cdot 4 \cdot d\,(2d + d + 2) = {tex(later)}",
        rf"\text{{two linear layers}}: (4d^2 + 2d) + (2d^2 + d) = {tex(head)}",
        rf"\text{{with the table}}\ {tex(n * d)}: \quad {tex(value)}",
    ]
    recurrent = first + (layers - 1) * later
    return result(
        value, "parameters", steps,
        (value - recurrent // 2, "that the LSTM runs in both directions"),
        (value - recurrent * 3 // 4, "the four gates of an LSTM"),
        (value - head, "the two linear layers after the LSTM"),
        (value - (layers - 1) * later, "that the LSTM has more than one layer"),
        (n * d, "the encoder, which is trained as well"),
        tolerance=0.001,
        named={"share": share(value, case.shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip


def thrown_away(case: Case) -> Answer:
    """Return the percent of the trained parameters that are not saved."""
    d, n, h = case.shape.hidden, case["n"], case["width"]
    values = {"num_virtual_tokens": n, "encoder_hidden_size": h}
    trained, kept = case.trained("ptuning", **values), case.stored("ptuning", **values)
    value = 100 * (1 - kept / trained)
    steps = [
        rf"\text{{stored}}: {n} \cdot {tex(d)} = {tex(kept)} \qquad \text{{trained}}: {tex(trained)}",
        rf"1 - {tex(kept)} / {tex(trained)} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", steps, (100 * kept / trained, "the direction: ask what is lost, not what is kept")
    )


def deep_prompts(case: Case) -> Answer:
    """Return the parameters of the prompts of version 2, in every layer."""
    shape, n = case.shape, case["n"]
    value = 2 * shape.num_layers * shape.kv_width * n
    steps = [
        rf"2\,L\,d_{{kv}}\,n = 2 \cdot {shape.num_layers} \cdot {tex(shape.kv_width)} \cdot {n} = {tex(value)}"
    ]
    return result(
        value, "parameters", steps,
        (n * shape.hidden, "that version 2 has prompts in every layer"),
        (value // 2, "that there are keys and values"),
        (
            2 * shape.num_layers * widest_kv(case) * n,
            "grouped-query attention: keys and values are narrower than queries here",
        ),
        named={"share": share(value, shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip


def encoder_as_wide(case: Case) -> Answer:
    value = case.trained("ptuning", num_virtual_tokens=case["n"], encoder_hidden_size=case.shape.hidden)
    return told(value, "parameters", width=case.shape.hidden)


def encoder_moments(case: Case) -> Answer:
    value = case.trained("ptuning", num_virtual_tokens=case["n"], encoder_hidden_size=case.shape.hidden)
    kept = told(case["n"] * case.shape.hidden * MOMENTS * SINGLE, "bytes").shown
    return told(value * MOMENTS * SINGLE, "bytes", tokens=kept)
