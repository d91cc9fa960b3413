"""Serving: files, copies, transfers, and what unmerged adapters and virtual tokens take."""

from __future__ import annotations

from peft_lab.interview.computed import (
    BITS,
    NO_GQA,
    Answer,
    Case,
    block_entries,
    both,
    line,
    plain,
    result,
    tex,
)

HALF, SINGLE = 2, 4  # bytes per number


def _query_value(case: Case) -> int:
    names = [case.shape.target_name(case.shape.block[role]) for role in ("q", "v")]
    return case.trained("lora", r=case["r"], target_modules=names)


def adapter_file(case: Case) -> Answer:
    trained = _query_value(case)
    value = trained * SINGLE
    steps = [line(rf"{tex(trained)} \cdot 4 = {tex(value)}\ \text{{bytes}}")]
    q = case.matrix("q")
    return result(
        value, "bytes", steps,
        (trained, "that a float32 number has four bytes"),
        (trained * HALF, "that the adapter is in float32, even beside a bfloat16 base"),
        (case.shape.num_layers * case["r"] * 2 * both(q) * SINGLE, NO_GQA),
        (trained * SINGLE * BITS, "that the question is in bytes, not bits"),
        tolerance=0.01,
        named={"base": plain(case.shape.total * HALF / 1e9)},
    )  # fmt: skip


def many_tasks(case: Case) -> Answer:
    trained, tasks = _query_value(case), case["tasks"]
    base = case.shape.total * HALF
    value = base + tasks * trained * HALF
    steps = [
        line(rf"\text{{base}}: {tex(case.shape.total)} \cdot 2 = {tex(base)}"),
        line(rf"\text{{adapters}}: {tasks} \cdot {tex(trained)} \cdot 2 = {tex(tasks * trained * HALF)}"),
        line(rf"\text{{together}}: {tex(value)}\ \text{{bytes}}"),
    ]
    return result(
        value, "bytes", steps,
        (tasks * trained * HALF, "the base, which is needed once"),
        (tasks * base, "that all tasks share one base"),
        (base + trained * HALF, "that every task has its own adapter"),
        tolerance=0.01,
        named={"copies": plain(tasks * base / 1e9), "times": plain(tasks * base / value)},
    )  # fmt: skip


def per_gigabyte(case: Case) -> Answer:
    trained = case.trained("ia3")
    value = 10**9 // (trained * SINGLE)
    steps = [line(rf"\left\lfloor \frac{{10^9}}{{{tex(trained)} \cdot 4}} \right\rfloor = {tex(value)}")]
    return result(
        value, "tasks", steps,
        (10**9 // trained, "that a float32 number has four bytes"),
        (10**9 // (trained * HALF), "that the vectors are in float32, not in 16 bits"),
        (2**30 // (trained * SINGLE), "that the gigabyte is decimal"),
        tolerance=0.005,
    )  # fmt: skip


def unmerged_work(case: Case) -> Answer:
    shape = case.shape
    added = case.trained("lora", r=case["r"], target_modules=["all-linear"])
    base = block_entries(shape)
    value = 100 * added / base
    steps = [line(rf"\frac{{{tex(added)}}}{{{tex(base)}}} = {tex(value)}\,\%")]
    return result(
        value, "percent", steps,
        (100 * added / shape.total, "that a token is not multiplied with the embedding table"),
        (100 * _query_value(case) / base, "that every linear map is adapted, not query and value alone"),
        tolerance=0.01,
    )  # fmt: skip


def merged_copies(case: Case) -> Answer:
    tasks, base = case["tasks"], case.shape.total * HALF
    value = tasks * base
    steps = [line(rf"{tasks} \cdot {tex(case.shape.total)} \cdot 2 = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (base, "that every merged task is a whole model of its own"),
        (tasks * case.shape.total, "the two bytes of each number"),
        (tasks * base * 2, "that bfloat16 has two bytes, not four"),
        tolerance=0.01,
    )  # fmt: skip


def requests_lost(case: Case) -> Answer:
    shape, n, length, gigabytes = case.shape, case["n"], case["length"], case["gigabytes"]
    each = 2 * shape.num_layers * shape.kv_width * HALF
    without, with_prefix = gigabytes * 10**9 // (each * length), gigabytes * 10**9 // (each * (length + n))
    value = without - with_prefix
    steps = [
        line(
            rf"\text{{one token}}: 2 \cdot {shape.num_layers} \cdot {tex(shape.kv_width)} \cdot 2 = {tex(each)}\ "
            rf"\text{{bytes}}"
        ),
        line(
            rf"\left\lfloor \frac{{{gigabytes} \cdot 10^9}}{{{tex(length)} \cdot {tex(each)}}} \right\rfloor = "
            rf"{tex(without)}"
        ),
        line(
            rf"\left\lfloor \frac{{{gigabytes} \cdot 10^9}}{{{tex(length + n)} \cdot {tex(each)}}} \right\rfloor = "
            rf"{tex(with_prefix)}"
        ),
        line(rf"{tex(without)} - {tex(with_prefix)} = {tex(value)}"),
    ]
    return result(
        value, "requests", steps,
        (with_prefix, "to take the difference"),
        (without, "the prefix"),
        (0, "that virtual tokens take cache like any others"),
        named={"without": plain(without), "with": plain(with_prefix)},
    )  # fmt: skip


def swap_time(case: Case) -> Answer:
    speed = case["speed"]
    size = case.trained("lora", r=case["r"], target_modules=["all-linear"]) * HALF
    value = size / (speed * 1e9) * 1e3
    base = case.shape.total * HALF / (speed * 1e9)
    steps = [
        line(
            rf"\frac{{{tex(size)}\ \text{{bytes}}}}{{{speed} \cdot 10^9\ \text{{bytes per second}}}} = "
            rf"{tex(value)}\ \text{{ms}}"
        )
    ]
    return result(
        value, "ms", steps,
        (value / HALF, "the two bytes of each number"),
        (base * 1e3, "that the base stays where it is"),
        (value * BITS, "that the link's speed is given in bytes, not bits"),
        tolerance=0.02,
        named={"whole": plain(base)},
    )  # fmt: skip


def mixed_batch(case: Case) -> Answer:
    requests = case["requests"]
    trained = _query_value(case)
    value = requests * trained * HALF
    base = case.shape.total * HALF
    steps = [line(rf"{requests} \cdot {tex(trained)} \cdot 2 = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (trained * HALF, "that every request has its own adapter"),
        (requests * trained, "the two bytes of each number"),
        (value + base, "that the base is in memory anyway: the question is what comes on top"),
        tolerance=0.01,
        named={"share": f"{100 * value / base:.3g}%"},
    )  # fmt: skip
