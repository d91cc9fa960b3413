"""What the source text says about memory. Steps are simulated; bytes of weights and states follow from the count."""

from __future__ import annotations

from functools import partial
from typing import Any

from peft_lab.advise.words import PUBLISHED
from peft_lab.core import references as src
from peft_lab.core import units
from peft_lab.core.units import Source
from peft_lab.engine import fits, published
from peft_lab.engine.published import MODEL
from peft_lab.engine.request import Simulation
from peft_lab.interview.calculations.memory import MIXED
from peft_lab.interview.claims.base import ABOUT, Claim, Found, Subject, about, both, holds
from peft_lab.interview.claims.figures import BATCH, FEWEST, SEQ, accuracy, published_row, share, simulated
from peft_lab.interview.question import causal, separate_attention, takes
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.models.shapes import ModelShape

sim = partial(
    Claim, source=Source.SIMULATED, needs="torch", how="the real training step on tensors without data"
)
HALF = 2  # bytes
PURE = 4 * HALF  # weights, gradients and two moments, all in 16 bits
STATED_FULL, STATED_PEFT = 112e9, 16e9
MINIMAL = 0.5  # of LoRA's memory at most, to be called so
STEP = f"{BATCH} rows of {SEQ} tokens"  # where a claim says nothing


def _full(model: Subject) -> Found:
    total = model.shape.total
    mixed, pure = total * MIXED, total * PURE
    step = simulated(model.name, "full", batch=FEWEST)
    matches_mixed, matches_pure = (about(value, STATED_FULL) == "right" for value in (mixed, pure))
    return Found(
        both(matches_mixed or matches_pure, matches_pure),
        f"{units.size(mixed)} of states in mixed precision with Adam, {units.size(pure)} all in 16 bits; a simulated "
        f"step in 16 bits with one row of {SEQ} tokens needs {units.size(fits.needed(step))}",
        f"{MIXED} bytes a parameter is mixed precision: weight, gradient, full-precision copy and two moments. In pure "
        f"half precision it is {PURE}. What comes on top at the step's peak is {_on_top(step)}.",
        {"mixed": mixed, "pure": pure, "step": fits.needed(step)},
    )


def _on_top(step: Simulation) -> str:
    """The largest part of a peak that is none of the states."""
    parts = {
        name: size for name, size in step.parts.items() if name in ("activations", "logits", "temporary")
    }
    largest = max(parts, key=parts.__getitem__)
    names = {
        "activations": "activations",
        "logits": "logits and loss",
        "temporary": "what the optimizer needs meanwhile",
    }
    return f"above all {names[largest]}, {units.size(parts[largest])}"


def _under(model: Subject) -> Found:
    lora = fits.needed(simulated(model.name, "lora", batch=FEWEST, checkpointing=True))
    qlora = fits.needed(simulated(model.name, "qlora", batch=FEWEST, checkpointing=True))
    return Found(
        both(qlora < STATED_PEFT, lora < STATED_PEFT),
        f"a checkpointed step with one row of {SEQ} tokens needs {units.size(lora)} with LoRA and "
        f"{units.size(qlora)} with QLoRA",
        "The frozen weights stay in memory whatever is trained: PEFT saves gradients and optimizer states, and "
        "a 4-bit "
        "base saves weights.",
        {"lora": lora, "qlora": qlora},
    )


def _prompt_minimal(model: Subject) -> Found:
    """The text's table goes from very high to very low: less than all others is what minimal means there."""
    names = tuple(get_method("lora").defaults(model.shape)["target_modules"])
    same: dict[str, dict[str, Any]] = {"qlora": {"target_modules": names}}
    slugs = ["full", "lora", "qlora", "prompt"]
    needs = {
        slug: fits.needed(simulated(model.name, slug, same.get(slug)))
        for slug in slugs
        if takes(slug, model.shape)
    }
    least = min(needs, key=needs.__getitem__)
    rows = [published_row(PUBLISHED[slug]) for slug in ("prompt", "lora")]
    tokens, rank = (rows[0].config or {})["num_virtual_tokens"], (rows[1].config or {})["r"]
    each = sorted(needs, key=lambda slug: slug == "qlora")  # last: what is said of its maps follows
    titles = {slug: get_method(slug).title for slug in each} | {"full": "full fine-tuning"}
    said = ", ".join(f"{units.size(needs[slug])} with {titles[slug]}" for slug in each)
    return Found(
        "right"
        if least == "prompt"
        else "imprecise"
        if needs["prompt"] < MINIMAL * needs["lora"]
        else "wrong",
        f"a step of {STEP} needs {said}, on the maps that LoRA adapts too; the least is {get_method(least).title}'s",
        "Few trained parameters do not mean little memory: weights and activations stay as they are, and the virtual "
        "tokens lengthen every row. Against LoRA it saves LoRA's own activations, which is little.",
        {slug: float(size) for slug, size in needs.items()},
        f"Published peaks on {get_model(MODEL).title}: {units.size(rows[0].reserved)} with {tokens} virtual "
        f"tokens and {units.size(rows[1].reserved)} with LoRA of rank {rank}",
    )


def _comparable(model: Subject) -> Found:
    """Both at once: the setting that scored best of those with adapters on linear maps, in a step on a 7B model."""
    rows = [row for row in published.rows().values() if row.config is not None]
    near = [row for row in rows if 100 * row.accuracy >= accuracy("full")]
    best = max(
        (row for row in near if row.config and row.config["peft_type"] == "LORA"),
        key=lambda row: row.accuracy,
        default=None,
    )
    if best is None:
        return Found(
            "wrong", f"{len(near)} published runs were as good as full fine-tuning", "None was.", {"near": 0}
        )
    config = best.config or {}
    values = {"r": config["r"], "lora_alpha": config["lora_alpha"], "use_rslora": config["use_rslora"]}
    lora, qlora = (
        fits.needed(simulated(model.name, slug, own, batch=FEWEST, checkpointing=True))
        for slug, own in (("lora", values), ("qlora", {"r": config["r"]}))
    )
    return Found(
        both(lora <= STATED_PEFT or qlora <= STATED_PEFT, lora <= STATED_PEFT),
        f"with the rank of the published LoRA that scored best, {config['r']}, a checkpointed step with one row of "
        f"{SEQ} tokens needs {units.size(lora)} on a base in 16 bits and {units.size(qlora)} in 4 bits",
        "One row at a time with its gradients added up learns what the whole batch learns, so the score is not the "
        "price of the memory; time is. That the score is reached is shown by one task, with one seed each: mathematics "
        "in thousands of rows. With far more to learn full fine-tuning pulls ahead.",
        {"near": len(near), "lora": lora, "qlora": qlora},
        f"{len(near)} of {len(rows)} published runs on {get_model(MODEL).title} were at least as good as full "
        f"fine-tuning ({share(accuracy('full'))} right answers); that LoRA had {share(100 * best.accuracy)}",
    )


def _qlora_very_low(model: Subject) -> Found:
    """LoRA's own targets for both, so that the base alone differs."""
    names = tuple(get_method("lora").defaults(model.shape)["target_modules"])
    full, lora = (fits.needed(simulated(model.name, slug)) for slug in ("full", "lora"))
    qlora = fits.needed(simulated(model.name, "qlora", {"target_modules": names}))
    return Found(
        both(qlora < lora, qlora < MINIMAL * lora),
        f"a step of {STEP} needs {units.size(qlora)} with QLoRA, {units.size(lora)} with LoRA on the same maps and "
        f"{units.size(full)} with full fine-tuning",
        "Four bits save three quarters of the frozen weights' memory, and nothing of activations and logits. "
        "Where weights are most of the step, as on large models with few tokens, that is most of its memory.",
        {"qlora": qlora, "lora": lora, "full": full},
    )


def _fewer_is_less(model: Subject) -> Found:
    slugs = [slug for slug in ("lora", "ia3", "prompt") if takes(slug, model.shape)]
    peaks = {slug: fits.needed(simulated(model.name, slug)) for slug in slugs}
    trained = {slug: model.trained(slug) for slug in slugs}
    titles = [
        f"{get_method(slug).title} trains {units.count(trained[slug])} and needs {units.size(peaks[slug])}"
        for slug in sorted(slugs, key=trained.__getitem__)
    ]
    by_count, by_peak = (sorted(slugs, key=order.__getitem__) for order in (trained, peaks))
    return Found(
        holds(by_count == by_peak),
        f"in a step of {STEP} " + "; ".join(titles),
        "The peak is weights and activations. Fewer trained parameters only shrink gradients and optimizer states, "
        "which are small already.",
        {f"{slug}_peak": peaks[slug] for slug in slugs},
    )


def _checkpointing(model: Subject) -> Found:
    plain, again = (
        fits.needed(simulated(model.name, "lora", checkpointing=checkpointing))
        for checkpointing in (False, True)
    )
    ratio = again / plain
    return Found(
        "right" if abs(ratio - 0.5) <= 0.5 * ABOUT else "imprecise",
        f"the peak of a LoRA step of {STEP} falls from {units.size(plain)} to {units.size(again)}, to "
        f"{share(100 * ratio)}",
        "It removes most activations and nothing else; how much that saves depends on batch size, row length "
        "and model.",
        {"ratio": ratio},
    )


def _optimizer(model: Subject) -> Found:
    step = simulated(model.name, "lora")
    part = step.parts["optimizer"] / step.peak_bytes
    largest = max(step.parts, key=step.parts.__getitem__)
    return Found(
        holds(largest == "optimizer"),
        f"with {STEP} optimizer states are {share(100 * part)} of a LoRA step's peak; the largest part is {largest} "
        f"with {share(100 * step.parts[largest] / step.peak_bytes)}",
        "Adam keeps two numbers for each trained parameter, and LoRA trains few. Weights and activations remain.",
        {"optimizer_share": part},
    )


def _quantisable(shape: ModelShape) -> bool:
    return separate_attention(shape) and causal(shape)


def _with_prompt(shape: ModelShape) -> bool:
    return takes("prompt", shape) and takes("lora", shape)


CLAIMS = (
    sim(
        id="memory-full-7b", topic="memory", check=_full, model="llama-2-7b",
        claim="Full fine-tuning of a 7B model takes about 112 GB in fp16.",
        quote="Full fine-tuning a 7B parameter model requires ~112 GB of GPU memory (in fp16).",
        how="bytes per parameter times the count, beside a simulated step",
    ),
    sim(
        id="memory-under-16", topic="memory", check=_under, model="llama-2-7b", fits=_quantisable,
        claim="PEFT brings a 7B model under 16 GB.", quote="PEFT methods can reduce this to under 16 GB",
    ),
    sim(
        id="comparable-performance", topic="choosing", check=_comparable, model="llama-2-7b", fits=_quantisable,
        how=f"simulated training steps, beside {src.BENCH}",
        claim="Under 16 GB, PEFT performs like full fine-tuning.",
        quote="PEFT methods can reduce this to under 16 GB while achieving comparable performance.",
    ),
    sim(
        id="qlora-very-low", topic="qlora", check=_qlora_very_low, fits=_quantisable,
        claim="QLoRA needs very little GPU memory.", quote="PEFT (QLoRA) | 0.1–1% | Very low | Near-baseline",
    ),
    sim(
        id="prompt-minimal-memory", topic="prompt", check=_prompt_minimal, fits=_with_prompt,
        claim="Prompt Tuning takes minimal GPU memory.", quote="Prompt Tuning | <0.01% | Minimal",
        how=f"simulated training steps, beside {src.BENCH}",
    ),
    sim(
        id="fewer-is-less-memory", topic="memory", check=_fewer_is_less, origin="saying", model="llama-3.2-3b",
        claim="Fewer trained parameters mean less peak memory.",
        quote="The fewer parameters you train, the less memory you need.", fits=_with_prompt,
    ),
    sim(
        id="checkpointing-halves", topic="memory", check=_checkpointing, origin="saying",
        claim="Gradient checkpointing halves the memory.", quote="Turn on checkpointing and the memory halves.",
    ),
    sim(
        id="lora-optimizer", topic="memory", check=_optimizer, origin="saying",
        claim="With LoRA the optimizer states are what takes the memory.",
        quote="It is Adam's states that fill the card.",
    ),
)  # fmt: skip
