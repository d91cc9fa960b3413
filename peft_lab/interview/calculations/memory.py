"""Memory by bytes: weights, gradients, optimizer states in any format, caches, and activations that shapes tell."""

from __future__ import annotations

import math

from peft_lab.interview.computed import (
    BITS,
    BYTE,
    HALF,
    MOMENTS,
    NO_GQA,
    SINGLE,
    Answer,
    Case,
    entries,
    four_bit_bytes,
    product,
    result,
    tex,
    told,
    widest_kv,
)

MASTER = SINGLE  # the float32 copy of mixed precision
MIXED = HALF + HALF + MASTER + MOMENTS * SINGLE  # weights, gradients, master copy, moments
GPUS = 8
BLOCK = 256  # moments that share a float32 constant (bitsandbytes, Optimizer2State)
LEAST = 4096  # smaller parameters keep 32-bit moments (bitsandbytes, min_8bit_size)


def weights(case: Case) -> Answer:
    total = case.shape.total
    value = total * HALF
    steps = [rf"{tex(total)} \cdot 2 = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (total * SINGLE, "that bfloat16 has two bytes, not four"),
        (total, "the two bytes of each number"),
        (total * 16, "that the question is in bytes, not bits"),
        tolerance=0.01,
        named={"single": total * SINGLE / 1e9},
    )  # fmt: skip


def mixed_adam(case: Case) -> Answer:
    total = case.shape.total
    value = total * MIXED
    steps = [
        rf"2 + 2 + 4 + 4 + 4 = {MIXED}\ \text{{bytes: weight, gradient, float32 copy, two moments}}",
        rf"{tex(total)} \cdot {MIXED} = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (total * (MIXED - MASTER), "the float32 copy of the weights"),
        (total * (MIXED - MOMENTS * SINGLE), "the optimizer states"),
        (total * (MIXED - SINGLE), "one of Adam's two moments (or the float32 copy)"),
        (total * 2 * HALF, "the optimizer states and the float32 copy"),
        (total * HALF, "everything but the weights"),
        tolerance=0.01,
        named={"each": str(MIXED), "weights": total * HALF / 1e9},
    )  # fmt: skip


def pure_half(case: Case) -> Answer:
    total = case.shape.total
    value = total * HALF * (2 + MOMENTS)
    steps = [rf"{tex(total)} \cdot (2 + 2 + 2 + 2) = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (total * MIXED, "that no float32 copy is kept and the moments are in bfloat16, too"),
        (total * 3 * HALF, "one of Adam's two moments"),
        (total * 2 * HALF, "the optimizer states"),
        (total * (2 * HALF + MOMENTS * SINGLE), "that the moments are in bfloat16, too"),
        tolerance=0.01,
        named={"mixed": total * MIXED / 1e9},
    )  # fmt: skip


def adapter_moments(case: Case) -> Answer:
    trained, total = case.lora(case["r"], "q", "v"), case.shape.total
    value = trained * MOMENTS * SINGLE
    steps = [rf"{tex(trained)} \cdot 2 \cdot 4 = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (trained * SINGLE, "that Adam keeps two moments"),
        (total * MOMENTS * SINGLE, "that moments are kept for trained parameters only"),
        (trained * MOMENTS * HALF, "that the moments are in float32"),
        tolerance=0.005,
        named={"full": total * MOMENTS * SINGLE / 1e9},
    )  # fmt: skip


def saved_by_lora(case: Case) -> Answer:
    total, trained = case.shape.total, case.lora(case["r"], "q", "v")
    full = total * (HALF + MOMENTS * HALF)
    own = trained * (SINGLE + SINGLE + MOMENTS * SINGLE)
    value = full - own
    steps = [
        rf"\text{{full: gradients and moments}}\ {tex(total)} \cdot (2 + 4) = {tex(full)}",
        rf"\text{{LoRA: adapter, gradients, moments}}\ {tex(trained)} \cdot (4 + 4 + 8) = {tex(own)}",
        rf"{tex(full)} - {tex(own)} = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (total * MOMENTS * HALF - own, "the gradients, which full fine-tuning keeps for every parameter"),
        (total * HALF - own, "the optimizer states"),
        (full + total * HALF - own, "that LoRA still needs the base weights"),
        tolerance=0.01,
        named={"left": total * HALF / 1e9},
    )  # fmt: skip


def cache(case: Case) -> Answer:
    shape, tokens, batch = case.shape, case["tokens"], case["batch"]
    each = 2 * shape.num_layers * shape.kv_width * HALF
    value = each * tokens * batch
    steps = [
        rf"2 \cdot {shape.num_layers} \cdot {tex(shape.kv_width)} \cdot 2 = {tex(each)}\ \text{{bytes per token}}",
        rf"{batch} \cdot {tex(tokens)} \cdot {tex(each)} = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (2 * shape.num_layers * widest_kv(case) * HALF * tokens * batch, NO_GQA),
        (value // 2, "that there are keys and values (or the two bytes of bfloat16)"),
        (value // batch, "the batch"),
        (value // shape.num_layers, "the layers"),
        (value * BITS, "that the question is in bytes, not bits"),
        tolerance=0.01,
        named={"weights": shape.total * HALF / 1e9},
    )  # fmt: skip


def gqa_factor(case: Case) -> Answer:
    heads, kv_heads = case.shape.heads, case.shape.kv_heads
    value = heads / kv_heads
    steps = [rf"{heads} / {kv_heads} = {tex(value)}"]
    return result(
        value, "times", steps,
        (kv_heads / heads, "the direction: ask how many times smaller"),
        (float(heads), "that some key/value heads remain"),
        named={"group": value},
    )  # fmt: skip


def logits(case: Case) -> Answer:
    vocab, tokens, batch = case.shape.vocab, case["tokens"], case["batch"]
    value = batch * tokens * vocab * SINGLE
    steps = [rf"{batch} \cdot {tokens} \cdot {tex(vocab)} \cdot 4 = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (value // 2, "that the loss is computed in float32"),
        (value // batch, "the batch"),
        (batch * vocab * SINGLE, "that every position has logits in training"),
        (batch * tokens * case.shape.hidden * SINGLE, "that logits are as wide as the vocabulary, not as the model"),
        tolerance=0.01,
        named={"times": value / (batch * tokens * case.shape.hidden * HALF)},
    )  # fmt: skip


def checkpoints(case: Case) -> Answer:
    shape, tokens, batch = case.shape, case["tokens"], case["batch"]
    value = shape.num_layers * batch * tokens * shape.hidden * HALF
    steps = [
        (
            rf"{shape.num_layers} \cdot {batch} \cdot {tokens} \cdot {tex(shape.hidden)} \cdot 2 = {tex(value)}\ "
            rf"\text{{bytes}}"
        )
    ]
    return result(
        value, "bytes", steps,
        (value // shape.num_layers, "the layers: one input is kept for each"),
        (value * 2, "that bfloat16 has two bytes, not four"),
        (value // batch, "the batch"),
        (value // HALF, "the two bytes of each number"),
        tolerance=0.01,
    )  # fmt: skip


def adapter_share(case: Case) -> Answer:
    trained, total = case.lora(case["r"], "q", "v"), case.shape.total
    own, base = trained * (SINGLE + SINGLE + MOMENTS * SINGLE), total * HALF
    value = 100 * own / base
    steps = [
        rf"{tex(trained)} \cdot (4 + 4 + 8) = {tex(own)}\ \text{{bytes}}",
        rf"{tex(own)} / {tex(base)} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", steps,
        (100 * trained * SINGLE / base, "gradients and optimizer states"),
        (100 * trained / total, "the bytes: numbers are stored in different widths"),
        (100 * trained * (SINGLE + SINGLE) / base, "the optimizer states"),
        tolerance=0.01,
    )  # fmt: skip


def pure_sixteen_bits(case: Case) -> Answer:
    return told(case.shape.total * HALF * (2 + MOMENTS), "bytes")


def split_over_gpus(case: Case) -> Answer:
    return told(case.shape.total * MIXED / GPUS, "bytes", gpus=GPUS)


def saved_by_narrow_heads(case: Case) -> Answer:
    """Return the weights that grouped-query attention saves, as a share of the model with full keys and values."""
    shape = case.shape
    k, v = case.matrix("k"), case.matrix("v")
    saved = sum((shape.heads * shape.head_dim - m.out_features) * m.in_features * m.count for m in (k, v))
    return told(100 * saved / (shape.total + saved), "percent")


def eight_bit_saving(case: Case) -> Answer:
    trained = case.lora(case["r"], "q", "v")
    saved = trained * MOMENTS * (SINGLE - BYTE)
    return told(saved, "bytes", share=told(100 * saved / (case.shape.total * HALF), "percent").shown)


def rank_that_matters(case: Case) -> Answer:
    """Return the rank whose training state is a tenth of the base, and by which factor it is lower on NF4."""
    per_rank = case.lora(case["r"], "q", "v") / case["r"] * (2 + MOMENTS) * SINGLE
    base = case.shape.total * HALF
    return told(round(0.1 * base / per_rank), sooner=base / four_bit_bytes(case.shape))


def saved_against_mixed(case: Case) -> Answer:
    own = case.lora(case["r"], "q", "v") * (2 + MOMENTS) * SINGLE
    return told(case.shape.total * (MIXED - HALF) - own, "bytes")


def eight_bits(case: Case) -> Answer:
    """Return the bytes of 8-bit Adam's states over all weights."""
    total = case.shape.total
    value = total * MOMENTS * (1 + SINGLE / BLOCK)
    steps = [
        rf"1 + \frac{{4}}{{{BLOCK}}} = {tex(1 + SINGLE / BLOCK)}\ \text{{bytes for a moment}}",
        rf"{tex(total)} \cdot 2 \cdot {tex(1 + SINGLE / BLOCK)} = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (value / 2, "that Adam keeps two moments"),
        (total * MOMENTS * SINGLE, "that a moment takes one byte"),
        (total * MOMENTS * HALF, "that a moment takes one byte, not two"),
        tolerance=0.02,
        named={"single": total * MOMENTS * SINGLE / 1e9},
    )  # fmt: skip


def least_rank(case: Case) -> Answer:
    """Return the smallest rank at which A of a query map is large enough for 8-bit moments."""
    inputs = case.matrix("q").in_features
    value = math.ceil(LEAST / inputs)
    return result(
        value, "", [rf"\lceil {tex(LEAST)} / {tex(inputs)} \rceil = {value}"],
        (LEAST, "that each rank stores one number per input"),
        (LEAST // inputs if LEAST % inputs else value + 1, "to round up to a rank that reaches the threshold"),
        (math.ceil(LEAST / inputs**2), "that A is thin: it has r rows"),
    )  # fmt: skip


def offloading(case: Case) -> Answer:
    """Return the seconds a step waits for gradients to the CPU and weights back, at best."""
    total, speed = case.shape.total, case["speed"]
    value = total * (HALF + HALF) / (speed * 1e9)
    steps = [
        rf"{tex(total)} \cdot (2 + 2) = {tex(total * 4)}\ \text{{bytes}}",
        rf"{tex(total * 4)} / ({speed} \cdot 10^9) = {tex(value)}\ \text{{s}}",
    ]
    return result(
        value, "seconds", steps,
        (value / 2, "one of the two directions"),
        (total * 8 / (speed * 1e9), "that the moments stay on the CPU: only gradients and weights are copied"),
        (value * 1000, "that the question is in seconds"),
        (value * 8, "that the link's speed is in bytes, not bits"),
        tolerance=0.01,
    )  # fmt: skip


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
