"""LoRA on experts, single tokens, embeddings and heads; adapters that store far less, and LoRA's relatives.

VeRA, LoRA-XS, TinyLoRA, MiSS, RandLoRA, OFT and BOFT have the shapes that PEFT 0.21 makes;
``tests/interview/test_small_adapters.py`` counts them there.
"""

from __future__ import annotations

from peft_lab.interview.computed import HALF, SINGLE, Answer, Case, beside, product, result, share, tex
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
