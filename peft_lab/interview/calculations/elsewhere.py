"""Adapters beyond chat: embeddings, rerankers, images; new vocabularies; and adapters that a network writes."""

from __future__ import annotations

from peft_lab.interview.computed import Answer, Case, beside, line, plain, product, result, tex

SINGLE = 4  # bytes per number


def negatives(case: Case) -> Answer:
    """Wrong passages that each query is told from, with one right and some hard ones for each query."""
    rows, hard = case["rows"], case["hard"]
    value = rows * (1 + hard) - 1
    steps = [line(rf"{rows} \cdot (1 + {hard}) - 1 = {tex(value)}")]
    return result(
        value, "passages", steps,
        (rows - 1, "the hard negatives, also those of the other queries"),
        (rows - 1 + hard, "that the others' hard negatives count as well"),
        (rows * (1 + hard), "that the right passage is none of them"),
        (hard, "the other rows of the batch"),
    )  # fmt: skip


def reembedding(case: Case) -> Answer:
    """Bytes of an index of float32 vectors, to be written again with each new adapter."""
    millions, width = case["millions"], case["width"]
    value = millions * 10**6 * width * SINGLE
    return result(
        value, "bytes", [line(rf"{millions} \cdot 10^6 \cdot {tex(width)} \cdot 4 = {tex(value)}\ \text{{bytes}}")],
        (value // SINGLE, "that a number in float32 has four bytes"),
        (millions * width * SINGLE, "that these are millions"),
        (value * 8, "that the question is in bytes, not bits"),
        tolerance=0.01,
    )  # fmt: skip


def reranking(case: Case) -> Answer:
    """Tokens that a reranker reads for a query, in multiples of what the embedding of the query reads."""
    candidates, query, passage = case["candidates"], case["query"], case["passage"]
    value = candidates * (query + passage) / query
    steps = [
        line(rf"{candidates} \cdot ({query} + {passage}) = {tex(candidates * (query + passage))}"),
        line(rf"{tex(candidates * (query + passage))} / {query} = {tex(value)}"),
    ]
    return result(
        value, "times", steps,
        (float(candidates), "that a pair is longer than the query"),
        (candidates * passage / query, "that the query is read with each candidate"),
        ((query + passage) / query, "the candidates"),
        tolerance=0.005,
        named={"tokens": plain(candidates * (query + passage))},
    )  # fmt: skip


def patches(case: Case) -> Answer:
    """Tokens that a vision transformer makes of a square image."""
    side, patch = case["side"], case["patch"]
    value = (side // patch) ** 2
    return result(
        value, "tokens", [line(rf"({side} / {patch})^2 = {tex(value)}")],
        (side // patch, "that an image has two dimensions"),
        (side * side // patch, "that a patch has two dimensions"),
        (side * side, "that a patch is one token, not a pixel"),
        named={"double": plain((2 * side // patch) ** 2 / value)},
    )  # fmt: skip


def diffusion_scale(case: Case) -> Answer:
    """What BA is multiplied by when the user's weight comes on top of α/r."""
    alpha, r, weight = case["alpha"], case["r"], case.number("weight")
    value = weight * alpha / r
    return result(
        value, "", [line(rf"{tex(weight)} \cdot \frac{{{alpha}}}{{{r}}} = {tex(value)}")],
        (weight, "the adapter's own α/r"),
        (alpha / r, "the weight that is set at inference"),
        (weight * r / alpha, "that the scale is α over r"),
    )  # fmt: skip


def vocabulary(case: Case) -> Answer:
    """Parameters that new tokens add to embedding and output layer."""
    shape, new = case.shape, case["new"]
    ends = [
        group for group in shape.groups if not group.layers and group.each
    ]  # a tied one holds nothing itself
    sides = sum(shape.vocab in group.parameters.get("weight", ()) for group in ends)
    value = new * shape.hidden * sides
    return result(
        value, "parameters", [line(rf"{product(new, shape.hidden)} \cdot {sides} = {tex(value)}")],
        (new * shape.hidden * (3 - sides), "to look whether the output layer is tied to the embedding"),
        ((shape.vocab + new) * shape.hidden * sides, "that only the new rows are asked for"),
        (new * sides, "that a token is a whole row"),
        named={
            "sides": "embedding and output layer" if sides > 1 else "the embedding, which is the output layer, too"
        },
        wholes=beside(case),
    )  # fmt: skip


def hypernetwork(case: Case) -> Answer:
    """Weights of a last layer that writes a whole adapter at once."""
    width, r = case["width"], case["r"]
    names = [case.shape.target_name(case.shape.block[role]) for role in ("q", "v")]
    written = case.trained("lora", r=r, target_modules=names)
    value = width * written
    return result(
        value, "parameters", [line(rf"{width} \cdot {tex(written)} = {tex(value)}")],
        (written, "that every number has a row of weights"),
        (width * r, "the widths of the maps"),
        (width * written // case.shape.num_layers, "the layers"),
        named={"times": plain(value / case.shape.total), "written": plain(written)},
        wholes=beside(case),
    )  # fmt: skip
