"""Memory by bytes: weights, gradients, optimizer states in any format, caches, and activations that shapes tell."""

from __future__ import annotations

from peft_lab.interview.computed import (
    HALF,
    MOMENTS,
    SINGLE,
    Answer,
    Case,
    entries,
    figure,
    product,
    result,
    tex,
)

MASTER = SINGLE  # the float32 copy of mixed precision
MIXED = HALF + HALF + MASTER + MOMENTS * SINGLE  # weights, gradients, master copy, moments


def saved_by_narrow_heads(case: Case) -> Answer:
    """Return the weights that grouped-query attention saves, as a share of the model with full keys and values."""
    shape = case.shape
    k, v = case.matrix("k"), case.matrix("v")
    saved = sum((shape.heads * shape.head_dim - m.out_features) * m.in_features * m.count for m in (k, v))
    return figure(100 * saved / (shape.total + saved), "percent")


def galore(case: Case) -> Answer:
    """Return GaLore's states for one widening map, as a percentage of Adam's."""
    up, r = case.matrix("up"), case["r"]
    narrow, wide = sorted((up.in_features, up.out_features))
    states = MOMENTS * r * wide + narrow * r
    full = MOMENTS * entries(up)
    value = 100 * states / full
    steps = [
        rf"\text{{moments}}: 2 \cdot {r} \cdot {tex(wide)} \qquad \text{{projection}}: {tex(narrow)} \cdot {r}",
        rf"{tex(states)} / (2 \cdot {product(narrow, wide)}) = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", steps,
        (100 * MOMENTS * r * wide / full, "the projection, which must be stored too"),
        (100 * r * wide / full, "that Adam keeps two moments"),
        (
            100 * MOMENTS * r * (wide + narrow) / full,
            "that only the gradient's narrow side is projected: there is no A and B",
        ),
        tolerance=0.01,
        named={"lora": 100 * MOMENTS * r * (wide + narrow) / full},
    )  # fmt: skip


def sampled_layers(case: Case) -> Answer:
    """Return the bytes of Adam's float32 moments for some layers and all that is outside the layers."""
    shape, active = case.shape, case["active"]
    inside = sum(group.each * group.count for group in shape.groups if group.layers)
    outside = shape.total - inside
    trained = outside + active * inside / shape.num_layers
    value = trained * MOMENTS * SINGLE
    steps = [
        rf"\text{{outside}}: {tex(outside)} \qquad \text{{a layer}}: {tex(inside / shape.num_layers)}",
        (
            rf"({tex(outside)} + {active} \cdot {tex(inside / shape.num_layers)}) \cdot 8 = {tex(value)}\ "
            rf"\text{{bytes}}"
        ),
    ]
    return result(
        value, "bytes", steps,
        (
            active * inside / shape.num_layers * MOMENTS * SINGLE,
            "embeddings and output layer, which are always trained",
        ),
        (shape.total * MOMENTS * SINGLE, "that the other layers are frozen"),
        (value / 2, "that Adam keeps two moments"),
        tolerance=0.01,
        named={"full": shape.total * MOMENTS * SINGLE / 1e9},
    )  # fmt: skip
