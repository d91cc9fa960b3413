"""Optimizers' states in fewer bits, elsewhere, or of a low rank; and training some layers at a time."""

from __future__ import annotations

import math

from peft_lab.interview.computed import Answer, Case, entries, line, plain, product, result, tex

SINGLE, HALF = 4, 2  # bytes per number
MOMENTS = 2
BLOCK = 256  # moments that share a float32 constant (bitsandbytes, Optimizer2State)
LEAST = 4096  # smaller parameters keep 32-bit moments (bitsandbytes, min_8bit_size)


def eight_bits(case: Case) -> Answer:
    """Bytes of 8-bit Adam's states over all weights."""
    total = case.shape.total
    value = total * MOMENTS * (1 + SINGLE / BLOCK)
    steps = [
        line(rf"1 + \frac{{4}}{{{BLOCK}}} = {tex(1 + SINGLE / BLOCK)}\ \text{{bytes for a moment}}"),
        line(rf"{tex(total)} \cdot 2 \cdot {tex(1 + SINGLE / BLOCK)} = {tex(value)}\ \text{{bytes}}"),
    ]
    return result(
        value, "bytes", steps,
        (value / 2, "that Adam keeps two moments"),
        (total * MOMENTS * SINGLE, "that a moment takes one byte"),
        (total * MOMENTS * HALF, "that a moment takes one byte, not two"),
        tolerance=0.02,
        named={"single": plain(total * MOMENTS * SINGLE / 1e9)},
    )  # fmt: skip


def least_rank(case: Case) -> Answer:
    """The smallest rank at which A of a query map is large enough for 8-bit moments."""
    inputs = case.matrix("q").in_features
    value = math.ceil(LEAST / inputs)
    return result(
        value, "", [line(rf"\lceil {tex(LEAST)} / {tex(inputs)} \rceil = {value}")],
        (LEAST, "that a rank holds as many numbers as the map has inputs"),
        (LEAST // inputs if LEAST % inputs else value + 1, "to round up to a rank that reaches the threshold"),
        (math.ceil(LEAST / inputs**2), "that A is thin: r rows of inputs"),
    )  # fmt: skip


def offloading(case: Case) -> Answer:
    """Seconds a step waits for gradients to the CPU and weights back, at best."""
    total, speed = case.shape.total, case["speed"]
    value = total * (HALF + HALF) / (speed * 1e9)
    steps = [
        line(rf"{tex(total)} \cdot (2 + 2) = {tex(total * 4)}\ \text{{bytes}}"),
        line(rf"{tex(total * 4)} / ({speed} \cdot 10^9) = {tex(value)}\ \text{{s}}"),
    ]
    return result(
        value, "seconds", steps,
        (value / 2, "one of the two directions"),
        (total * 8 / (speed * 1e9), "that the moments stay with the CPU: only gradients and weights travel"),
        (value * 1000, "that the question is in seconds"),
        (value * 8, "that the link's speed is in bytes, not bits"),
        tolerance=0.01,
    )  # fmt: skip


def galore(case: Case) -> Answer:
    """GaLore's states for one widening map, as a percentage of Adam's."""
    up, r = case.matrix("up"), case["r"]
    narrow, wide = sorted((up.in_features, up.out_features))
    states = MOMENTS * r * wide + narrow * r
    full = MOMENTS * entries(up)
    value = 100 * states / full
    steps = [
        line(
            rf"\text{{moments}}: 2 \cdot {r} \cdot {tex(wide)} \qquad \text{{projection}}: {tex(narrow)} \cdot {r}"
        ),
        line(rf"{tex(states)} / (2 \cdot {product(narrow, wide)}) = {tex(value)}\,\%"),
    ]
    return result(
        value, "percent", steps,
        (100 * MOMENTS * r * wide / full, "the projection, which has to be kept as well"),
        (100 * r * wide / full, "that Adam keeps two moments"),
        (
            100 * MOMENTS * r * (wide + narrow) / full,
            "that only the gradient's narrow side is projected: there is no A and B",
        ),
        tolerance=0.01,
        named={"lora": plain(100 * MOMENTS * r * (wide + narrow) / full)},
    )  # fmt: skip


def sampled_layers(case: Case) -> Answer:
    """Bytes of Adam's float32 moments for some layers and all that is outside the layers."""
    shape, active = case.shape, case["active"]
    inside = sum(group.each * group.count for group in shape.groups if group.layers)
    outside = shape.total - inside
    trained = outside + active * inside / shape.num_layers
    value = trained * MOMENTS * SINGLE
    steps = [
        line(rf"\text{{outside}}: {tex(outside)} \qquad \text{{a layer}}: {tex(inside / shape.num_layers)}"),
        line(
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
        named={"full": plain(shape.total * MOMENTS * SINGLE / 1e9)},
    )  # fmt: skip
