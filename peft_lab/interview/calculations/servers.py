"""Servers of many adapters: slots, cold starts, caches, and adapters under tensor parallelism."""

from __future__ import annotations

from peft_lab.interview.computed import Answer, Case, beside, line, plain, product, result, tex

HALF = 2  # bytes per number
BITS = 8


def slots(case: Case) -> Answer:
    """Bytes that a server sets aside for adapters before the first one is loaded."""
    count, rank = case["slots"], case["rank"]
    each = case.trained("lora", r=rank, target_modules=["all-linear"]) * HALF
    value = count * each
    steps = [
        line(rf"\text{{one slot}}: {tex(each)}\ \text{{bytes}}"),
        line(rf"{product(count, each)} = {tex(value)}\ \text{{bytes}}"),
    ]
    return result(
        value, "bytes", steps,
        (each, "that every slot is allocated"),
        (value // 2, "the two bytes of each number"),
        (value // rank * 8, "that a slot has the largest rank, whatever the adapter's"),
        tolerance=0.01,
        named={"base": plain(case.shape.total * HALF / 1e9)},
    )  # fmt: skip


def padding(case: Case) -> Answer:
    """The share of a slot that an adapter of smaller rank leaves empty."""
    rank, own = case["rank"], case["own"]
    value = 100 * (1 - own / rank)
    return result(
        value, "percent", [line(rf"1 - {own} / {rank} = {tex(value)}\,\%")],
        (100 * own / rank, "the direction: ask for what stays empty"),
        (100 * (1 - (own / rank) ** 2), "that A and B each are linear in the rank"),
        (0.0, "that a slot is allocated at the largest rank"),
    )  # fmt: skip


def cold_start(case: Case) -> Answer:
    """Milliseconds to fetch an adapter over a network, at best."""
    size = case.trained("lora", r=case["r"], target_modules=["all-linear"]) * HALF
    speed = case["gigabits"]
    value = size * BITS / (speed * 1e9) * 1000
    steps = [
        line(rf"{tex(size)}\ \text{{bytes}} = {tex(size * BITS)}\ \text{{bits}}"),
        line(rf"{tex(size * BITS)} / ({speed} \cdot 10^9) = {tex(value)}\ \text{{ms}}"),
    ]
    return result(
        value, "ms", steps,
        (value / BITS, "that a network's speed is in bits"),
        (value / 2, "the two bytes of each number"),
        (value / 1000, "that the question is in milliseconds"),
        tolerance=0.02,
        named={"megabytes": plain(size / 1e6)},
    )  # fmt: skip


def prefill(case: Case) -> Answer:
    """How many times fewer tokens are read when adapters reuse the base's cache."""
    document, checks, own = case["document"], case["checks"], case["own"]
    lora, reused = document + checks * (document + own), document + checks * own
    value = lora / reused
    steps = [
        line(rf"\text{{LoRA}}: {document} + {checks} \cdot ({document} + {own}) = {tex(lora)}"),
        line(rf"\text{{activated}}: {document} + {checks} \cdot {own} = {tex(reused)}"),
        line(rf"{tex(lora)} / {tex(reused)} = {tex(value)}"),
    ]
    return result(
        value, "times", steps,
        (checks * (document + own) / (checks * own), "that the base has to read the document once"),
        (float(checks + 1), "the instructions of each check, which are read anyway"),
        (reused / lora, "the direction: ask how many times fewer"),
        tolerance=0.01,
        named={"lora": plain(lora), "reused": plain(reused)},
    )  # fmt: skip


def parallel(case: Case) -> Answer:
    """Parameters of a query map's adapter on each device, when only the sharded side of it is divided."""
    q, r, devices = case.matrix("q"), case["r"], case["devices"]
    value = r * q.in_features + r * q.out_features / devices
    steps = [
        line(rf"A: {product(r, q.in_features)} = {tex(r * q.in_features)}\ \text{{on each}}"),
        line(rf"B: {product(r, q.out_features)} / {devices} = {tex(r * q.out_features / devices)}"),
        line(rf"{tex(r * q.in_features)} + {tex(r * q.out_features / devices)} = {tex(value)}"),
    ]
    return result(
        value, "parameters", steps,
        (r * (q.in_features + q.out_features) / devices, "that A is held in full on each device"),
        (float(r * (q.in_features + q.out_features)), "that B is divided with the outputs"),
        (
            r * q.in_features / devices + r * q.out_features,
            "which side is divided: a column-parallel map splits its outputs",
        ),
        named={"sharded": plain(r * (q.in_features + q.out_features) / devices)},
        wholes=beside(case),
    )  # fmt: skip
