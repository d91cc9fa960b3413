"""Bases in few bits, and how they are stored and shared between devices."""

from __future__ import annotations

from peft_lab.core import units
from peft_lab.interview import computed
from peft_lab.interview.computed import BITS, Answer, Case, block_entries, line, plain, product, result, tex

HALF, SINGLE = 2, 4  # bytes per number
CODE, SCALE, ZERO = 4, 16, 4  # bits of GPTQ and AWQ: a weight, and the scale and zero point of a group
STORED = 16  # bits of the type that packs the codes


def every_map(case: Case) -> int:
    """Parameters of LoRA on every linear map of the blocks."""
    return case.trained("lora", r=case["r"], target_modules=["all-linear"])


def _four_bits(case: Case) -> float:
    """Bytes of the model with its blocks' maps in NF4 with double quantisation, the rest in two bytes."""
    blocks = block_entries(case.shape)
    return blocks * computed.nf4_bits(double=True) / BITS + (case.shape.total - blocks) * HALF


def grouped(case: Case) -> Answer:
    """Bytes of the model with its blocks' maps in groups of 4-bit codes, the rest in two bytes."""
    group, blocks, total = case["group"], block_entries(case.shape), case.shape.total
    each = CODE + (SCALE + ZERO) / group
    value = blocks * each / BITS + (total - blocks) * HALF
    steps = [
        line(rf"4 + \frac{{16 + 4}}{{{group}}} = {tex(each)}\ \text{{bits}}"),
        line(
            rf"{tex(blocks)} \cdot {tex(each)} / 8 + {tex(total - blocks)} \cdot 2 = {tex(value)}\ \text{{bytes}}"
        ),
    ]
    return result(
        value, "bytes", steps,
        (total * each / BITS, "that embeddings, norms and output layer stay in two bytes"),
        (blocks * CODE / BITS + (total - blocks) * HALF, "the scale and zero point of each group"),
        (blocks * each / BITS, "what is not in the blocks"),
        (total * HALF, "that the blocks' maps are in 4 bits"),
        tolerance=0.005,
        named={"bits": plain(each), "nf4": plain(_four_bits(case) / 1e9)},
    )  # fmt: skip


def magnitudes(case: Case) -> Answer:
    """What DoRA's magnitudes add to LoRA's parameters on every map, in percent."""
    inside = [case.shape.block[role] for role in ("q", "k", "v", "o", "gate", "up", "down")]
    outputs, lora = case.shape.num_layers * sum(group.out_features for group in inside), every_map(case)
    value = 100 * outputs / lora
    steps = [
        line(rf"\text{{magnitudes}}: {tex(outputs)} \qquad \text{{A and B}}: {tex(lora)}"),
        line(rf"{tex(outputs)} / {tex(lora)} = {tex(value)}\,\%"),
    ]
    return result(
        value, "percent", steps,
        (100 * outputs / case.shape.total, "that it is compared with LoRA, not with the model"),
        (
            100 * case.shape.num_layers * sum(group.in_features for group in inside) / lora,
            "that there is a magnitude for each output",
        ),
        (100 * outputs * case["r"] / lora, "that a magnitude is one number, whatever the rank"),
        tolerance=0.01,
    )  # fmt: skip


def compensation(case: Case) -> Answer:
    """Bytes of a low-rank compensation in bfloat16, as a percentage of the 4-bit base."""
    low, base = every_map(case) * HALF, _four_bits(case)
    value = 100 * low / base
    steps = [
        line(rf"{tex(low // HALF)} \cdot 2 = {tex(low)}\ \text{{bytes}}"),
        line(rf"{tex(low)} / {tex(base)} = {tex(value)}\,\%"),
    ]
    return result(
        value, "percent", steps,
        (100 * low / (case.shape.total * HALF), "that the base is in 4 bits"),
        (value / 2, "the two bytes of each number"),
        (100 * low / HALF / case.shape.total, "the bytes: the two are stored in different widths"),
        tolerance=0.01,
        named={"gigabytes": plain(low / 1e9)},
    )  # fmt: skip


def packed(case: Case) -> Answer:
    """Entries of one query map's packed weight when codes are stored as bfloat16."""
    q = case.matrix("q")
    entries = q.in_features * q.out_features
    value = entries * CODE // STORED
    return result(
        value, "entries", [line(rf"{product(q.in_features, q.out_features)} \cdot 4 / 16 = {tex(value)}")],
        (entries // 2, "that a stored number has 16 bits now, not 8"),
        (entries, "that codes are packed"),
        (entries // 8, "that float32 would hold eight codes; bfloat16 holds four"),
        named={"share": plain(100 * value / entries)},
    )  # fmt: skip


def shard(case: Case) -> Answer:
    """Bytes of a 4-bit base on each of several devices."""
    whole, devices = _four_bits(case), case["devices"]
    value = whole / devices
    return result(
        value, "bytes", [line(rf"{tex(whole)} / {devices} = {tex(value)}\ \text{{bytes}}")],
        (whole, "that every device holds a part only"),
        (case.shape.total * HALF / devices, "that the blocks' maps are in 4 bits"),
        (whole / devices / 2, "to divide once"),
        tolerance=0.01,
        named={"whole": plain(whole / 1e9)},
    )  # fmt: skip


def gathered(case: Case) -> Answer:
    """Bytes of one layer's maps, put together on a device for its turn, in NF4 with double quantisation."""
    layer = block_entries(case.shape) / case.shape.num_layers
    value = layer * computed.nf4_bits(double=True) / BITS
    steps = [
        line(rf"\text{{one layer}}: {tex(layer)}\ \text{{weights}}"),
        line(rf"{tex(layer)} \cdot {tex(computed.nf4_bits(double=True))} / 8 = {tex(value)}\ \text{{bytes}}"),
    ]
    return result(
        value, "bytes", steps,
        (layer * HALF, "that weights travel packed, in 4 bits"),
        (value * case.shape.num_layers, "that layers are gathered one at a time"),
        (value / case["devices"], "that the whole layer has to be there for its turn"),
        tolerance=0.01,
        named={"half": units.size(layer * HALF)},
    )  # fmt: skip


def second_stage(case: Case) -> Answer:
    """Bytes that sharding gradients and moments of a LoRA saves on each device."""
    devices, trained = case["devices"], every_map(case)
    state = trained * (SINGLE + 2 * SINGLE)
    value = state * (devices - 1) / devices
    steps = [
        line(rf"{tex(trained)} \cdot (4 + 8) = {tex(state)}\ \text{{bytes}}"),
        line(rf"{tex(state)} \cdot \frac{{{devices - 1}}}{{{devices}}} = {tex(value)}\ \text{{bytes}}"),
    ]
    return result(
        value, "bytes", steps,
        (state, "that each device keeps its own part"),
        (state / devices, "that the question is what is saved, not what is left"),
        (case.shape.total * 12 * (devices - 1) / devices, "that only the adapter has gradients and moments"),
        tolerance=0.01,
        named={"base": plain(case.shape.total * HALF / 1e9)},
    )  # fmt: skip


def traffic(case: Case) -> Answer:
    """Bytes that a device receives in a step to have each frozen weight for the forward and the backward pass."""
    devices, total = case["devices"], case.shape.total
    value = 2 * total * HALF * (devices - 1) / devices
    steps = [
        line(
            rf"\text{{once}}: {tex(total)} \cdot 2 \cdot \frac{{{devices - 1}}}{{{devices}}} = {tex(value / 2)}"
        ),
        line(rf"\text{{forward and backward}}: {tex(value)}\ \text{{bytes}}"),
    ]
    return result(
        value, "bytes", steps,
        (value / 2, "that weights are let go after the forward pass and gathered again for the backward pass"),
        (value * 1.5, "that frozen weights have no gradients to scatter"),
        (2 * total * HALF, "that a device has its own part already"),
        tolerance=0.005,
        named={"seconds": plain(value / (case["speed"] * 1e9))},
    )  # fmt: skip
