"""BitFit: which biases there are, and which of them can do anything."""

from __future__ import annotations

from peft_lab.interview.computed import Answer, Case, line, plain, result, share, tex, within


def _norms(case: Case) -> int:
    return sum(group.count * group.parameters[name][0] for group, name in case.shape.biases if group.is_norm)


def all_biases(case: Case) -> Answer:
    """Parameters of all the model's biases."""
    value = case.trained("bitfit")
    inside = [(g, g.parameters[name][0]) for g, name in case.shape.biases if g.layers]
    one = sum(size for _, size in inside)
    outside = value - sum(g.count * size for g, size in inside)
    layers = case.shape.num_layers
    steps = [
        line(rf"\text{{one layer}}: {' + '.join(tex(size) for _, size in inside)} = {tex(one)}"),
        line(rf"{layers} \cdot {tex(one)} + {tex(outside)} = {tex(value)}"),
    ]
    return result(
        value, "parameters", steps,
        (value - _norms(case), "that norms have biases, too"),
        (value - outside, "the biases outside the layers"),
        (one, "the layers"),
        named={"share": share(value, case.shape.total), "outside": plain(outside)},
        wholes=within(case),
    )  # fmt: skip


def share_of_model(case: Case) -> Answer:
    """Percent of the model's parameters that are biases."""
    trained = case.trained("bitfit")
    value = 100 * trained / case.shape.total
    steps = [line(rf"\frac{{{tex(trained)}}}{{{tex(case.shape.total)}}} = {tex(value)}\,\%")]
    return result(
        value, "percent", steps,
        (100 * (trained - _norms(case)) / case.shape.total, "that norms have biases, too"),
        (value / case.shape.num_layers, "the layers"),
        named={"trained": plain(trained)},
    )  # fmt: skip


def none_here(case: Case) -> Answer:
    """Parameters called bias in a model that is built without them: 0."""
    found = sum(group.count * group.parameters[name][0] for group, name in case.shape.biases)
    outputs = sum(group.out_features for group in case.shape.block.values()) * case.shape.num_layers
    steps = [line(rf"\text{{parameters whose name ends in bias}}: {found}")]
    return result(
        found,
        "parameters",
        steps,
        (outputs, "to look: these linear maps are built without biases"),
        wholes=within(case),
    )


def subset(case: Case) -> Answer:
    """Parameters of the biases of the queries and of the feed-forward part's first map, in all layers."""
    q, up, layers = case.matrix("q"), case.matrix("up"), case.shape.num_layers
    value = case.trained("bitfit", subset="query_mlp")
    every = case.trained("bitfit")
    steps = [line(rf"{layers} \cdot ({tex(q.out_features)} + {tex(up.out_features)}) = {tex(value)}")]
    return result(
        value, "parameters", steps,
        (layers * 2 * q.out_features, "that the feed-forward part's first map is wider"),
        (every, "that only two kinds are trained here"),
        (value // layers, "the layers"),
        named={"share": share(value, every)},
        wholes=within(case),
    )  # fmt: skip


def attention_only(case: Case) -> Answer:
    """Parameters of the biases of queries, keys and values, in all layers."""
    q, k, v = (case.matrix(role) for role in ("q", "k", "v"))
    layers = case.shape.num_layers
    value = case.trained("bitfit")
    steps = [
        line(
            rf"{layers} \cdot ({tex(q.out_features)} + {tex(k.out_features)} + {tex(v.out_features)}) = {tex(value)}"
        )
    ]
    return result(
        value, "parameters", steps,
        (layers * 3 * q.out_features, "grouped-query attention: keys and values are narrower than queries here"),
        (value // layers, "the layers"),
        named={"share": share(value, case.shape.total)},
        wholes=within(case),
    )  # fmt: skip


def norm_share(case: Case) -> Answer:
    """Percent of all biases that are those of the norms."""
    norms, every = _norms(case), case.trained("bitfit")
    value = 100 * norms / every
    modules = sum(group.count for group, _ in case.shape.biases if group.is_norm)
    steps = [
        line(rf"{modules} \cdot {tex(case.shape.hidden)} = {tex(norms)}"),
        line(rf"{tex(norms)} / {tex(every)} = {tex(value)}\,\%"),
    ]
    per_layer = sum(1 for group, _ in case.shape.biases if group.is_norm and group.layers)
    return result(
        value, "percent", steps,
        (100 * per_layer * case.shape.num_layers * case.shape.hidden / every, "the norm outside the layers"),
        (100 * norms / (every - norms), "the norms themselves in the denominator"),
    )  # fmt: skip


def inert_keys(case: Case) -> Answer:
    """Parameters of the biases of the keys, which softmax drops: they add the same to all scores of a row."""
    k, layers = case.matrix("k"), case.shape.num_layers
    value = k.bias * layers
    every = case.trained("bitfit")
    steps = [
        line(r"q_i^\top (k_j + b_k) = q_i^\top k_j + q_i^\top b_k"),
        line(
            rf"\text{{the same for all }} j\text{{: softmax drops it.}} \quad {layers} \cdot {tex(k.bias)} = "
            rf"{tex(value)}"
        ),
    ]
    return result(
        value, "parameters", steps,
        (2 * value, "that the query's bias does change the scores: it meets every key differently"),
        (k.bias, "the layers"),
        (0, "that softmax does not see what is added to all scores of a row"),
        named={"share": share(value, every)},
        wholes=within(case),
    )  # fmt: skip
