"""Prefix Tuning: what is stored, what is trained, and what it takes of the cache and of the attention."""

from __future__ import annotations

from peft_lab.interview.computed import (
    BITS,
    NO_GQA,
    Answer,
    Case,
    beside,
    line,
    plain,
    result,
    share,
    tex,
    widest_kv,
)

HALF_PRECISION = 2  # bytes of bf16 or fp16


def stored(case: Case) -> Answer:
    """Parameters in the saved prefix: keys and values of every layer."""
    shape, n = case.shape, case["n"]
    value = case.stored("prefix", num_virtual_tokens=n)
    steps = [
        line(
            rf"2\,L\,d_{{kv}}\,n = 2 \cdot {shape.num_layers} \cdot {tex(shape.kv_width)} \cdot {n} = {tex(value)}"
        )
    ]
    return result(
        value, "parameters", steps,
        (2 * shape.num_layers * widest_kv(case) * n, NO_GQA),
        (value // 2, "that there are keys and values"),
        (value // shape.num_layers, "the layers: each of them has its own prefix"),
        (n * shape.hidden, "that this is not Prompt Tuning: a prefix stands in every layer"),
        named={"share": share(value, shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip


def projected(case: Case) -> Answer:
    """Parameters that are trained when an MLP makes the prefix."""
    shape, n, width = case.shape, case["n"], case.shape.kv_width
    value = case.trained("prefix", num_virtual_tokens=n, prefix_projection=True, encoder_hidden_size=width)
    kept = case.stored("prefix", num_virtual_tokens=n)
    out = 2 * shape.num_layers * width
    steps = [
        line(rf"\text{{table}}: {n} \cdot {tex(width)} = {tex(n * width)}"),
        line(
            rf"\text{{first layer}}: {tex(width)} \cdot {tex(width)} + {tex(width)} = {tex(width * width + width)}"
        ),
        line(
            rf"\text{{second layer}}: ({tex(width)} + 1) \cdot 2 \cdot {shape.num_layers} \cdot {tex(width)} = "
            rf"{tex((width + 1) * out)}"
        ),
        line(rf"\text{{together}}: {tex(value)}"),
    ]
    return result(
        value, "parameters", steps,
        (kept, "the projection: that is what is stored"),
        (value - width - out, "the biases of the projection"),
        (value - n * width, "the table that goes into the projection"),
        (n * width + 2 * (width * width + width), "that its output holds the keys and values of all layers"),
        named={"share": share(value, shape.total + value), "kept": plain(kept), "times": plain(value / kept)},
        wholes=beside(case),
    )  # fmt: skip


def projected_share(case: Case) -> Answer:
    """Percent of model and prefix together that is trained when an MLP makes the prefix."""
    shape, n, width = case.shape, case["n"], case.shape.kv_width
    trained = case.trained("prefix", num_virtual_tokens=n, prefix_projection=True, encoder_hidden_size=width)
    kept = case.stored("prefix", num_virtual_tokens=n)
    value = 100 * trained / (shape.total + trained)
    if value < case["claimed"]:  # what is kept is less than what is trained
        verdict = "both of what is kept and of what is trained here"
    elif 100 * kept / (shape.total + kept) < case["claimed"]:
        verdict = "of what is kept, not of what is trained here"
    else:
        verdict = "neither of what is kept nor of what is trained here"
    steps = [line(rf"\frac{{{tex(trained)}}}{{{tex(shape.total)} + {tex(trained)}}} = {tex(value)}\,\%")]
    return result(
        value, "percent", steps,
        (100 * kept / (shape.total + kept), "the projection, which is trained as well"),
        (100 * trained / shape.total, "the adapter itself in the denominator"),
        named={"kept": share(kept, shape.total + kept), "verdict": verdict},
    )  # fmt: skip


def cache_bytes(case: Case) -> Answer:
    """Bytes of one prefix token in the cache, in 16 bits."""
    shape = case.shape
    value = 2 * shape.num_layers * shape.kv_width * HALF_PRECISION
    steps = [
        line(
            rf"2 \cdot L \cdot d_{{kv}} \cdot 2\ \text{{bytes}} = 2 \cdot {shape.num_layers} \cdot "
            rf"{tex(shape.kv_width)} \cdot 2 = {tex(value)}"
        )
    ]
    return result(
        value, "bytes", steps,
        (2 * shape.num_layers * widest_kv(case) * HALF_PRECISION, NO_GQA),
        (value // 2, "that there are keys and values (or the two bytes of bfloat16)"),
        (value // 2 * 4, "that bfloat16 has two bytes, not four"),
        (value // shape.num_layers, "the layers"),
        (value * BITS, "that the question is in bytes, not bits"),
    )  # fmt: skip


def matching_tokens(case: Case) -> Answer:
    """Prefix tokens that are stored in as many parameters as LoRA on queries and values has."""
    shape, r = case.shape, case["r"]
    names = [shape.target_name(shape.block[role]) for role in ("q", "v")]
    lora = case.trained("lora", r=r, target_modules=names)
    each = case.stored("prefix", num_virtual_tokens=1)
    value = lora / each
    q, v = shape.block["q"], shape.block["v"]
    steps = [
        line(
            rf"\text{{LoRA}}: {shape.num_layers} \cdot {r} \cdot ({tex(q.in_features + q.out_features)} + "
            rf"{tex(v.in_features + v.out_features)}) = {tex(lora)}"
        ),
        line(
            rf"\text{{one prefix token}}: 2 \cdot {shape.num_layers} \cdot {tex(shape.kv_width)} = {tex(each)}"
        ),
        line(rf"{tex(lora)} / {tex(each)} = {tex(value)}"),
    ]
    return result(
        value, "tokens", steps,
        (lora / (2 * shape.num_layers * widest_kv(case)), NO_GQA + ", which makes a prefix token cheaper"),
        (2 * value, "that a prefix token has keys and values"),
        (lora / shape.hidden, "that a prefix token has keys and values in every layer"),
        tolerance=0.01,
    )  # fmt: skip


def batch_cache(case: Case) -> Answer:
    """Bytes of the prefix in the cache of a whole batch, in 16 bits."""
    shape, n, batch = case.shape, case["n"], case["batch"]
    each = 2 * shape.num_layers * shape.kv_width * HALF_PRECISION
    value = each * n * batch
    steps = [line(rf"{batch} \cdot {n} \cdot {tex(each)} = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (each * n, "the batch: PEFT writes the prefix into the cache of every sequence"),
        (2 * shape.num_layers * widest_kv(case) * HALF_PRECISION * n * batch, NO_GQA),
        (value // 2, "that there are keys and values (or the two bytes of bfloat16)"),
        tolerance=0.005,
        named={"once": plain(each * n / 1e6)},
    )  # fmt: skip


def uniform_attention(case: Case) -> Answer:
    """Percent of the attention that falls on the prefix when it is spread evenly."""
    n, length = case["n"], case["length"]
    value = 100 * n / (n + length)
    steps = [line(rf"\frac{{{n}}}{{{n} + {length}}} = {tex(value)}\,\%")]
    return result(
        value,
        "percent",
        steps,
        (100 * n / length, "that the weights are shared out over prefix and text together"),
    )
