"""Serving and shipping: files, copies, transfers, slots and cold starts; several adapters merged into one."""

from __future__ import annotations

import math

from peft_lab.interview.computed import (
    BITS,
    HALF,
    NO_GQA,
    SINGLE,
    Answer,
    Case,
    beside,
    block_entries,
    both,
    product,
    result,
    tex,
    told,
)

E4M3_FRACTION, BF16_FRACTION, E5M2_FRACTION = 3, 7, 2  # stored bits of the significand


def adapter_file(case: Case) -> Answer:
    trained = case.lora(case["r"], "q", "v")
    value = trained * SINGLE
    steps = [rf"{tex(trained)} \cdot 4 = {tex(value)}\ \text{{bytes}}"]
    q = case.matrix("q")
    return result(
        value, "bytes", steps,
        (trained, "that a float32 number has four bytes"),
        (trained * HALF, "that the adapter is in float32, even beside a bfloat16 base"),
        (case.shape.num_layers * case["r"] * 2 * both(q) * SINGLE, NO_GQA),
        (trained * SINGLE * BITS, "that the question is in bytes, not bits"),
        tolerance=0.01,
        named={"base": case.shape.total * HALF / 1e9},
    )  # fmt: skip


def many_tasks(case: Case) -> Answer:
    trained, tasks = case.lora(case["r"], "q", "v"), case["tasks"]
    base = case.shape.total * HALF
    value = base + tasks * trained * HALF
    steps = [
        rf"\text{{base}}: {tex(case.shape.total)} \cdot 2 = {tex(base)}",
        rf"\text{{adapters}}: {tasks} \cdot {tex(trained)} \cdot 2 = {tex(tasks * trained * HALF)}",
        rf"\text{{together}}: {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (tasks * trained * HALF, "the base, which is needed once"),
        (tasks * base, "that all tasks share one base"),
        (base + trained * HALF, "that every task has its own adapter"),
        tolerance=0.01,
        named={"copies": tasks * base / 1e9, "times": tasks * base / value},
    )  # fmt: skip


def per_gigabyte(case: Case) -> Answer:
    trained = case.trained("ia3")
    value = 10**9 // (trained * SINGLE)
    steps = [rf"\left\lfloor \frac{{10^9}}{{{tex(trained)} \cdot 4}} \right\rfloor = {tex(value)}"]
    return result(
        value, "tasks", steps,
        (10**9 // trained, "that a float32 number has four bytes"),
        (10**9 // (trained * HALF), "that the vectors are in float32, not in 16 bits"),
        (2**30 // (trained * SINGLE), "that the gigabyte is decimal"),
        tolerance=0.005,
    )  # fmt: skip


def unmerged_work(case: Case) -> Answer:
    shape = case.shape
    added = case.lora(case["r"])
    base = block_entries(shape)
    value = 100 * added / base
    steps = [rf"\frac{{{tex(added)}}}{{{tex(base)}}} = {tex(value)}\,\%"]
    return result(
        value, "percent", steps,
        (100 * added / shape.total, "that the embedding is a lookup, not a product with a token"),
        (100 * case.lora(case["r"], "q", "v") / base, "that every linear map is adapted, not only query and value"),
        tolerance=0.01,
    )  # fmt: skip


def merged_copies(case: Case) -> Answer:
    tasks, base = case["tasks"], case.shape.total * HALF
    value = tasks * base
    steps = [rf"{tasks} \cdot {tex(case.shape.total)} \cdot 2 = {tex(value)}\ \text{{bytes}}"]
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
        (
            rf"\text{{one token}}: 2 \cdot {shape.num_layers} \cdot {tex(shape.kv_width)} \cdot 2 = {tex(each)}\ "
            rf"\text{{bytes}}"
        ),
        (
            rf"\left\lfloor \frac{{{gigabytes} \cdot 10^9}}{{{tex(length)} \cdot {tex(each)}}} \right\rfloor = "
            rf"{tex(without)}"
        ),
        (
            rf"\left\lfloor \frac{{{gigabytes} \cdot 10^9}}{{{tex(length + n)} \cdot {tex(each)}}} \right\rfloor = "
            rf"{tex(with_prefix)}"
        ),
        rf"{tex(without)} - {tex(with_prefix)} = {tex(value)}",
    ]
    return result(
        value, "requests", steps,
        (with_prefix, "to take the difference"),
        (without, "the prefix"),
        (0, "that virtual tokens take up cache like all others"),
        named={"without": without, "with": with_prefix},
    )  # fmt: skip


def swap_time(case: Case) -> Answer:
    speed = case["speed"]
    size = case.lora(case["r"]) * HALF
    value = size / (speed * 1e9) * 1e3
    base = case.shape.total * HALF / (speed * 1e9)
    steps = [
        (
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
        named={"whole": base},
    )  # fmt: skip


def mixed_batch(case: Case) -> Answer:
    requests = case["requests"]
    trained = case.lora(case["r"], "q", "v")
    value = requests * trained * HALF
    base = case.shape.total * HALF
    steps = [rf"{requests} \cdot {tex(trained)} \cdot 2 = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (trained * HALF, "that every request has its own adapter"),
        (requests * trained, "the two bytes of each number"),
        (value + base, "that the base is in memory anyway: the question is what is added"),
        tolerance=0.01,
        named={"share": f"{100 * value / base:.3g}%"},
    )  # fmt: skip


def all_merged(case: Case) -> Answer:
    return told(case["tasks"] * case.shape.total * HALF, "bytes")


def slots(case: Case) -> Answer:
    """Return the bytes that a server reserves for adapters before the first one is loaded."""
    count, rank = case["slots"], case["rank"]
    each = case.lora(rank) * HALF
    value = count * each
    steps = [
        rf"\text{{one slot}}: {tex(each)}\ \text{{bytes}}",
        rf"{product(count, each)} = {tex(value)}\ \text{{bytes}}",
    ]
    return result(
        value, "bytes", steps,
        (each, "that every slot is allocated"),
        (value // 2, "the two bytes of each number"),
        (value // rank * 8, "that a slot has the largest rank, whatever the adapter's"),
        tolerance=0.01,
        named={"base": case.shape.total * HALF / 1e9},
    )  # fmt: skip


def slot_padding(case: Case) -> Answer:
    """Return the share of a slot that an adapter of smaller rank leaves empty."""
    rank, own = case["rank"], case["own"]
    value = 100 * (1 - own / rank)
    return result(
        value, "percent", [rf"1 - {own} / {rank} = {tex(value)}\,\%"],
        (100 * own / rank, "the direction: ask how much stays empty"),
        (100 * (1 - (own / rank) ** 2), "that A and B each are linear in the rank"),
        (0.0, "that a slot is allocated at the largest rank"),
    )  # fmt: skip


def cold_start(case: Case) -> Answer:
    """Return the milliseconds to fetch an adapter over a network, at best."""
    size = case.lora(case["r"]) * HALF
    speed = case["gigabits"]
    value = size * BITS / (speed * 1e9) * 1000
    steps = [
        rf"{tex(size)}\ \text{{bytes}} = {tex(size * BITS)}\ \text{{bits}}",
        rf"{tex(size * BITS)} / ({speed} \cdot 10^9) = {tex(value)}\ \text{{ms}}",
    ]
    return result(
        value, "ms", steps,
        (value / BITS, "that a network's speed is in bits"),
        (value / 2, "the two bytes of each number"),
        (value / 1000, "that the question is in milliseconds"),
        tolerance=0.02,
        named={"megabytes": size / 1e6},
    )  # fmt: skip


def prefill(case: Case) -> Answer:
    """Return how many times fewer tokens are read when adapters reuse the base's cache."""
    document, checks, own = case["document"], case["checks"], case["own"]
    lora, reused = document + checks * (document + own), document + checks * own
    value = lora / reused
    steps = [
        rf"\text{{LoRA}}: {document} + {checks} \cdot ({document} + {own}) = {tex(lora)}",
        rf"\text{{activated}}: {document} + {checks} \cdot {own} = {tex(reused)}",
        rf"{tex(lora)} / {tex(reused)} = {tex(value)}",
    ]
    return result(
        value, "times", steps,
        (checks * (document + own) / (checks * own), "that the base must read the document once"),
        (float(checks + 1), "the instructions of each check, which are read in any case"),
        (reused / lora, "the direction: ask how many times fewer"),
        tolerance=0.01,
        named={"lora": lora, "reused": reused},
    )  # fmt: skip


def parallel(case: Case) -> Answer:
    """Return the parameters of a query map's adapter on each device, when only the sharded side of it is divided."""
    q, r, devices = case.matrix("q"), case["r"], case["devices"]
    value = r * q.in_features + r * q.out_features / devices
    steps = [
        rf"A: {product(r, q.in_features)} = {tex(r * q.in_features)}\ \text{{on each}}",
        rf"B: {product(r, q.out_features)} / {devices} = {tex(r * q.out_features / devices)}",
        rf"{tex(r * q.in_features)} + {tex(r * q.out_features / devices)} = {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (r * (q.in_features + q.out_features) / devices, "that A is held in full on each device"),
        (float(r * (q.in_features + q.out_features)), "that B is divided along the outputs"),
        (
            r * q.in_features / devices + r * q.out_features,
            "which side is divided: a column-parallel map divides its outputs",
        ),
        named={"sharded": r * (q.in_features + q.out_features) / devices},
        wholes=beside(case),
    )  # fmt: skip


def stacked(case: Case) -> Answer:
    """Return the rank of adapters that are concatenated."""
    ranks = case.numbers("ranks")
    value = sum(ranks)
    return result(
        value, "", [" + ".join(map(str, ranks)) + rf" = {value}"],
        (max(ranks), "that all columns and rows are placed side by side"),
        (math.prod(ranks), "that ranks are added"),
        (value / len(ranks), "that nothing is averaged"),
    )  # fmt: skip


def crossed(case: Case) -> Answer:
    """Return the result of PEFT's ``linear`` for two adapters of one number each, with equal weights of a half."""
    (a1, b1), (a2, b2) = case.numbers("first"), case.numbers("second")
    weight = 0.5
    value = weight * (a1 + a2) * (b1 + b2)
    wanted = weight * (a1 * b1 + a2 * b2)
    steps = [
        rf"A = \sqrt{{0.5}} \cdot ({a1} + {a2}) \qquad B = \sqrt{{0.5}} \cdot ({b1} + ({b2}))",
        rf"BA = 0.5 \cdot {a1 + a2} \cdot ({b1 + b2}) = {tex(value)}",
    ]
    return result(
        value, "", steps,
        (wanted, "that A and B are combined separately: their product has cross terms"),
        (2 * value, "that A and B each get the square root of the weight"),
        (weight * value, "that each side gets the square root of the weight, not the weight"),
        (-value, "the sign of the second B"),
        named={"wanted": wanted},
    )  # fmt: skip


def elected(case: Case) -> Answer:
    """Return the result of TIES for one entry: the sign of the sum, then the mean of the values that agree."""
    values = case.numbers("values")
    sign = 1 if sum(values) >= 0 else -1
    agree = [entry for entry in values if entry * sign > 0]
    value = sum(agree) / len(agree)
    steps = [
        rf"\text{{sum}}: {sum(values)} \Rightarrow \text{{sign}}\ {'+' if sign > 0 else '-'}",
        rf"\frac{{{' + '.join(map(str, agree))}}}{{{len(agree)}}} = {tex(value)}",
    ]
    return result(
        value, "hundredths", steps,
        (sum(values) / len(values), "that entries of the other sign are left out"),
        (sum(agree) / len(values), "that the mean covers only the entries that agree"),
        (float(sum(agree)), "to divide: it is a mean"),
        (float(max(values, key=abs)), "the smaller of the agreeing entries"),
    )  # fmt: skip


def rescaled(case: Case) -> Answer:
    """Return the factor by which DARE multiplies the entries that it keeps."""
    percent = case["percent"]
    value = 100 / percent
    return result(
        value, "times", [rf"1 / {tex(percent / 100)} = {tex(value)}"],
        (100 / (100 - percent), "that density is the share that is kept, not dropped"),
        (percent / 100, "the direction: the remaining entries must grow"),
        (1.0, "the rescaling, which preserves the expected value"),
    )  # fmt: skip


def spread(case: Case) -> Answer:
    """Return the standard deviation of an entry under DARE, in units of the entry."""
    density = case.number("density")
    value = math.sqrt(1 / density - 1)
    steps = [
        r"\mathrm{Var} = \rho \cdot (x / \rho)^2 - x^2 = x^2 (1 / \rho - 1)",
        rf"\sqrt{{1 / {tex(density)} - 1}} = {tex(value)}",
    ]
    return result(
        value, "times", steps,
        (1 / density - 1, "the square root: this is the variance"),
        (1 / density, "to subtract the square of the mean"),
        (math.sqrt(density * (1 - density)), "the rescaling"),
        tolerance=0.005,
    )  # fmt: skip


def energy(case: Case) -> Answer:
    """Return the share of squared singular values that the first ones keep."""
    values, kept = case.numbers("singular"), case["kept"]
    squares = [entry**2 for entry in values]
    value = 100 * sum(squares[:kept]) / sum(squares)
    steps = [
        (
            rf"\frac{{{' + '.join(map(str, squares[:kept]))}}}{{{' + '.join(map(str, squares))}}} = "
            rf"{tex(value)}\,\%"
        ),
    ]
    return result(
        value, "percent", steps,
        (100 * sum(values[:kept]) / sum(values), "that the error is measured in squares"),
        (100 * kept / len(values), "that singular values differ"),
        (100 - value, "the direction: ask how much is kept"),
        tolerance=0.005,
    )  # fmt: skip


def routed(case: Case) -> Answer:
    """Return the weight of the best adapter under a softmax over the top ones."""
    scores, top, temperature = case.numbers("scores"), case["top"], case.number("temperature")
    best = sorted(scores, reverse=True)[:top]
    value = 100 / sum(math.exp((score - best[0]) / temperature) for score in best)
    every = 100 / sum(math.exp((score - best[0]) / temperature) for score in scores)
    steps = [
        rf"\frac{{1}}{{{' + '.join(rf'e^{{{score - best[0]}}}' for score in best)}}} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", steps,
        (every, "that only the best ones take part"),
        (100 * best[0] / sum(best), "the exponential"),
        (100 / top, "that the weights follow the scores"),
        (100.0, "that several adapters share each token"),
        tolerance=0.01,
    )  # fmt: skip


def block_bits(case: Case) -> Answer:
    """Return the bits per weight of a GGUF block format."""
    block, stored = case["block"], case["stored"]
    value = stored * BITS / block
    return result(
        value, "bits", [rf"{stored} \cdot 8 / {block} = {tex(value)}"],
        (float(value - 0.5), "the scale, which is stored with each block"),
        (stored / block, "that a byte has eight bits"),
        (block / stored, "the direction: bits for each weight"),
        tolerance=0.001,
    )  # fmt: skip


def file_bytes(case: Case) -> Answer:
    """Return the bytes of a file with every parameter at so many bits."""
    total, bits = case.shape.total, case.number("bits")
    value = total * bits / BITS
    steps = [rf"{tex(total)} \cdot {tex(bits)} / 8 = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (total * bits, "that eight bits make a byte"),
        (float(total * HALF), "that the weights are quantised"),
        (total * math.floor(bits) / BITS, (
            "the scales: the codes alone take six bits, but each block also stores its scale"
        )),
        tolerance=0.005,
        named={"half": total * HALF / 1e9},
    )  # fmt: skip


def e4m3(case: Case) -> Answer:
    """Return how far the next E4M3 number is above 1."""
    value = 2.0**-E4M3_FRACTION
    return result(
        value, "", [rf"2^{{-{E4M3_FRACTION}}} = {tex(value)}"],
        (2.0**-BF16_FRACTION, "that E4M3 stores three bits of the significand: this is bfloat16's step"),
        (2.0**-E5M2_FRACTION, "that E4M3 stores three bits: this is E5M2's step"),
        (2.0**-4, "that four is the number of exponent bits"),
        named={"lost": value / 2},
    )  # fmt: skip
