"""LoRA on experts, single tokens, embeddings and heads; adapters that store far less, and LoRA's relatives.

VeRA, LoRA-XS, TinyLoRA, MiSS, RandLoRA, OFT and BOFT have the shapes that PEFT 0.21 makes;
``tests/interview/test_small_adapters.py`` counts them there.
"""

from __future__ import annotations

import math

from peft_lab.interview.computed import HALF, SINGLE, Answer, Case, beside, both, product, result, share, tex
from peft_lab.models.shapes import ModuleGroup

STATE = 4 * SINGLE  # a trained copy, its gradient and Adam's two moments in float32
MAPS = 3  # of a gated expert: gate, up, down


def experts(case: Case) -> Answer:
    """Return the parameters of A and B on the three maps of every expert."""
    layers, count, hidden, width, r = (case[name] for name in ("blocks", "experts", "wide", "width", "r"))
    each = r * MAPS * (hidden + width)
    value = layers * count * each
    steps = [
        rf"\text{{one expert}}: {r} \cdot {MAPS} \cdot ({tex(hidden)} + {tex(width)}) = {tex(each)}",
        rf"{product(layers, count, each)} = {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (layers * each, "the experts: each has its own A and B"),
        (count * each, "the layers"),
        (layers * count * each // MAPS, "two of the three maps of an expert"),
        (layers * count * r * (hidden + width), "that gate, up and down are adapted"),
        (layers * case["active"] * each, "that experts which are inactive for a token must still be stored"),
        named={"share": 100 * case["active"] / count},
    )  # fmt: skip


def active_share(case: Case) -> Answer:
    """Return the share of the experts' adapters that one token passes through."""
    active, count = case["active"], case["experts"]
    value = 100 * active / count
    return result(
        value, "percent", [rf"{active} / {count} = {tex(value)}\,\%"],
        (100.0, "that a token is sent to a few experts only"),
        (100 / count, "that several experts are active for a token"),
        (100 * count / active, "the direction: ask for the part, not the multiple"),
    )  # fmt: skip


def new_tokens(case: Case) -> Answer:
    """Return the parameters of one row of the embedding for each new token."""
    new, hidden = case["new"], case.shape.hidden
    value = new * hidden
    return result(
        value, "parameters", [rf"{product(new, hidden)} = {tex(value)}"],
        (case.shape.vocab * hidden, "that only the rows of these tokens are trained"),
        (hidden, "that there are several tokens"),
        (new, "that a token is a whole row"),
        wholes=beside(case),
    )  # fmt: skip


def new_tokens_saved(case: Case) -> Answer:
    """Return by how many bytes the adapter's file is smaller than with the whole embedding, in bfloat16."""
    new, hidden, vocab = case["new"], case.shape.hidden, case.shape.vocab
    value = vocab * hidden * HALF
    steps = [rf"({tex(vocab)} + {new} - {new}) \cdot {tex(hidden)} \cdot 2 = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (vocab * HALF, "that a token is a whole row"),
        (new * hidden * HALF, "that the question is what is saved, not what is left"),
        (value * 2, "that bfloat16 has two bytes"),
        tolerance=0.001,
        named={"left": new * hidden * HALF / 1e3},
    )  # fmt: skip


def trained_head(case: Case) -> Answer:
    """Return the bytes of a trained copy of the output layer with gradient and moments, float32."""
    vocab, hidden = case.shape.vocab, case.shape.hidden
    value = vocab * hidden * STATE
    lora = case.lora(16)
    steps = [
        rf"{product(vocab, hidden)} = {tex(vocab * hidden)}\ \text{{numbers}}",
        rf"{tex(vocab * hidden)} \cdot (4 + 4 + 8) = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (vocab * hidden * SINGLE, "its gradient and Adam's moments"),
        (vocab * hidden * 3 * SINGLE, "one of Adam's two moments (or the copy itself)"),
        (value // 2, "that everything trained is in float32"),
        (hidden * hidden * STATE, "that the output layer has one row per vocabulary token"),
        tolerance=0.01,
        named={"times": vocab * hidden / lora},
    )  # fmt: skip


def _pair(case: Case) -> tuple[ModuleGroup, ModuleGroup]:
    return case.matrix("q"), case.matrix("v")


def _vera(case: Case, r: int) -> int:
    return case.shape.num_layers * sum(group.out_features + r for group in _pair(case))


def vera(case: Case) -> Answer:
    """Return VeRA's parameters: a vector as long as the output and one as long as the rank, per map."""
    r, layers = case["r"], case.shape.num_layers
    q, v = _pair(case)
    value = _vera(case, r)
    steps = [
        rf"q: {tex(q.out_features)} + {r} \qquad v: {tex(v.out_features)} + {r}",
        rf"{layers} \cdot {tex(value // layers)} = {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (case.lora(r, "q", "v"), "that A and B are frozen and shared: only two vectors are trained"),
        (layers * (q.out_features + v.out_features), "the vector between A and B"),
        (2 * layers * r, "the vector after B, as long as the output"),
        (value // layers, "the layers: vectors are not shared, only A and B are"),
        named={"lora": case.lora(16, "q", "v") / value},
        wholes=beside(case),
    )  # fmt: skip


def vera_file(case: Case) -> Answer:
    """Return the bytes of the file with the shared projections in it, float32."""
    r = case["r"]
    q, v = _pair(case)
    trained = _vera(case, r)
    shared = r * (max(q.in_features, v.in_features) + max(q.out_features, v.out_features))
    value = (trained + shared) * SINGLE
    steps = [
        (
            rf"\text{{vectors}}: {tex(trained)} \qquad \text{{shared A and B}}: {r} \cdot ({tex(q.in_features)} + "
            rf"{tex(q.out_features)}) = {tex(shared)}"
        ),
        rf"({tex(trained)} + {tex(shared)}) \cdot 4 = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (trained * SINGLE, "the shared projections, which are saved by default"),
        (trained * SINGLE + shared * SINGLE * case.shape.num_layers, "that all layers share one A and one B"),
        (value // 2, "that the numbers are in float32"),
        tolerance=0.005,
        named={"without": trained * SINGLE / 1e6, "part": share(shared, trained + shared)},
    )  # fmt: skip


def vera_memory(case: Case) -> Answer:
    """Return the memory that VeRA saves over LoRA in training, as a percentage of the base in 16 bits."""
    lora, vera = case.lora(case["r"], "q", "v"), _vera(case, case["vera_rank"])
    saved = (lora - vera) * STATE
    base = case.shape.total * HALF
    value = 100 * saved / base
    steps = [
        rf"({tex(lora)} - {tex(vera)}) \cdot {STATE} = {tex(saved)}\ \text{{bytes}}",
        rf"{tex(saved)} / {tex(base)} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", steps,
        (100 - 100 * vera / lora, "that the adapter is compared with the base, not with LoRA"),
        (100 * (lora - vera) / case.shape.total, "the bytes: gradients and moments count, and widths differ"),
        (100 * saved / (2 * base), "that the base is in 16 bits"),
        tolerance=0.01,
    )  # fmt: skip


def xs(case: Case) -> Answer:
    """Return LoRA-XS's parameters: r² numbers between frozen factors, per map."""
    r, layers = case["r"], case.shape.num_layers
    value = layers * 2 * r * r
    return result(
        value, "parameters", [rf"{layers} \cdot 2 \cdot {r}^2 = {tex(value)}"],
        (layers * r * r, "that two maps per layer are adapted"),
        (2 * r * r, "the layers"),
        (layers * 2 * r, "that the trained matrix is r × r"),
        (case.lora(r, "q", "v"), "that A and B are frozen"),
        named={"share": share(value, case.shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip


def xs_times(case: Case) -> Answer:
    """Return how many times fewer parameters LoRA-XS has than LoRA of the same rank, on a query map."""
    q, r = case.matrix("q"), case["r"]
    value, full = both(q) / r, min(q.in_features, q.out_features)
    steps = [rf"\frac{{r (d_{{in}} + d_{{out}})}}{{r^2}} = \frac{{{tex(both(q))}}}{{{r}}} = {tex(value)}"]
    return result(
        value, "times", steps,
        (float(both(q)), "that the divisor is r², not r"),
        (q.in_features / r, "one of A and B"),
        (r / both(q), "the direction: ask how many times fewer"),
        (
            q.in_features * q.out_features / r**2,
            "that LoRA adds inputs and outputs: this is the ratio to the whole map",
        ),
        tolerance=0.005,
        named={"full": full, "least": both(q) / full},
    )  # fmt: skip


def tiny_bytes(case: Case) -> Answer:
    """Return the bytes that the question's numbers take in bfloat16."""
    count = case["count"]
    value = count * HALF
    return result(
        value, "bytes", [rf"{count} \cdot 2 = {value}"],
        (count * SINGLE, "that bfloat16 has two bytes"),
        (count, "the two bytes of each number"),
        (count * 16, "that the question is in bytes, not bits"),
    )  # fmt: skip


def tiny_untied(case: Case) -> Answer:
    """Return TinyLoRA's parameters: one vector of u numbers for every map of the blocks, none shared."""
    u, layers = case["u"], case.shape.num_layers
    value = u * layers * 7
    return result(
        value, "parameters", [rf"{product(layers, 7, u)} = {tex(value)}"],
        (u, "that nothing is shared: every map has a vector"),
        (u * layers, "the seven maps of a layer"),
        (u * 7, "the layers"),
        (u * u * layers * 7, "that u is the length of a vector"),
        named={"lora": case.lora(1)},
        wholes=beside(case),
    )  # fmt: skip


def miss_parameters(case: Case) -> Answer:
    """Return MiSS's parameters: one matrix of r rows and as many columns as outputs, per map."""
    r, layers = case["r"], case.shape.num_layers
    q, v = _pair(case)
    value = layers * r * (q.out_features + v.out_features)
    steps = [rf"{layers} \cdot {r} \cdot ({tex(q.out_features)} + {tex(v.out_features)}) = {tex(value)}"]
    return result(
        value, "parameters", steps,
        (case.lora(r, "q", "v"), "that there is no second matrix: groups of inputs are summed instead"),
        (layers * r * (q.in_features + v.in_features), "that the trained matrix is as wide as the outputs"),
        (value // layers, "the layers"),
        named={"lora": case.lora(r, "q", "v")},
        wholes=beside(case),
    )  # fmt: skip


def randlora(case: Case) -> Answer:
    """Return RandLoRA's parameters: two diagonals for each of as many random bases as fill the rank of the map."""
    q, r = case.matrix("q"), case["r"]
    narrow = min(q.in_features, q.out_features)
    bases = math.ceil(narrow / r)
    value = bases * (r + narrow)
    steps = [
        rf"\lceil {tex(narrow)} / {r} \rceil = {bases}\ \text{{bases}}",
        rf"{bases} \cdot ({r} + {tex(narrow)}) = {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (r * both(q), "that A and B are random and frozen"),
        (r + narrow, "that enough bases are summed to reach full rank"),
        (bases * r, "the diagonal of the wide side"),
        (bases * narrow, "the diagonal of length r"),
        named={"bases": bases, "lora": r * both(q)},
        wholes=beside(case),
    )  # fmt: skip


def oft(case: Case) -> Answer:
    """Return OFT's parameters on the inputs of q and v: a skew-symmetric matrix for each block."""
    b, layers = case["b"], case.shape.num_layers
    inputs = case.matrix("q").in_features
    each = inputs // b * (b * (b - 1) // 2)
    value = layers * 2 * each
    steps = [
        rf"\frac{{{tex(inputs)}}}{{{b}}} \cdot \frac{{{b} \cdot {b - 1}}}{{2}} = {tex(each)}",
        rf"{layers} \cdot 2 \cdot {tex(each)} = {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (layers * 2 * inputs * b, "that a skew-symmetric matrix has b(b − 1)/2 free numbers, not b²"),
        (layers * 2 * (b * (b - 1) // 2), "that every block has its own rotation"),
        (layers * each, "that two maps per layer are adapted"),
        wholes=beside(case),
    )  # fmt: skip


def boft(case: Case) -> Answer:
    """Return the parameters of PEFT's BOFT with one factor on a query map: full blocks and a scale for each output."""
    q, b = case.matrix("q"), case["b"]
    blocks = q.in_features // b
    value = blocks * b * b + q.out_features
    steps = [rf"{tex(blocks)} \cdot {b}^2 + {tex(q.out_features)} = {tex(value)}"]
    return result(
        value, "parameters", steps,
        (
            blocks * b * (b - 1) // 2 + q.out_features,
            "that PEFT stores each block's full matrix and makes it skew-symmetric when it is used",
        ),
        (blocks * b * b, "the scale of each output"),
        (b * b + q.out_features, "that every block has its own matrix"),
        wholes=beside(case),
    )  # fmt: skip
