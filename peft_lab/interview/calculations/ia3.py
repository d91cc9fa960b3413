"""IA³: vectors, and what merging them changes."""

from __future__ import annotations

from peft_lab.interview.computed import (
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
from peft_lab.methods import get_method

SINGLE = 4  # bytes of float32


def _own(case: Case) -> int:
    """The paper's three vectors: keys, values and inner feed-forward activations.

    Path endings cannot always name them alone: on BERT types ``output.dense`` also hits the attention's output map.
    """
    spec = get_method("ia3")
    groups = [case.shape.block[role] for role in ("k", "v", "down")]
    names = [case.shape.target_name(group) for group in groups]
    values = spec.require(case.shape, {"target_modules": names, "feedforward_modules": names[-1:]})
    paths = {group.path for group in groups}
    return sum(term.total for term in spec.formula(case.shape, values).terms if term.module in paths)


def vectors(case: Case) -> Answer:
    """Parameters of the paper's three vectors in all layers."""
    shape, layers = case.shape, case.shape.num_layers
    k, v, down = (shape.block[role] for role in ("k", "v", "down"))
    value = _own(case)
    steps = [
        line(
            rf"{layers} \cdot ({tex(k.out_features)} + {tex(v.out_features)} + {tex(down.in_features)}) = {tex(value)}"
        )
    ]
    return result(
        value, "parameters", steps,
        (layers * (2 * widest_kv(case) + down.in_features), NO_GQA),
        (
            layers * (k.out_features + v.out_features + shape.hidden),
            "that the feed-forward vector multiplies the inner activations, which are wider than the model",
        ),
        (layers * (k.out_features + v.out_features), "the feed-forward vector"),
        (value // layers, "the layers"),
        named={"share": share(value, shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip


def share_of_model(case: Case) -> Answer:
    """Percent of model and vectors together that the paper's three vectors train."""
    trained = _own(case)
    value = 100 * trained / (case.shape.total + trained)
    steps = [line(rf"\frac{{{tex(trained)}}}{{{tex(case.shape.total)} + {tex(trained)}}} = {tex(value)}\,\%")]
    return result(
        value,
        "percent",
        steps,
        (value / case.shape.num_layers, "the layers"),
        named={
            "trained": plain(trained),
            "default": share(case.trained("ia3"), case.shape.total),
            "holds": "holds" if value < case.number("claimed") else "does not hold",
        },
    )


def against_lora(case: Case) -> Answer:
    """How many times more parameters LoRA on queries and values trains than the paper's three vectors."""
    r = case["r"]
    names = [case.shape.target_name(case.shape.block[role]) for role in ("q", "v")]
    lora, own = case.trained("lora", r=r, target_modules=names), _own(case)
    value = lora / own
    steps = [line(rf"\frac{{{tex(lora)}}}{{{tex(own)}}} = {tex(value)}")]
    return result(
        value, "times", steps,
        (lora / r / own, "the rank"),
        (own / lora, "the direction: ask how many times more LoRA trains"),
        tolerance=0.005,
    )  # fmt: skip


def changed_by_ff(case: Case) -> Answer:
    """Weights of the down map that one entry of the feed-forward vector scales: a column."""
    down = case.matrix("down")
    value = down.out_features
    steps = [
        line(r"W_{down}\,(l \odot a) = (W_{down}\,\mathrm{diag}(l))\,a"),
        line(
            rf"\text{{one column of }} {tex(down.out_features)} \times {tex(down.in_features)}: \quad {tex(value)}"
        ),
    ]
    return result(
        value, "weights", steps,
        (down.in_features, "that this vector multiplies the input, so it scales a column, not a row"),
        (1, "that one entry of l scales a whole column"),
        (down.in_features * down.out_features, "that the other entries of l are 1"),
    )  # fmt: skip


def changed_by_key(case: Case) -> Answer:
    """Weights of the keys' map that one entry of its vector scales: a row."""
    k = case.matrix("k")
    value = k.in_features
    steps = [
        line(r"l \odot (W_k\,x) = (\mathrm{diag}(l)\,W_k)\,x"),
        line(rf"\text{{one row of }} {tex(k.out_features)} \times {tex(k.in_features)}: \quad {tex(value)}"),
    ]
    return result(
        value, "weights", steps,
        (k.out_features, "that this vector multiplies the output, so it scales a row, not a column"),
        (1, "that one entry of l scales a whole row"),
    )  # fmt: skip


def fused(case: Case) -> Answer:
    """Parameters of the vectors of a model whose queries, keys and values are one map."""
    qkv, down, layers = case.matrix("qkv"), case.matrix("down"), case.shape.num_layers
    value = case.trained("ia3")
    kept = qkv.out_features * 2 // 3
    steps = [line(rf"{layers} \cdot ({tex(qkv.out_features)} + {tex(down.in_features)}) = {tex(value)}")]
    return result(
        value, "parameters", steps,
        (layers * (kept + down.in_features), "that the map is fused, so the queries are scaled as well"),
        (value // layers, "the layers"),
        named={"queries": plain(layers * qkv.out_features // 3)},
        wholes=beside(case),
    )  # fmt: skip


def optimizer_bytes(case: Case) -> Answer:
    """Bytes of Adam's two moments for the vectors, in float32."""
    trained = _own(case)
    value = trained * 2 * SINGLE
    steps = [line(rf"{tex(trained)} \cdot 2 \cdot 4 = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (trained * SINGLE, "that Adam keeps two moments"),
        (case.shape.total * 2 * SINGLE, "that moments are kept for trained parameters only"),
        (trained * 2, "the four bytes of float32"),
        tolerance=0.003,
        named={"weights": plain(case.shape.total * 2 / 1e9)},
    )  # fmt: skip
