"""Starts of LoRA: ranks that are moved between layers, what a start has to collect, and rates of A and B."""

from __future__ import annotations

from peft_lab.interview.computed import Answer, Case, beside, line, plain, product, result, tex

SINGLE, HALF = 4, 2  # bytes per number


def highest_rank(case: Case) -> Answer:
    """EVA's cap: ``rho`` times the rank."""
    r, rho = case["r"], case["rho"]
    value = r * rho
    return result(
        value, "", [line(rf"{product(rho, r)} = {value}")],
        (r, "that ρ above one lets ranks move between layers"),
        (r**rho, "that ρ multiplies the rank"),
        (r + rho, "that ρ is a factor, not a number of extra ranks"),
    )  # fmt: skip


def rank_of_the_rest(case: Case) -> Answer:
    """The mean rank of the other maps when a share of them has the highest one and the total stays."""
    r, rho, capped = case["r"], case["rho"], case.number("capped")
    value = r * (1 - capped * rho) / (1 - capped)
    steps = [
        line(
            rf"\text{{total per map}}: {r} \qquad \text{{taken}}: {tex(capped)} \cdot {product(rho, r)} = "
            rf"{tex(capped * rho * r)}"
        ),
        line(rf"\frac{{{r} - {tex(capped * rho * r)}}}{{1 - {tex(capped)}}} = {tex(value)}"),
    ]
    return result(
        value, "", steps,
        (float(r), "that ranks are moved, not added: the others pay for them"),
        (r * (1 - capped * rho), "that the rest is shared by fewer maps"),
        (r * (1 - capped), "that the maps at the cap take ρ times the rank"),
        tolerance=0.01,
    )  # fmt: skip


def converted(case: Case) -> Answer:
    """Parameters of a plain LoRA that says what a PiSSA or OLoRA adapter changed: twice the rank."""
    names = [case.shape.target_name(case.shape.block[role]) for role in ("q", "v")]
    value = case.trained("lora", r=2 * case["r"], target_modules=names)
    steps = [
        line(r"\Delta W = B A - B_0 A_0 = [B \; B_0] \begin{bmatrix} A \\ -A_0 \end{bmatrix}"),
        line(rf"2 \cdot {tex(value // 2)} = {tex(value)}"),
    ]
    return result(
        value, "parameters", steps,
        (value // 2, "the start: it is subtracted, and takes as many columns and rows again"),
        (value // 4, "both the start and one of A and B"),
        (value * 2, "that two adapters are joined, not squared: the rank doubles once"),
        wholes=beside(case),
    )  # fmt: skip


def covariances(case: Case) -> Answer:
    """Bytes of the covariance matrices of every adapted map's inputs, in float32."""
    inside = [case.shape.block[role] for role in ("q", "k", "v", "o", "gate", "up", "down")]
    each = sum(group.in_features**2 for group in inside)
    layers = case.shape.num_layers
    value = layers * each * SINGLE
    hidden, o_in, down_in = (case.matrix(role).in_features for role in ("q", "o", "down"))
    steps = [
        line(rf"\sum d_{{in}}^2 = 5 \cdot {tex(hidden)}^2 + {tex(o_in)}^2 + {tex(down_in)}^2 = {tex(each)}"),
        line(rf"{layers} \cdot {tex(each)} \cdot {SINGLE} = {tex(value)}\ \text{{bytes}}"),
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
            "weights": plain(case.shape.total * HALF / 1e9),
            "times": plain(value / (case.shape.total * HALF)),
        },
    )  # fmt: skip


def rate_of_b(case: Case) -> Answer:
    """LoRA+: B's rate in millionths."""
    rate, ratio = case["rate"], case["ratio"]
    value = rate * ratio
    return result(
        value, "millionths", [line(rf"{product(ratio, rate)} = {tex(value)}")],
        (rate / ratio, "the direction: B takes the larger rate"),
        (rate, "the ratio: that is A's rate"),
        (rate + ratio, "that the ratio multiplies"),
    )  # fmt: skip
