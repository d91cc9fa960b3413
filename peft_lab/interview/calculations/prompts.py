"""Prefix Tuning, Prompt Tuning and P-Tuning: what is stored and trained, and what virtual tokens take."""

from __future__ import annotations

from peft_lab.interview.computed import (
    HALF,
    Answer,
    Case,
    both,
    figure,
    result,
    share,
    tex,
)


def projected_share(case: Case) -> Answer:
    """Return the percent of model and prefix together that is trained when an MLP makes the prefix."""
    shape, n, width = case.shape, case["n"], case.shape.kv_width
    trained = case.trained("prefix", num_virtual_tokens=n, prefix_projection=True, encoder_hidden_size=width)
    kept = case.stored("prefix", num_virtual_tokens=n)
    value = 100 * trained / (shape.total + trained)
    if value < case["claimed"]:  # what is kept is less than what is trained
        verdict = "both of what is stored and of what is trained here"
    elif 100 * kept / (shape.total + kept) < case["claimed"]:
        verdict = "of what is stored, not of what is trained here"
    else:
        verdict = "neither of what is stored nor of what is trained here"
    steps = [rf"\frac{{{tex(trained)}}}{{{tex(shape.total)} + {tex(trained)}}} = {tex(value)}\,\%"]
    return result(
        value, "percent", steps,
        (100 * kept / (shape.total + kept), "the projection, which is trained as well"),
        (100 * trained / shape.total, "the adapter itself in the denominator"),
        named={"kept": share(kept, shape.total + kept), "verdict": verdict},
    )  # fmt: skip


def prefix_bytes(case: Case) -> Answer:
    return figure(2 * case.shape.num_layers * case.shape.kv_width * HALF * case["n"], "bytes")


def prompt_matching_tokens(case: Case) -> Answer:
    """Return the virtual tokens with as many parameters as LoRA on queries and values."""
    shape, r = case.shape, case["r"]
    lora = case.lora(r, "q", "v")
    value = lora / shape.hidden
    sums = [both(shape.block[role]) for role in ("q", "v")]
    steps = [
        rf"\text{{LoRA}}: {shape.num_layers} \cdot {r} \cdot ({tex(sums[0])} + {tex(sums[1])}) = {tex(lora)}",
        rf"{tex(lora)} / {tex(shape.hidden)} = {tex(value)}",
    ]
    return result(
        value, "tokens", steps,
        (value / shape.num_layers, "that LoRA is in every layer"),
        (
            shape.num_layers * r * 2 * sums[0] / shape.hidden,
            "grouped-query attention: values are narrower than queries here",
        ),
        tolerance=0.01,
    )  # fmt: skip
