"""LoRA: counts, scales and ranks; rates, targets and capacity; other starts."""

from __future__ import annotations

from peft_lab.interview.computed import (
    HALF,
    NO_GQA,
    SINGLE,
    Answer,
    Case,
    Whole,
    beside,
    both,
    entries,
    figure,
    result,
    share,
    tex,
)

ATTENTION, FEED_FORWARD = ("q", "k", "v", "o"), ("gate", "up", "down")


def one_map(case: Case) -> Answer:
    """Return the parameters of A and B on one map: ``r (d_in + d_out)``."""
    q, r = case.matrix("q"), case["r"]
    value = case.lora(r, "q") // q.count
    steps = [
        rf"A: {r} \times {tex(q.in_features)} \qquad B: {tex(q.out_features)} \times {r}",
        rf"r\,(d_{{in}} + d_{{out}}) = {r} \cdot ({tex(q.in_features)} + {tex(q.out_features)}) = {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (r * q.in_features, "B: the correction is a product of two matrices"),
        (2 * value, "that r times (inputs + outputs) already covers A and B: you counted both twice"),
        (entries(q), "the factorisation: this is the whole matrix"),
        (r * entries(q), "that inputs and outputs are added, not multiplied"),
        named={"share": share(value, entries(q))},
        wholes=(Whole(case.shape.total), Whole(entries(q), "the matrix", added=False)),
    )  # fmt: skip


def query_value(case: Case) -> Answer:
    """Return the parameters of A and B on the queries and values of all layers."""
    q, v, r, layers = case.matrix("q"), case.matrix("v"), case["r"], case.shape.num_layers
    value = case.lora(r, "q", "v")
    heads = case.shape.heads
    mixed_up = f"the layers: {heads} is the number of heads, the number of layers is {layers}"
    twice = f"{NO_GQA}; and {mixed_up}" if both(v) != both(q) else mixed_up
    steps = [
        rf"q: {r} \cdot ({tex(q.in_features)} + {tex(q.out_features)}) = {tex(r * both(q))}",
        rf"v: {r} \cdot ({tex(v.in_features)} + {tex(v.out_features)}) = {tex(r * both(v))}",
        rf"{layers} \cdot ({tex(r * both(q))} + {tex(r * both(v))}) = {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (2 * layers * r * both(q), NO_GQA),
        (value // layers, "the layers: each of them has its own A and B"),
        (layers * r * (q.in_features + v.in_features), "B: the correction is a product of two matrices"),
        (layers * r * (q.out_features + v.out_features), "A: the correction is a product of two matrices"),
        (layers * r * both(q), "the values: two maps per layer are adapted"),
        (2 * heads * r * both(q), twice),
        (heads * r * (both(q) + both(v)), mixed_up),
        named={
            "share": share(value, case.shape.total + value),
            "q_each": r * both(q),
            "v_each": r * both(v),
        },
        wholes=beside(case),
    )  # fmt: skip


def every_map(case: Case) -> Answer:
    """Return the parameters of A and B on every linear map of all layers."""
    shape, r = case.shape, case["r"]
    value = case.lora(r)
    inside = [shape.block[role] for role in ("q", "k", "v", "o", "gate", "up", "down")]
    sums = [both(group) for group in inside]
    each = r * sum(sums)
    steps = [
        rf"\sum (d_{{in}} + d_{{out}}) = {' + '.join(tex(s) for s in sums)} = {tex(sum(sums))}",
        rf"{shape.num_layers} \cdot {r} \cdot {tex(sum(sums))} = {tex(value)}",
    ]
    full_kv = 2 * (2 * shape.hidden) - both(shape.block["k"]) - both(shape.block["v"])
    gate, layers = r * both(shape.block["gate"]), shape.num_layers
    return result(
        value, "parameters", steps,
        (layers * r * (sum(sums) + full_kv), NO_GQA),
        (layers * (each - gate), "the gate: this feed-forward part has three maps"),
        (layers * r * sum(sums[:4]), "the feed-forward part: all linear maps are adapted, not only the attention"),
        (each, "the layers"),
        named={"attention": share(sum(sums[:4]), sum(sums))},
        wholes=beside(case),
    )  # fmt: skip


def dora_magnitudes(case: Case) -> Answer:
    """Return the parameters that DoRA adds to LoRA on queries and values: a magnitude for each output."""
    q, v, layers = case.matrix("q"), case.matrix("v"), case.shape.num_layers
    names = [case.shape.target_name(group) for group in (q, v)]
    value = case.trained("lora", r=8, target_modules=names, use_dora=True) - case.trained(
        "lora", r=8, target_modules=names
    )
    steps = [
        rf"d_{{out}}: {tex(q.out_features)} + {tex(v.out_features)} = {tex(q.out_features + v.out_features)}",
        rf"{layers} \cdot {tex(q.out_features + v.out_features)} = {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (2 * layers * q.out_features, NO_GQA),
        (q.out_features + v.out_features, "the layers"),
        wholes=beside(case),
    )  # fmt: skip


def value_map(case: Case) -> Answer:
    return figure(case["r"] * both(case.matrix("v")), "parameters")


def per_rank(case: Case) -> int:
    """Return the parameters per rank if every linear map of the blocks is adapted."""
    return case.lora(1)


def attention_rank(case: Case) -> Answer:
    """Return the rank on attention maps alone that has as many parameters as a rank on the feed-forward maps alone."""
    r, block = case["r"], case.shape.block
    feed = sum(both(group) for role, group in block.items() if role in FEED_FORWARD)
    attention = sum(both(group) for role, group in block.items() if role in ATTENTION)
    value = r * feed / attention
    steps = [
        rf"\text{{feed-forward, per rank}}: {tex(feed)} \qquad \text{{attention, per rank}}: {tex(attention)}",
        rf"{r} \cdot \frac{{{tex(feed)}}}{{{tex(attention)}}} = {tex(value)}",
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


def covariances(case: Case) -> Answer:
    """Return the bytes of the covariance matrices of every adapted map's inputs, in float32."""
    inside = [case.shape.block[role] for role in ("q", "k", "v", "o", "gate", "up", "down")]
    each = sum(group.in_features**2 for group in inside)
    layers = case.shape.num_layers
    value = layers * each * SINGLE
    hidden, o_in, down_in = (case.matrix(role).in_features for role in ("q", "o", "down"))
    steps = [
        rf"\sum d_{{in}}^2 = 5 \cdot {tex(hidden)}^2 + {tex(o_in)}^2 + {tex(down_in)}^2 = {tex(each)}",
        rf"{layers} \cdot {tex(each)} \cdot {SINGLE} = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (layers * sum(group.in_features for group in inside) * SINGLE, "that a covariance is a square matrix"),
        (value // layers, "the layers"),
        (value // 2, "that the numbers are in float32"),
        (
            layers * sum(g.in_features * g.out_features for g in inside) * SINGLE,
            "that only inputs enter the covariance, not outputs",
        ),
        tolerance=0.01,
        named={
            "weights": case.shape.total * HALF / 1e9,
            "times": value / (case.shape.total * HALF),
        },
    )  # fmt: skip
