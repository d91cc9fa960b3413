"""Bottleneck adapters, BitFit and IA³: sizes, work, and widths that match another method."""

from __future__ import annotations

from peft_lab.interview.computed import (
    NO_GQA,
    SINGLE,
    Answer,
    Case,
    beside,
    both,
    figure,
    plain,
    result,
    share,
    tex,
    widest_kv,
    within,
)
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue


def _norm_biases(case: Case) -> int:
    return sum(group.count * group.parameters[name][0] for group, name in case.shape.biases if group.is_norm)


def all_biases(case: Case) -> Answer:
    """Return the parameters of all the model's biases."""
    value = case.trained("bitfit")
    inside = [(g, g.parameters[name][0]) for g, name in case.shape.biases if g.layers]
    one = sum(size for _, size in inside)
    outside = value - sum(g.count * size for g, size in inside)
    layers = case.shape.num_layers
    steps = [
        rf"\text{{one layer}}: {' + '.join(tex(size) for _, size in inside)} = {tex(one)}",
        rf"{layers} \cdot {tex(one)} + {tex(outside)} = {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (value - _norm_biases(case), "that norms have biases, too"),
        (value - outside, "the biases outside the layers"),
        (one, "the layers"),
        named={"share": share(value, case.shape.total), "outside": outside},
        wholes=within(case),
    )  # fmt: skip


def bitfit_share(case: Case) -> Answer:
    """Return the percent of the model's parameters that are biases."""
    trained = case.trained("bitfit")
    value = 100 * trained / case.shape.total
    steps = [rf"\frac{{{tex(trained)}}}{{{tex(case.shape.total)}}} = {tex(value)}\,\%"]
    return result(
        value, "percent", steps,
        (100 * (trained - _norm_biases(case)) / case.shape.total, "that norms have biases, too"),
        (value / case.shape.num_layers, "the layers"),
        named={"trained": trained},
    )  # fmt: skip


def none_here(case: Case) -> Answer:
    """Return the parameters called bias in a model that is built without them: 0."""
    found = sum(group.count * group.parameters[name][0] for group, name in case.shape.biases)
    outputs = sum(group.out_features for group in case.shape.block.values()) * case.shape.num_layers
    steps = [rf"\text{{parameters whose name ends in bias}}: {found}"]
    return result(
        found,
        "parameters",
        steps,
        (outputs, "to check: these linear maps are built without biases"),
        wholes=within(case),
    )


def norm_share(case: Case) -> Answer:
    """Return the percent of all biases that are those of the norms."""
    norms, every = _norm_biases(case), case.trained("bitfit")
    value = 100 * norms / every
    modules = sum(group.count for group, _ in case.shape.biases if group.is_norm)
    steps = [
        rf"{modules} \cdot {tex(case.shape.hidden)} = {tex(norms)}",
        rf"{tex(norms)} / {tex(every)} = {tex(value)}\,\%",
    ]
    per_layer = sum(1 for group, _ in case.shape.biases if group.is_norm and group.layers)
    return result(
        value, "percent", steps,
        (100 * per_layer * case.shape.num_layers * case.shape.hidden / every, "the norm outside the layers"),
        (100 * norms / (every - norms), "the norms themselves in the denominator"),
    )  # fmt: skip


def inert_keys(case: Case) -> Answer:
    """Return the parameters of the keys' biases, which softmax drops: they add the same to all scores of a row."""
    k, layers = case.matrix("k"), case.shape.num_layers
    value = k.bias * layers
    every = case.trained("bitfit")
    steps = [
        r"q_i^\top (k_j + b_k) = q_i^\top k_j + q_i^\top b_k",
        (
            rf"\text{{the same for all }} j\text{{: softmax drops it.}} \quad {layers} \cdot {tex(k.bias)} = "
            rf"{tex(value)}"
        ),
    ]
    return result(
        value, "parameters", steps,
        (2 * value, "that the query's bias does change the scores: its effect differs by key"),
        (k.bias, "the layers"),
        (0, "that softmax ignores a constant added to all scores of a row"),
        named={"share": share(value, every)},
        wholes=within(case),
    )  # fmt: skip


def models_with_biases(case: Case) -> Answer:
    names = [entry.title for entry in catalogue().values() if entry.shape.biases]
    return figure(len(names), "", names=", ".join(names), all=len(catalogue()))


def norm_scales(case: Case) -> Answer:
    """Return the number of the norms' scales; every norm has as many scales as biases."""
    value = sum(group.count * group.parameters[name][0] for group, name in case.shape.biases if group.is_norm)
    return figure(value, "parameters")


def query_mlp_share(case: Case) -> Answer:
    spec, shape = get_method("bitfit"), case.shape
    value = spec.formula(shape, spec.require(shape, {"subset": "query_mlp"})).trainable
    whole = spec.formula(shape, spec.require(shape, {})).trainable
    return figure(100 * value / whole, "percent")


def _ia3_parameters(case: Case) -> int:
    """Return the parameters of the paper's three vectors: keys, values and inner feed-forward activations.

    Path endings cannot always name them alone: on BERT types ``output.dense`` also hits the attention's output map.
    """
    spec = get_method("ia3")
    groups = [case.shape.block[role] for role in ("k", "v", "down")]
    names = [case.shape.target_name(group) for group in groups]
    values = spec.require(case.shape, {"target_modules": names, "feedforward_modules": names[-1:]})
    paths = {group.path for group in groups}
    return sum(term.total for term in spec.formula(case.shape, values).terms if term.module in paths)


def vectors(case: Case) -> Answer:
    """Return the parameters of the paper's three vectors in all layers."""
    shape, layers = case.shape, case.shape.num_layers
    k, v, down = (shape.block[role] for role in ("k", "v", "down"))
    value = _ia3_parameters(case)
    steps = [
        rf"{layers} \cdot ({tex(k.out_features)} + {tex(v.out_features)} + {tex(down.in_features)}) = {tex(value)}"
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


def ia3_share(case: Case) -> Answer:
    """Return the percent of model and vectors together that the paper's three vectors train."""
    trained = _ia3_parameters(case)
    value = 100 * trained / (case.shape.total + trained)
    steps = [rf"\frac{{{tex(trained)}}}{{{tex(case.shape.total)} + {tex(trained)}}} = {tex(value)}\,\%"]
    return result(
        value,
        "percent",
        steps,
        (value / case.shape.num_layers, "the layers"),
        named={
            "trained": trained,
            "default": share(case.trained("ia3"), case.shape.total),
            "holds": "holds" if value < case.number("claimed") else "does not hold",
        },
    )


def against_lora(case: Case) -> Answer:
    """Return how many times more parameters LoRA on queries and values trains than the paper's three vectors."""
    r = case["r"]
    lora, own = case.lora(r, "q", "v"), _ia3_parameters(case)
    value = lora / own
    steps = [rf"\frac{{{tex(lora)}}}{{{tex(own)}}} = {tex(value)}"]
    return result(
        value, "times", steps,
        (lora / r / own, "the rank"),
        (own / lora, "the direction: ask how many times more LoRA trains"),
        tolerance=0.005,
    )  # fmt: skip


def ia3_optimizer_bytes(case: Case) -> Answer:
    """Return the bytes of Adam's two moments for the vectors, in float32."""
    trained = _ia3_parameters(case)
    value = trained * 2 * SINGLE
    steps = [rf"{tex(trained)} \cdot 2 \cdot 4 = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (trained * SINGLE, "that Adam keeps two moments"),
        (case.shape.total * 2 * SINGLE, "that moments are kept for trained parameters only"),
        (trained * 2, "the four bytes of float32"),
        tolerance=0.003,
        named={"weights": case.shape.total * 2 / 1e9},
    )  # fmt: skip


def rank_one_against_vectors(case: Case) -> Answer:
    """Return the parameters of LoRA of rank 1 on queries and values, as a multiple of IA³'s."""
    shape = case.shape
    vectors = shape.num_layers * (2 * shape.kv_width + case.matrix("down").in_features)
    lora = shape.num_layers * (both(case.matrix("q")) + both(case.matrix("v")))
    ratio = lora / vectors
    return figure(ratio, "times", many="as many" if plain(ratio) == "1" else f"{plain(ratio)} times as many")


def models_below_claim(case: Case) -> Answer:
    """Return the number of catalogue models on which IA³ at its defaults trains less than was claimed."""
    spec = get_method("ia3")
    holds = []
    for entry in catalogue().values():
        if any(problem.level == "error" for problem in spec.problems(entry.shape, {})):
            continue
        trained = spec.formula(entry.shape, spec.require(entry.shape, {})).trainable
        if 100 * trained / (entry.shape.total + trained) < case.number("claimed"):
            holds.append(entry.title)
    return figure(len(holds), "", names=", ".join(holds))
