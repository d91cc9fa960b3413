"""LoRA: counts, scales and ranks."""

from __future__ import annotations

from peft_lab.interview.computed import (
    NO_GQA,
    Answer,
    Case,
    Whole,
    beside,
    both,
    entries,
    line,
    plain,
    product,
    result,
    share,
    tex,
)


def one_map(case: Case) -> Answer:
    """Parameters of A and B on one map: ``r (d_in + d_out)``."""
    q, r = case.matrix("q"), case["r"]
    value = case.trained("lora", r=r, target_modules=[case.shape.target_name(q)]) // q.count
    steps = [
        line(rf"A: {r} \times {tex(q.in_features)} \qquad B: {tex(q.out_features)} \times {r}"),
        line(
            rf"r\,(d_{{in}} + d_{{out}}) = {r} \cdot ({tex(q.in_features)} + {tex(q.out_features)}) = {tex(value)}"
        ),
    ]
    return result(
        value, "parameters", steps,
        (r * q.in_features, "B: the correction is a product of two matrices"),
        (2 * value, "that r times inputs and outputs together is A and B already: both were counted twice"),
        (entries(q), "the factorisation: that is the whole matrix"),
        (r * entries(q), "that inputs and outputs are added, not multiplied"),
        named={"share": share(value, entries(q))},
        wholes=(Whole(case.shape.total), Whole(entries(q), "the matrix", added=False)),
    )  # fmt: skip


def query_value(case: Case) -> Answer:
    """Parameters of A and B on the queries and values of all layers."""
    q, v, r, layers = case.matrix("q"), case.matrix("v"), case["r"], case.shape.num_layers
    names = [case.shape.target_name(group) for group in (q, v)]
    value = case.trained("lora", r=r, target_modules=names)
    heads = case.shape.heads
    mixed_up = f"the layers: {heads} is the number of heads, the number of layers is {layers}"
    twice = f"{NO_GQA}; and {mixed_up}" if both(v) != both(q) else mixed_up
    steps = [
        line(rf"q: {r} \cdot ({tex(q.in_features)} + {tex(q.out_features)}) = {tex(r * both(q))}"),
        line(rf"v: {r} \cdot ({tex(v.in_features)} + {tex(v.out_features)}) = {tex(r * both(v))}"),
        line(rf"{layers} \cdot ({tex(r * both(q))} + {tex(r * both(v))}) = {tex(value)}"),
    ]
    return result(
        value, "parameters", steps,
        (2 * layers * r * both(q), NO_GQA),
        (value // layers, "the layers: every one of them has its own A and B"),
        (layers * r * (q.in_features + v.in_features), "B: the correction is a product of two matrices"),
        (layers * r * (q.out_features + v.out_features), "A: the correction is a product of two matrices"),
        (layers * r * both(q), "the values: two maps per layer are adapted"),
        (2 * heads * r * both(q), twice),
        (heads * r * (both(q) + both(v)), mixed_up),
        named={
            "share": share(value, case.shape.total + value),
            "q_each": plain(r * both(q)),
            "v_each": plain(r * both(v)),
        },
        wholes=beside(case),
    )  # fmt: skip


def every_map(case: Case) -> Answer:
    """Parameters of A and B on every linear map of all layers."""
    shape, r = case.shape, case["r"]
    value = case.trained("lora", r=r, target_modules=["all-linear"])
    inside = [shape.block[role] for role in ("q", "k", "v", "o", "gate", "up", "down")]
    sums = [both(group) for group in inside]
    each = r * sum(sums)
    steps = [
        line(rf"\sum (d_{{in}} + d_{{out}}) = {' + '.join(tex(s) for s in sums)} = {tex(sum(sums))}"),
        line(rf"{shape.num_layers} \cdot {r} \cdot {tex(sum(sums))} = {tex(value)}"),
    ]
    full_kv = 2 * (2 * shape.hidden) - both(shape.block["k"]) - both(shape.block["v"])
    gate, layers = r * both(shape.block["gate"]), shape.num_layers
    return result(
        value, "parameters", steps,
        (layers * r * (sum(sums) + full_kv), NO_GQA),
        (layers * (each - gate), "the gate: this feed-forward part has three maps"),
        (layers * r * sum(sums[:4]), "the feed-forward part: all linear maps are adapted, not the attention alone"),
        (each, "the layers"),
        named={"attention": share(sum(sums[:4]), sum(sums))},
        wholes=beside(case),
    )  # fmt: skip


def break_even(case: Case) -> Answer:
    """The rank at which A and B have as many parameters as the map of the values itself."""
    v, q = case.matrix("v"), case.matrix("q")
    value = entries(v) / both(v)
    steps = [
        line(
            r"r\,(d_{in} + d_{out}) = d_{in}\,d_{out} \;\Rightarrow\; r^* = \frac{d_{in}\,d_{out}}{d_{in} + d_{out}}"
        ),
        line(rf"r^* = \frac{{{product(v.in_features, v.out_features)}}}{{{tex(both(v))}}} = {tex(value)}"),
    ]
    return result(
        value, "", steps,
        (entries(q) / both(q), NO_GQA),
        (
            min(v.in_features, v.out_features),
            "that both A and B cost parameters; this is the rank at which nothing is lost any more",
        ),
        named={"q_even": plain(entries(q) / both(q))},
    )  # fmt: skip


def plain_scale(case: Case) -> Answer:
    """LoRA's factor before BA: α/r."""
    alpha, r = case["alpha"], case["r"]
    value = alpha / r
    return result(
        value, "", [line(rf"\frac{{\alpha}}{{r}} = \frac{{{alpha}}}{{{r}}} = {tex(value)}")],
        (r / alpha, "the direction: α is divided by r"),
        (float(alpha), "the division by r"),
        (alpha / r**0.5, "that the square root belongs to rsLoRA"),
    )  # fmt: skip


def rank_stabilised(case: Case) -> Answer:
    """rsLoRA's factor before BA: α/√r (Kalajdzievski 2023, arXiv 2312.03732)."""
    alpha, r = case["alpha"], case["r"]
    value = alpha / r**0.5
    return result(
        value, "", [line(rf"\frac{{\alpha}}{{\sqrt{{r}}}} = \frac{{{alpha}}}{{\sqrt{{{r}}}}} = {tex(value)}")],
        (alpha / r, "the square root: this is plain LoRA's α/r"),
        (float(alpha), "the division by √r"),
        named={"plain": f"{alpha / r:g}", "ratio": f"{r**0.5:g}"},
    )  # fmt: skip


def scale_drop(case: Case) -> Answer:
    """How many times smaller α/r is at the larger rank."""
    small, large = case["r"], case["larger"]
    value = large / small
    steps = [
        line(rf"\frac{{\alpha / {small}}}{{\alpha / {large}}} = \frac{{{large}}}{{{small}}} = {tex(value)}")
    ]
    forgotten = (value**0.5, "that the square root belongs to rsLoRA")
    return result(
        value,
        "",
        steps,
        forgotten,
        (1 / value, "the direction: ask how many times smaller"),
        named={"rooted": f"{value**0.5:.3g}"},
    )


def magnitudes(case: Case) -> Answer:
    """Parameters that DoRA adds to LoRA on queries and values: a magnitude for each output."""
    q, v, layers = case.matrix("q"), case.matrix("v"), case.shape.num_layers
    names = [case.shape.target_name(group) for group in (q, v)]
    value = case.trained("lora", r=8, target_modules=names, use_dora=True) - case.trained(
        "lora", r=8, target_modules=names
    )
    steps = [
        line(
            rf"d_{{out}}: {tex(q.out_features)} + {tex(v.out_features)} = {tex(q.out_features + v.out_features)}"
        ),
        line(rf"{layers} \cdot {tex(q.out_features + v.out_features)} = {tex(value)}"),
    ]
    return result(
        value, "parameters", steps,
        (2 * layers * q.out_features, NO_GQA),
        (q.out_features + v.out_features, "the layers"),
        wholes=beside(case),
    )  # fmt: skip


def summed_rank(case: Case) -> Answer:
    """The highest rank that the sum of two corrections can have."""
    q = case.matrix("q")
    first, second = case["r"], case["other"]
    limit = min(q.in_features, q.out_features)
    value = min(first + second, limit)
    steps = [
        line(
            r"\Delta W_1 + \Delta W_2 = \begin{bmatrix} B_1 & B_2 \end{bmatrix} \begin{bmatrix} A_1 \\ A_2 "
            r"\end{bmatrix}"
        ),
        line(rf"\operatorname{{rank}} \le {first} + {second} = {value}"),
    ]
    return result(
        value, "", steps,
        (max(first, second), "that the two corrections span different directions"),
        (first * second, "that ranks add"),
        (limit, "the factorisation: a sum of low-rank matrices has low rank"),
    )  # fmt: skip


def compression(case: Case) -> Answer:
    """How many times fewer parameters A and B have than the map that they correct."""
    q, r = case.matrix("q"), case["r"]
    value = entries(q) / (r * both(q))
    steps = [
        line(rf"\frac{{{product(q.out_features, q.in_features)}}}{{{r} \cdot {tex(both(q))}}} = {tex(value)}")
    ]
    return result(
        value, "times", steps,
        (entries(q) / (r * q.in_features), "B: the correction is a product of two matrices"),
        (1 / value, "the direction: ask how many times fewer"),
    )  # fmt: skip
