"""Compute the answers that formulas cannot (:mod:`peft_lab.interview.formulas`): they list or search.

Each calculation takes a :class:`Case` and shows its working. One runs bitsandbytes and so needs torch:
``gaussian_error``.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from typing import Any

from peft_lab.interview import computed
from peft_lab.interview.computed import (
    Answer,
    Case,
    Whole,
    both,
    entries,
    figure,
    line,
    misses,
    plain,
    result,
    share,
    tex,
)
from peft_lab.interview.question import takes
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import catalogue, get_model

BITFIT_MODELS = ("llama-3.2-3b", "mistral-7b", "gpt2", "gemma-2-2b")
MERGE_CANDIDATES = ("prefix", "adapters", "ia3", "ptuning")
ENCODER_CANDIDATES = ("lora", "prompt", "prefix", "ia3")
SMALL_CANDIDATES = ("adapters", "lora", "prefix", "prompt")
ORIGINAL_EIGHT = frozenset({"lora", "qlora", "prefix", "prompt", "ptuning", "adapters", "ia3", "bitfit"})
SAMPLES, SEED = 1 << 18, 0


def _chosen(flags: Sequence[bool], steps: Iterable[str], **named: str) -> Answer:
    """Return the one option that is right. Raises ValueError when the question has no single answer."""
    if sum(flags) != 1:
        raise ValueError(f"{sum(flags)} options are right")
    return Answer(list(flags).index(True), "option", tuple(steps), named=named)


def _sizes(case: Case, **adapters: str) -> dict[str, int]:
    """Return what each candidate stores at the question's rank, width and number of virtual tokens."""
    knobs: dict[str, dict[str, Any]] = {
        "adapters": {"bottleneck": case["m"], **adapters},
        "lora": {"r": case["r"]},
        "prefix": {"num_virtual_tokens": case["n"]},
        "prompt": {"num_virtual_tokens": case["n"]},
    }
    return {slug: case.stored(slug, **knobs[slug]) for slug in SMALL_CANDIDATES}


def smallest(case: Case) -> Answer:
    sizes = _sizes(case)
    least = min(sizes.values())
    steps = [line(rf"\text{{{get_method(slug).title}}}: {tex(size)}") for slug, size in sizes.items()]
    return _chosen([size == least for size in sizes.values()], steps, least=plain(least))


def small_in_order(case: Case) -> Answer:
    counts = _sizes(case, placement="houlsby")
    ordered = sorted(counts, key=counts.__getitem__)
    return figure(
        0, "", order="; ".join(f"{get_method(slug).title} {counts[slug]:,}" for slug in ordered[1:])
    )


def has_biases(case: Case) -> Answer:
    found = {name: computed.parts_of(get_model(name).shape)["biases"] for name in BITFIT_MODELS}
    steps = [
        line(rf"\text{{{get_model(name).title}}}: {tex(count)}\ \text{{biases}}")
        for name, count in found.items()
    ]
    return _chosen([count > 0 for count in found.values()], steps, biases=plain(max(found.values())))


def mergeable(case: Case) -> Answer:
    flags = {slug: get_method(slug).mergeable for slug in MERGE_CANDIDATES}
    words = {True: "can be merged", False: "stays in the forward pass"}
    return _chosen(
        [*flags.values()], [f"{get_method(slug).title}: {words[flag]}" for slug, flag in flags.items()]
    )


def refuses_encoder(case: Case) -> Answer:
    refused = {slug: not takes(slug, case.shape) for slug in ENCODER_CANDIDATES}
    steps = [f"{get_method(slug).title}: {'refused' if no else 'runs'}" for slug, no in refused.items()]
    return _chosen([*refused.values()], steps)


def methods_that_run(case: Case) -> Answer:
    titles = {slug: spec.title for slug, spec in all_methods().items() if slug in ORIGINAL_EIGHT}
    runs = [title for slug, title in titles.items() if takes(slug, case.shape)]
    left = [title for title in titles.values() if title not in runs]
    steps = (f"runs: {', '.join(runs)}", f"does not: {', '.join(left) or 'none'}")
    slip = misses(len(runs), (len(titles), "that some methods need biases, and some a key/value cache"))
    return Answer(len(runs), "methods", steps, slip, named={"left": " and ".join(left) or "none"})


def one_map(case: Case) -> Answer:
    """Return the parameters of A and B on one map: ``r (d_in + d_out)``."""
    q, r = case.matrix("q"), case["r"]
    value = case.lora(r, "q") // q.count
    steps = [
        rf"A: {r} \times {tex(q.in_features)} \qquad B: {tex(q.out_features)} \times {r}",
        rf"r\,(d_{{in}} + d_{{out}}) = {r} \cdot ({tex(q.in_features)} + {tex(q.out_features)}) = {tex(value)}",
    ]
    return result(
        value, "parameters", steps,
        (r * q.in_features, "B: the correction is a product of two matrices"),
        (2 * value, "that r times (inputs + outputs) already covers A and B: you counted both twice"),
        (entries(q), "the factorisation: this is the whole matrix"),
        (r * entries(q), "that inputs and outputs are added, not multiplied"),
        named={"share": share(value, entries(q))},
        wholes=(Whole(case.shape.total), Whole(entries(q), "the matrix", added=False)),
    )  # fmt: skip


def value_map(case: Case) -> Answer:
    return figure(case["r"] * both(case.matrix("v")), "parameters")


def models_with_biases(case: Case) -> Answer:
    names = [entry.title for entry in catalogue().values() if entry.shape.biases]
    return figure(len(names), "", names=", ".join(names), all=len(catalogue()))


def models_below_claim(case: Case) -> Answer:
    """Return the number of catalogue models on which IA³ at its defaults trains less than was claimed."""
    holds = []
    for entry in catalogue().values():
        if takes("ia3", entry.shape):
            trained = Case(entry.shape, {}).trained("ia3")
            if 100 * trained / (entry.shape.total + trained) < case.number("claimed"):
                holds.append(entry.title)
    return figure(len(holds), "", names=", ".join(holds))


def round_trip(case: Case) -> Answer:
    weight, largest = case.number("weight"), case.number("largest")
    code = computed.nearest_nf4(weight / largest)
    value = code * largest
    codes = computed.nf4_values()
    below, above = codes[bisect(codes, weight / largest) - 1], codes[bisect(codes, weight / largest)]
    steps = [
        rf"{weight:g} / {largest:g} = {tex(weight / largest)}",
        rf"{below:.4f} < {tex(weight / largest)} < {above:.4f} \;\Rightarrow\; {code:.4f}",
        rf"{code:.4f} \cdot {largest:g} = {tex(value)}",
    ]
    other = above if code == below else below
    return result(
        value, "", steps,
        (code, "to multiply by the block's constant at the end"),
        (other * largest, "that the nearer of the two neighbours is chosen"),
        (weight, "the rounding"),
        tolerance=0.002,
        named={"error": f"{100 * abs(value / weight - 1):.2g}%"},
    )  # fmt: skip


def negative_values(case: Case) -> Answer:
    codes = computed.nf4_values()
    value, positive = sum(code < 0 for code in codes), sum(code > 0 for code in codes)
    steps = [rf"{value}\ \text{{negative}} + 1\ \text{{zero}} + {positive}\ \text{{positive}} = {len(codes)}"]
    return result(
        value,
        "values",
        steps,
        (positive, "that the exact zero takes one of the values"),
        named={"positive": str(positive)},
    )


def outlier(case: Case) -> Answer:
    factor = case["factor"]
    codes = computed.nf4_values()
    reach = 1 / factor
    used = sorted({computed.nearest_nf4(-reach + 2 * reach * step / 2000) for step in range(2001)})
    value = len(used)
    steps = [
        rf"\text{{all others lie within}} \pm \tfrac{{1}}{{{factor}}} = \pm {reach:g}",
        rf"\text{{nearest code values there: }} {', '.join(f'{code:.4f}' for code in used)}",
    ]
    inside = sum(abs(code) <= reach for code in codes)
    return result(
        value, "values", steps,
        (len(codes), "that the block is scaled by its largest magnitude, the outlier's"),
        (inside - 1, "zero, which is a code value"),
    )  # fmt: skip


def gaussian_error(case: Case) -> Answer:
    """Return the relative error of NF4 on normal numbers, by bitsandbytes. Imports torch."""
    import bitsandbytes.functional as bnb
    import torch

    weights = torch.randn(SAMPLES, generator=torch.Generator().manual_seed(SEED))
    errors = {}
    for kind in ("nf4", "fp4"):
        packed, state = bnb.quantize_4bit(weights, blocksize=computed.NF4_BLOCK, quant_type=kind)
        restored = bnb.dequantize_4bit(packed, state).float()
        errors[kind] = float((restored - weights).norm() / weights.norm())
    value = 100 * errors["nf4"]
    steps = [
        rf"\lVert \hat w - w \rVert / \lVert w \rVert,\quad {tex(SAMPLES)}\ \text{{normal numbers, blocks of 64}}",
        rf"\text{{NF4}}: {value:.3g}\,\% \qquad \text{{FP4}}: {100 * errors['fp4']:.3g}\,\%",
    ]
    return result(
        value, "percent", steps,
        (value**2 / 100, "the square root: this is the share of the squared error"),
        (100 * errors["fp4"], "that NF4 is better than FP4 on normal numbers"),
        tolerance=0.1,
        named={"fp4": 100 * errors["fp4"]},
    )  # fmt: skip
