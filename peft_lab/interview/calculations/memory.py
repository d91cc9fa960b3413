"""Memory by bytes: weights, gradients, optimizer states, caches, and activations that shapes tell."""

from __future__ import annotations

from peft_lab.interview.computed import BITS, NO_GQA, Answer, Case, line, plain, result, tex, widest_kv

HALF, SINGLE = 2, 4  # bytes per number
MOMENTS = 2  # of Adam, per trained parameter
MASTER = SINGLE  # the float32 copy of mixed precision
MIXED = HALF + HALF + MASTER + MOMENTS * SINGLE  # weights, gradients, master copy, moments


def _query_value(case: Case) -> int:
    names = [case.shape.target_name(case.shape.block[role]) for role in ("q", "v")]
    return case.trained("lora", r=case["r"], target_modules=names)


def weights(case: Case) -> Answer:
    total = case.shape.total
    value = total * HALF
    steps = [line(rf"{tex(total)} \cdot 2 = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (total * SINGLE, "that bfloat16 has two bytes, not four"),
        (total, "the two bytes of each number"),
        (total * 16, "that the question is in bytes, not bits"),
        tolerance=0.01,
        named={"single": plain(total * SINGLE / 1e9)},
    )  # fmt: skip


def mixed_adam(case: Case) -> Answer:
    total = case.shape.total
    value = total * MIXED
    steps = [
        line(rf"2 + 2 + 4 + 4 + 4 = {MIXED}\ \text{{bytes: weight, gradient, float32 copy, two moments}}"),
        line(rf"{tex(total)} \cdot {MIXED} = {tex(value)}\ \text{{bytes}}"),
    ]
    return result(
        value, "bytes", steps,
        (total * (MIXED - MASTER), "the float32 copy of the weights"),
        (total * (MIXED - MOMENTS * SINGLE), "the optimizer states"),
        (total * (MIXED - SINGLE), "one of Adam's two moments (or the float32 copy)"),
        (total * 2 * HALF, "the optimizer states and the float32 copy"),
        (total * HALF, "everything but the weights"),
        tolerance=0.01,
        named={"each": str(MIXED), "weights": plain(total * HALF / 1e9)},
    )  # fmt: skip


def pure_half(case: Case) -> Answer:
    total = case.shape.total
    value = total * HALF * (2 + MOMENTS)
    steps = [line(rf"{tex(total)} \cdot (2 + 2 + 2 + 2) = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (total * MIXED, "that no float32 copy is kept and the moments are in bfloat16, too"),
        (total * 3 * HALF, "one of Adam's two moments"),
        (total * 2 * HALF, "the optimizer states"),
        (total * (2 * HALF + MOMENTS * SINGLE), "that the moments are in bfloat16, too"),
        tolerance=0.01,
        named={"mixed": plain(total * MIXED / 1e9)},
    )  # fmt: skip


def adapter_moments(case: Case) -> Answer:
    trained, total = _query_value(case), case.shape.total
    value = trained * MOMENTS * SINGLE
    steps = [line(rf"{tex(trained)} \cdot 2 \cdot 4 = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (trained * SINGLE, "that Adam keeps two moments"),
        (total * MOMENTS * SINGLE, "that moments are kept for trained parameters only"),
        (trained * MOMENTS * HALF, "that the moments are in float32"),
        tolerance=0.005,
        named={"full": plain(total * MOMENTS * SINGLE / 1e9)},
    )  # fmt: skip


def saved_by_lora(case: Case) -> Answer:
    total, trained = case.shape.total, _query_value(case)
    full = total * (HALF + MOMENTS * HALF)
    own = trained * (SINGLE + SINGLE + MOMENTS * SINGLE)
    value = full - own
    steps = [
        line(rf"\text{{full: gradients and moments}}\ {tex(total)} \cdot (2 + 4) = {tex(full)}"),
        line(rf"\text{{LoRA: adapter, gradients, moments}}\ {tex(trained)} \cdot (4 + 4 + 8) = {tex(own)}"),
        line(rf"{tex(full)} - {tex(own)} = {tex(value)}\ \text{{bytes}}"),
    ]
    return result(
        value, "bytes", steps,
        (total * MOMENTS * HALF - own, "the gradients, which full fine-tuning keeps for every parameter"),
        (total * HALF - own, "the optimizer states"),
        (full + total * HALF - own, "that LoRA still needs the base weights"),
        tolerance=0.01,
        named={"left": plain(total * HALF / 1e9)},
    )  # fmt: skip


def cache(case: Case) -> Answer:
    shape, tokens, batch = case.shape, case["tokens"], case["batch"]
    each = 2 * shape.num_layers * shape.kv_width * HALF
    value = each * tokens * batch
    steps = [
        line(
            rf"2 \cdot {shape.num_layers} \cdot {tex(shape.kv_width)} \cdot 2 = {tex(each)}\ \text{{bytes per token}}"
        ),
        line(rf"{batch} \cdot {tex(tokens)} \cdot {tex(each)} = {tex(value)}\ \text{{bytes}}"),
    ]
    return result(
        value, "bytes", steps,
        (2 * shape.num_layers * widest_kv(case) * HALF * tokens * batch, NO_GQA),
        (value // 2, "that there are keys and values (or the two bytes of bfloat16)"),
        (value // batch, "the batch"),
        (value // shape.num_layers, "the layers"),
        (value * BITS, "that the question is in bytes, not bits"),
        tolerance=0.01,
        named={"weights": plain(shape.total * HALF / 1e9)},
    )  # fmt: skip


def gqa_factor(case: Case) -> Answer:
    heads, kv_heads = case.shape.heads, case.shape.kv_heads
    value = heads / kv_heads
    steps = [line(rf"{heads} / {kv_heads} = {tex(value)}")]
    return result(
        value, "times", steps,
        (kv_heads / heads, "the direction: ask how many times smaller"),
        (float(heads), "that some key/value heads are left"),
        named={"group": plain(value)},
    )  # fmt: skip


def logits(case: Case) -> Answer:
    vocab, tokens, batch = case.shape.vocab, case["tokens"], case["batch"]
    value = batch * tokens * vocab * SINGLE
    steps = [line(rf"{batch} \cdot {tokens} \cdot {tex(vocab)} \cdot 4 = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (value // 2, "that the loss is computed in float32"),
        (value // batch, "the batch"),
        (batch * vocab * SINGLE, "that every position has logits in training"),
        (batch * tokens * case.shape.hidden * SINGLE, "that logits are as wide as the vocabulary, not as the model"),
        tolerance=0.01,
        named={"times": plain(value / (batch * tokens * case.shape.hidden * HALF))},
    )  # fmt: skip


def checkpoints(case: Case) -> Answer:
    shape, tokens, batch = case.shape, case["tokens"], case["batch"]
    value = shape.num_layers * batch * tokens * shape.hidden * HALF
    steps = [
        line(
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
    trained, total = _query_value(case), case.shape.total
    own, base = trained * (SINGLE + SINGLE + MOMENTS * SINGLE), total * HALF
    value = 100 * own / base
    steps = [
        line(rf"{tex(trained)} \cdot (4 + 4 + 8) = {tex(own)}\ \text{{bytes}}"),
        line(rf"{tex(own)} / {tex(base)} = {tex(value)}\,\%"),
    ]
    return result(
        value, "percent", steps,
        (100 * trained * SINGLE / base, "gradients and optimizer states"),
        (100 * trained / total, "the bytes: numbers are stored in different widths"),
        (100 * trained * (SINGLE + SINGLE) / base, "the optimizer states"),
        tolerance=0.01,
    )  # fmt: skip
