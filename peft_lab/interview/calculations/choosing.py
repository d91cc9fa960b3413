"""Choosing: what fits, what is smallest, what runs where; adapters beyond chat, and those that a network writes.

The code that runs the methods decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from peft_lab.interview.computed import (
    HALF,
    Answer,
    Case,
    beside,
    figure,
    four_bit_bytes,
    line,
    misses,
    plain,
    product,
    result,
    tex,
)
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import get_model

FULL_STATE = 16  # bytes per parameter: mixed precision with Adam
ADAPTER_STATE = 16  # bytes per parameter: float32 weight, gradient and two moments
GPU_GIGABYTES = 80  # decimal, of the card that full fine-tuning is asked about
BITFIT_MODELS = ("llama-3.2-3b", "mistral-7b", "gpt2", "gemma-2-2b")
MERGE_CANDIDATES = ("prefix", "adapters", "ia3", "ptuning")
ENCODER_CANDIDATES = ("lora", "prompt", "prefix", "ia3")
SMALL_CANDIDATES = ("adapters", "lora", "prefix", "prompt")
ORIGINAL_EIGHT = frozenset({"lora", "qlora", "prefix", "prompt", "ptuning", "adapters", "ia3", "bitfit"})


def _only(flags: Sequence[bool]) -> int:
    """Return the index of the one true flag. Raises ValueError when the question has no single answer."""
    if sum(flags) != 1:
        raise ValueError(f"{sum(flags)} options are right")
    return list(flags).index(True)


def least_that_fits(case: Case) -> Answer:
    shape, room = case.shape, case["gigabytes"] * 10**9
    adapter = case.lora(case["r"]) * ADAPTER_STATE
    full = shape.total * FULL_STATE
    lora = shape.total * HALF + adapter
    qlora = four_bit_bytes(shape) + adapter
    sizes = {"Full fine-tuning": full, "LoRA": lora, "QLoRA": qlora}
    right = next((index for index, size in enumerate(sizes.values()) if size <= room), len(sizes))
    steps = [
        line(rf"\text{{{name}}}: {tex(float(f'{size / 1e9:.3g}'))}\ \text{{GB}}")
        for name, size in sizes.items()
    ]
    named = {"full": plain(full / 1e9), "lora": plain(lora / 1e9), "qlora": plain(qlora / 1e9)}
    return Answer(right, "option", tuple(steps), named=named)


def smallest(case: Case) -> Answer:
    tokens = case["n"]
    knobs = {
        "adapters": {"bottleneck": case["m"]},
        "lora": {"r": case["r"]},
        "prefix": {"num_virtual_tokens": tokens},
    }
    knobs["prompt"] = {"num_virtual_tokens": tokens}
    sizes = [case.stored(slug, **knobs[slug]) for slug in SMALL_CANDIDATES]
    steps = [
        line(rf"\text{{{get_method(slug).title}}}: {tex(size)}")
        for slug, size in zip(SMALL_CANDIDATES, sizes, strict=True)
    ]
    return Answer(
        _only([size == min(sizes) for size in sizes]),
        "option",
        tuple(steps),
        named={"least": plain(min(sizes))},
    )


def has_biases(case: Case) -> Answer:
    found = [
        sum(g.count * g.parameters[name][0] for g, name in get_model(model).shape.biases)
        for model in BITFIT_MODELS
    ]
    steps = [
        line(rf"\text{{{get_model(name).title}}}: {tex(count)}\ \text{{biases}}")
        for name, count in zip(BITFIT_MODELS, found, strict=True)
    ]
    return Answer(
        _only([count > 0 for count in found]), "option", tuple(steps), named={"biases": plain(max(found))}
    )


def mergeable(case: Case) -> Answer:
    flags = [get_method(slug).mergeable for slug in MERGE_CANDIDATES]
    words = ["can be merged" if flag else "stays in the forward pass" for flag in flags]
    steps = [f"{get_method(slug).title}: {word}" for slug, word in zip(MERGE_CANDIDATES, words, strict=True)]
    return Answer(_only(flags), "option", tuple(steps))


def refuses_encoder(case: Case) -> Answer:
    refused = [
        any(p.level == "error" for p in get_method(slug).problems(case.shape, {}))
        for slug in ENCODER_CANDIDATES
    ]
    steps = [
        f"{get_method(slug).title}: {'refused' if no else 'runs'}"
        for slug, no in zip(ENCODER_CANDIDATES, refused, strict=True)
    ]
    return Answer(_only(refused), "option", tuple(steps))


def methods_that_run(case: Case) -> Answer:
    specs = [spec for slug, spec in all_methods().items() if slug in ORIGINAL_EIGHT]
    runs = [spec for spec in specs if not any(p.level == "error" for p in spec.problems(case.shape, {}))]
    left = [spec.title for spec in specs if spec not in runs]
    steps = [f"runs: {', '.join(spec.title for spec in runs)}", f"does not: {', '.join(left) or 'none'}"]
    slip = misses(len(runs), (len(specs), "that some methods need biases, and some a key/value cache"))
    return Answer(len(runs), "methods", tuple(steps), slip, named={"left": " and ".join(left) or "none"})


def small_in_order(case: Case) -> Answer:
    counts = {
        "adapters": case.stored("adapters", placement="houlsby", bottleneck=case["m"]),
        "lora": case.stored("lora", r=case["r"]),
        "prefix": case.stored("prefix", num_virtual_tokens=case["n"]),
        "prompt": case.stored("prompt", num_virtual_tokens=case["n"]),
    }
    ordered = sorted(SMALL_CANDIDATES, key=counts.__getitem__)
    return figure(
        0, "", order="; ".join(f"{get_method(slug).title} {counts[slug]:,}" for slug in ordered[1:])
    )


def vocabulary(case: Case) -> Answer:
    """Return the parameters that new tokens add to embedding and output layer."""
    shape, new = case.shape, case["new"]
    ends = [
        group for group in shape.groups if not group.layers and group.each
    ]  # a tied one holds nothing itself
    sides = sum(shape.vocab in group.parameters.get("weight", ()) for group in ends)
    value = new * shape.hidden * sides
    return result(
        value, "parameters", [rf"{product(new, shape.hidden)} \cdot {sides} = {tex(value)}"],
        (new * shape.hidden * (3 - sides), "to check whether the output layer is tied to the embedding"),
        ((shape.vocab + new) * shape.hidden * sides, "that the question is about the new rows only"),
        (new * sides, "that a token is a whole row"),
        named={
            "sides": "embedding and output layer" if sides > 1 else "the embedding, which is also the output layer"
        },
        wholes=beside(case),
    )  # fmt: skip
