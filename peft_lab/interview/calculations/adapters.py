"""Bottleneck adapters: sizes, work, and widths that match another method."""

from __future__ import annotations

from peft_lab.core import units
from peft_lab.interview.computed import Answer, Case, beside, block_entries, line, plain, result, share, tex

SINGLE = 4  # bytes of float32


def one(case: Case) -> Answer:
    """Parameters of one adapter with biases: ``2md + d + m``."""
    d, m = case.shape.hidden, case["m"]
    value = case.trained("adapters", placement="pfeiffer", bottleneck=m) // case.shape.num_layers
    steps = [line(rf"2\,m\,d + d + m = 2 \cdot {m} \cdot {tex(d)} + {tex(d)} + {m} = {tex(value)}")]
    return result(
        value, "parameters", steps,
        (2 * m * d, "the biases"),
        (m * d + m, "the way back up: an adapter has two matrices"),
        (m * d + d + m, "one of the two matrices"),
        wholes=beside(case),
    )  # fmt: skip


def houlsby(case: Case) -> Answer:
    """Parameters of two adapters in every layer."""
    d, m, layers = case.shape.hidden, case["m"], case.shape.num_layers
    value = case.trained("adapters", placement="houlsby", bottleneck=m)
    each = value // (2 * layers)
    steps = [
        line(rf"2\,m\,d + d + m = 2 \cdot {m} \cdot {tex(d)} + {tex(d)} + {m} = {tex(each)}"),
        line(rf"2 \cdot {layers} \cdot {tex(each)} = {tex(value)}"),
    ]
    return result(
        value, "parameters", steps,
        (value // 2, "that Houlsby puts two adapters into each layer"),
        (2 * layers * 2 * m * d, "the biases"),
        (2 * each, "the layers"),
        named={"share": share(value, case.shape.total + value)},
        wholes=beside(case),
    )  # fmt: skip


def pfeiffer_share(case: Case) -> Answer:
    """Percent of model and adapters together that one adapter in every layer trains."""
    shape, m = case.shape, case["m"]
    trained = case.trained("adapters", placement="pfeiffer", bottleneck=m)
    value = 100 * trained / (shape.total + trained)
    each = trained // shape.num_layers
    steps = [
        line(
            rf"{shape.num_layers} \cdot (2 \cdot {m} \cdot {tex(shape.hidden)} + {tex(shape.hidden)} + {m}) = "
            rf"{tex(trained)}"
        ),
        line(rf"\frac{{{tex(trained)}}}{{{tex(shape.total)} + {tex(trained)}}} = {tex(value)}\,\%"),
    ]
    return result(
        value, "percent", steps,
        (100 * 2 * trained / (shape.total + 2 * trained), "that Pfeiffer keeps one of Houlsby's two adapters"),
        (100 * each / shape.total, "the layers"),
        named={"trained": plain(trained)},
    )  # fmt: skip


def extra_work(case: Case) -> Answer:
    """Percent of multiplications that two adapters in every layer add to those of the layers, for one token."""
    shape, m = case.shape, case["m"]
    added = 2 * 2 * m * shape.hidden * shape.num_layers
    base = block_entries(shape)
    value = 100 * added / base
    steps = [
        line(
            rf"\text{{adapters}}: {shape.num_layers} \cdot 2 \cdot 2 \cdot {m} \cdot {tex(shape.hidden)} = {tex(added)}"
        ),
        line(rf"\text{{layers}}: {tex(base)} \qquad {tex(added)} / {tex(base)} = {tex(value)}\,\%"),
    ]
    return result(
        value, "percent", steps,
        (value / 2, "that Houlsby puts two adapters into each layer, each with two matrices"),
        (value / 4, "that there are two adapters of two matrices in each layer"),
        (100 * added / shape.total, "that a token is not multiplied with the embedding table"),
        tolerance=0.01,
    )  # fmt: skip


def matching_width(case: Case) -> Answer:
    """The width at which one adapter in every layer has as many parameters as LoRA on all linear maps."""
    shape, r = case.shape, case["r"]
    lora = case.trained("lora", r=r, target_modules=["all-linear"])
    d = shape.hidden
    each = lora / shape.num_layers
    value = (each - d) / (2 * d + 1)
    steps = [
        line(rf"\text{{LoRA, one layer}}: {tex(lora)} / {shape.num_layers} = {tex(each)}"),
        line(
            rf"2\,m\,d + d + m = {tex(each)} \;\Rightarrow\; m = \frac{{{tex(each)} - {tex(d)}}}{{2 \cdot {tex(d)} "
            rf"+ 1}} = {tex(value)}"
        ),
    ]
    return result(
        value, "", steps,
        (value / 2, "that Pfeiffer has one adapter per layer, not two"),
        ((lora - d) / (2 * d + 1), "to divide by the layers"),
        (each / d, "that an adapter has two matrices"),
        tolerance=0.01,
    )  # fmt: skip


def reduction(case: Case) -> Answer:
    """The width that a reduction factor stands for: hidden size over factor."""
    d, factor = case.shape.hidden, case["factor"]
    value = d / factor
    steps = [line(rf"m = d / {factor} = {tex(d)} / {factor} = {tex(value)}")]
    return result(
        value, "", steps,
        (
            case.shape.intermediate / factor,
            "that the width is a fraction of the hidden size, not of the feed-forward part",
        ),
        (d * factor, "the direction: the factor reduces"),
        named={"trained": plain(case.trained("adapters", placement="pfeiffer", bottleneck=round(value)))},
    )  # fmt: skip


def three_domains(case: Case) -> Answer:
    """Bytes of one base and an adapter for every domain, all in float32."""
    shape, m, domains = case.shape, case["m"], case["domains"]
    adapter = case.stored("adapters", placement="pfeiffer", bottleneck=m) * SINGLE
    base = shape.total * SINGLE
    value = base + domains * adapter
    steps = [line(rf"{tex(base)} + {domains} \cdot {tex(adapter)} = {tex(value)}\ \text{{bytes}}")]
    return result(
        value, "bytes", steps,
        (domains * (base + adapter), "that all adapters share one base"),
        (domains * adapter, "the base, which is needed once"),
        (base + adapter, "that every domain has its own adapter"),
        (value // SINGLE, "that a float32 number has four bytes"),
        tolerance=0.003,
        named={"copies": units.size(domains * base), "adapter": units.size(adapter)},
    )  # fmt: skip
