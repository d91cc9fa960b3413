"""LoRA: counts, scales and ranks; rates, targets and capacity; other starts."""

from __future__ import annotations

import math

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
    product,
    result,
    share,
    tex,
    told,
)

TENFOLD, SHORT_RUN = (
    10,
    15,
)  # times the rate of full fine-tuning; the second for runs of about a hundred steps
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


def break_even(case: Case) -> Answer:
    """Return the rank at which A and B have as many parameters as the map of the values itself."""
    v, q = case.matrix("v"), case.matrix("q")
    value = entries(v) / both(v)
    steps = [
        r"r\,(d_{in} + d_{out}) = d_{in}\,d_{out} \;\Rightarrow\; r^* = \frac{d_{in}\,d_{out}}{d_{in} + d_{out}}",
        rf"r^* = \frac{{{product(v.in_features, v.out_features)}}}{{{tex(both(v))}}} = {tex(value)}",
    ]
    return result(
        value, "", steps,
        (entries(q) / both(q), NO_GQA),
        (
            min(v.in_features, v.out_features),
            "that both A and B cost parameters; this rank is the full rank",
        ),
        named={"q_even": entries(q) / both(q)},
    )  # fmt: skip


def plain_scale(case: Case) -> Answer:
    """Return LoRA's factor before BA: α/r."""
    alpha, r = case["alpha"], case["r"]
    value = alpha / r
    return result(
        value, "", [rf"\frac{{\alpha}}{{r}} = \frac{{{alpha}}}{{{r}}} = {tex(value)}"],
        (r / alpha, "the direction: α is divided by r"),
        (float(alpha), "the division by r"),
        (alpha / r**0.5, "that the square root belongs to rsLoRA"),
    )  # fmt: skip


def rank_stabilised(case: Case) -> Answer:
    """Return rsLoRA's factor before BA: α/√r (Kalajdzievski 2023, arXiv 2312.03732)."""
    alpha, r = case["alpha"], case["r"]
    value = alpha / r**0.5
    return result(
        value, "", [rf"\frac{{\alpha}}{{\sqrt{{r}}}} = \frac{{{alpha}}}{{\sqrt{{{r}}}}} = {tex(value)}"],
        (alpha / r, "the square root: this is plain LoRA's α/r"),
        (float(alpha), "the division by √r"),
        named={"plain": f"{alpha / r:g}", "ratio": f"{r**0.5:g}"},
    )  # fmt: skip


def scale_drop(case: Case) -> Answer:
    """Return how many times smaller α/r is at the larger rank."""
    small, large = case["r"], case["larger"]
    value = large / small
    steps = [rf"\frac{{\alpha / {small}}}{{\alpha / {large}}} = \frac{{{large}}}{{{small}}} = {tex(value)}"]
    forgotten = (value**0.5, "that the square root belongs to rsLoRA")
    return result(
        value,
        "",
        steps,
        forgotten,
        (1 / value, "the direction: ask how many times smaller"),
        named={"rooted": f"{value**0.5:.3g}"},
    )


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


def summed_rank(case: Case) -> Answer:
    """Return the highest rank that the sum of two corrections can have."""
    q = case.matrix("q")
    first, second = case["r"], case["other"]
    limit = min(q.in_features, q.out_features)
    value = min(first + second, limit)
    steps = [
        (
            r"\Delta W_1 + \Delta W_2 = \begin{bmatrix} B_1 & B_2 \end{bmatrix} \begin{bmatrix} A_1 \\ A_2 "
            r"\end{bmatrix}"
        ),
        rf"\operatorname{{rank}} \le {first} + {second} = {value}",
    ]
    return result(
        value, "", steps,
        (max(first, second), "that the two corrections span different directions"),
        (first * second, "that ranks add"),
        (limit, "the factorisation: a sum of low-rank matrices has low rank"),
    )  # fmt: skip


def compression(case: Case) -> Answer:
    """Return how many times fewer parameters A and B have than the map that they correct."""
    q, r = case.matrix("q"), case["r"]
    value = entries(q) / (r * both(q))
    steps = [rf"\frac{{{product(q.out_features, q.in_features)}}}{{{r} \cdot {tex(both(q))}}} = {tex(value)}"]
    return result(
        value, "times", steps,
        (entries(q) / (r * q.in_features), "B: the correction is a product of two matrices"),
        (1 / value, "the direction: ask how many times fewer"),
    )  # fmt: skip


def value_map(case: Case) -> Answer:
    return told(case["r"] * both(case.matrix("v")), "parameters")


def same_budget_rank(case: Case) -> Answer:
    """Return the rank at which query and value maps alone cost as much as all maps at the question's rank."""
    budget = case.lora(case["r"])
    return told(budget // case.lora(1, "q", "v"))


def compression_twice_as_wide(case: Case) -> Answer:
    """Return the compression of a map with twice the inputs and outputs."""
    q = case.matrix("q")
    return told(2 * entries(q) / (case["r"] * both(q)))


def full_rank_cost(case: Case) -> Answer:
    v = case.matrix("v")
    return told(min(v.in_features, v.out_features) * both(v) / entries(v))


def per_rank(case: Case) -> int:
    """Return the parameters per rank if every linear map of the blocks is adapted."""
    return case.lora(1)


def tenfold(case: Case) -> Answer:
    """Return the learning rate to try first, in millionths."""
    full = case["full"]
    value = TENFOLD * full
    return result(
        value, "millionths", [rf"{product(TENFOLD, full)} = {tex(value)}"],
        (full, "the factor of ten: this is the rate of full fine-tuning itself"),
        (SHORT_RUN * full, "that the factor of fifteen was found only for runs of about a hundred steps"),
        (full / TENFOLD, "the direction: LoRA takes the larger rate"),
        named={"short": SHORT_RUN * full},
    )  # fmt: skip


def invariant_rates(case: Case) -> Answer:
    """Return the factor p of both rates that keeps Adam's steps the same when α is divided by p²."""
    factor = case["factor"]
    value = math.sqrt(factor)
    steps = [
        r"\gamma B A = \tfrac{\gamma}{p^2} (pB)(pA)",
        rf"p^2 = {factor} \;\Rightarrow\; p = \sqrt{{{factor}}} = {tex(value)}",
    ]
    return result(
        value, "times", steps,
        (float(factor), "that the factor is shared by A and B: each takes its square root"),
        (1 / value, "the direction: A and B must make up for what the scale loses"),
        (1.0, "that a smaller scale needs larger steps of A and B"),
        tolerance=0.005,
    )  # fmt: skip


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


def capacity_rank(case: Case) -> Answer:
    """Return the least rank on every map whose parameters hold the bits of a corpus."""
    corpus, bits, held, each = case["corpus"], case["token_bits"], case["parameter_bits"], per_rank(case)
    value = math.ceil(corpus * bits / (held * each))
    steps = [
        rf"\text{{to learn}}: {product(corpus, bits)} = {tex(corpus * bits)}\ \text{{bits}}",
        rf"\text{{one rank holds}}: {product(each, held)} = {tex(each * held)}\ \text{{bits}}",
        rf"\lceil {tex(corpus * bits)} / {tex(each * held)} \rceil = {tex(value)}",
    ]
    return result(
        value, "", steps,
        (math.ceil(corpus * bits / each), "that a parameter holds more than one bit"),
        (math.ceil(corpus * bits * 16 / (held * each)), "that this is counted in bits of information, not of storage"),
        (math.floor(corpus * bits / (held * each)), "to round up: the next lower rank cannot hold it"),
        named={"each": each},
    )  # fmt: skip


def reward_room(case: Case) -> Answer:
    """Return how many times the bits of a reinforcement learning run, one per episode, fit into rank 1."""
    prompts, answers, held, each = case["prompts"], case["answers"], case["parameter_bits"], per_rank(case)
    episodes = prompts * answers
    value = each * held / episodes
    steps = [
        rf"\text{{episodes}}: {product(prompts, answers)} = {tex(episodes)}\ \text{{bits}}",
        rf"\text{{rank 1 holds}}: {product(each, held)} = {tex(each * held)}\ \text{{bits}}",
        rf"{tex(each * held)} / {tex(episodes)} = {tex(value)}",
    ]
    return result(
        value, "times", steps,
        (each * held / prompts, "that every prompt is answered several times, and each answer is an episode"),
        (each / episodes, "that a parameter holds more than one bit"),
        (episodes / (each * held), "the direction: ask how many times the adapter could hold it"),
        tolerance=0.01,
        named={"episodes": episodes},
    )  # fmt: skip


def random_cosine(case: Case) -> Answer:
    """Return the mean absolute cosine of a random direction with a fixed one, in the model's width."""
    hidden = case.shape.hidden
    value = math.sqrt(2 / (math.pi * hidden))
    steps = [
        rf"\sqrt{{\tfrac{{2}}{{\pi d}}}} = \sqrt{{\tfrac{{2}}{{\pi \cdot {tex(hidden)}}}}} = {tex(value)}"
    ]
    return result(
        value, "", steps,
        (1 / hidden, "the square root: a cosine falls with the root of the dimension"),
        (1 / math.sqrt(hidden), "the mean of the absolute value: this is its root mean square"),
        (0.0, "the absolute value: with the sign, the mean is zero"),
        tolerance=0.02,
        named={"times": 0.5 / value},
    )  # fmt: skip


def first_step(case: Case) -> Answer:
    """Return the norm of B after Adam's first step, in millionths: every entry has moved by the rate."""
    out, r, rate = case.matrix("q").out_features, case["r"], case["rate"]
    value = rate * math.sqrt(out * r)
    steps = [
        r"|\Delta b_{ij}| = \eta \frac{|g|}{\sqrt{g^2}} = \eta",
        rf"\eta \sqrt{{d_{{out}} \cdot r}} = {rate} \cdot \sqrt{{{product(out, r)}}} = {tex(value)}",
    ]
    return result(
        value, "millionths", steps,
        (float(rate), "that all entries of B move, not one"),
        (float(rate * out * r), "the square root: a norm adds squares"),
        (rate * math.sqrt(case.matrix("q").in_features * r + out * r), (
            "that A's first gradient is zero, so A stays the same"
        )),
        (rate * math.sqrt(out), "the rank: B has r columns"),
        tolerance=0.01,
    )  # fmt: skip


def highest_rank(case: Case) -> Answer:
    """Return EVA's cap: ``rho`` times the rank."""
    r, rho = case["r"], case["rho"]
    value = r * rho
    return result(
        value, "", [rf"{product(rho, r)} = {value}"],
        (r, "that ρ above one lets ranks move between layers"),
        (r**rho, "that ρ multiplies the rank"),
        (r + rho, "that ρ is a factor, not a number of extra ranks"),
    )  # fmt: skip


def rank_of_the_rest(case: Case) -> Answer:
    """Return the mean rank of the other maps if a share of maps has the highest rank and the total is unchanged."""
    r, rho, capped = case["r"], case["rho"], case.number("capped")
    value = r * (1 - capped * rho) / (1 - capped)
    steps = [
        (
            rf"\text{{total per map}}: {r} \qquad \text{{taken}}: {tex(capped)} \cdot {product(rho, r)} = "
            rf"{tex(capped * rho * r)}"
        ),
        rf"\frac{{{r} - {tex(capped * rho * r)}}}{{1 - {tex(capped)}}} = {tex(value)}",
    ]
    return result(
        value, "", steps,
        (float(r), "that ranks are moved, not added: other maps lose them"),
        (r * (1 - capped * rho), "that the rest is shared by fewer maps"),
        (r * (1 - capped), "that the maps at the cap take ρ times the rank"),
        tolerance=0.01,
    )  # fmt: skip


def converted(case: Case) -> Answer:
    """Return the parameters of a plain LoRA equal to the change of a PiSSA or OLoRA adapter: twice the rank."""
    value = case.lora(2 * case["r"], "q", "v")
    steps = [
        r"\Delta W = B A - B_0 A_0 = [B \; B_0] \begin{bmatrix} A \\ -A_0 \end{bmatrix}",
        rf"2 \cdot {tex(value // 2)} = {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (value // 2, "the start: it is subtracted, which needs as many columns and rows again"),
        (value // 4, "both the start and one of A and B"),
        (value * 2, "that two adapters are joined, not squared: the rank doubles once"),
        wholes=beside(case),
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


def rate_of_b(case: Case) -> Answer:
    """Return B's rate under LoRA+, in millionths."""
    rate, ratio = case["rate"], case["ratio"]
    value = rate * ratio
    return result(
        value, "millionths", [rf"{product(ratio, rate)} = {tex(value)}"],
        (rate / ratio, "the direction: B takes the larger rate"),
        (rate, "the ratio: this is A's rate"),
        (rate + ratio, "that the rate is multiplied by the ratio"),
    )  # fmt: skip
