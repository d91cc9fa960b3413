"""Check claims by simulating training steps: the memory they take, and what fits a device."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peft_lab.advise.recommend import decide
from peft_lab.advise.room import room_of
from peft_lab.advise.situation import Situation
from peft_lab.advise.words import PUBLISHED
from peft_lab.engine import published, simulate
from peft_lab.engine.devices import devices
from peft_lab.engine.published import MODEL
from peft_lab.engine.request import Simulation, StepRequest, StepSetting
from peft_lab.engine.simulate import simulate as simulate_step
from peft_lab.interview.claims.comparing import accuracy
from peft_lab.interview.claims.verdicts import Checked, ClaimModel, about, both, holds
from peft_lab.interview.computed import MIXED
from peft_lab.interview.question import takes
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model, resolve

BATCH, SEQ, LONG = 4, 512, 1024  # of the steps, where a claim says nothing; of the snippet's
FEWEST = 1  # rows
HALF = 2  # bytes
PURE = 4 * HALF  # weights, gradients and two moments, all in 16 bits
STATED_FULL, STATED_PEFT = 112e9, 16e9
MINIMAL = 0.5  # of LoRA's memory at most, to be called so


def simulated(
    model: str, method: str, values: dict[str, Any] | None = None, batch: int = BATCH, seq: int = SEQ,
    checkpointing: bool = False,
) -> Simulation:  # fmt: skip
    """Simulate a training step in bfloat16 with AdamW. Imports torch; each is run once per process. Raises BadInput,
    SimulationError: as :func:`peft_lab.engine.simulate.simulate`."""
    return _simulated(
        StepRequest(model, method, values or {}, StepSetting(batch, seq), checkpointing=checkpointing)
    )


_simulated = lru_cache(maxsize=128)(simulate_step)


def needs(
    model: str, method: str, values: dict[str, Any] | None = None, batch: int = BATCH, **other: Any
) -> int:
    """Return the bytes that such a step needs."""
    return simulate.needed_bytes(simulated(model, method, values, batch, **other))


# ----------------------------------------
# What a step needs.


STEP = {"batch": BATCH, "seq": SEQ}


def memory_full_7b(model: ClaimModel) -> Checked:
    total = model.shape.total
    mixed, pure = total * MIXED, total * PURE
    step = simulated(model.name, "full", batch=FEWEST)
    matches_mixed, matches_pure = (about(value, STATED_FULL) == "right" for value in (mixed, pure))
    parts = {name: step.parts[name] for name in ("activations", "logits", "temporary") if name in step.parts}
    largest = max(parts, key=parts.__getitem__)  # none of the states
    names = {"logits": "logits and loss", "temporary": "what the optimizer needs meanwhile"}
    return Checked(
        both(matches_mixed or matches_pure, matches_pure),
        {"mixed": mixed, "pure": pure, "step": simulate.needed_bytes(step)},
        {
            "seq": SEQ,
            "mixed_bytes": MIXED,
            "pure_bytes": PURE,
            "on_top": names.get(largest, largest),
            "on_top_size": parts[largest],
        },
    )


def prompt_minimal_memory(model: ClaimModel) -> Checked:
    """Compare four methods' memory. The text ranks it from very high to very low, so minimal means least of all."""
    same = {"qlora": {"target_modules": tuple(get_method("lora").defaults(model.shape)["target_modules"])}}
    slugs = [slug for slug in ("full", "lora", "qlora", "prompt") if takes(slug, model.shape)]
    needed = {slug: needs(model.name, slug, same.get(slug)) for slug in slugs}
    least = min(needed, key=needed.__getitem__)
    prompt, lora = (published.rows()[PUBLISHED[slug]] for slug in ("prompt", "lora"))
    ordered = sorted(needed, key=lambda slug: slug == "qlora")  # last: what is said of its maps follows
    titles = {slug: get_method(slug).title for slug in ordered} | {"full": "full fine-tuning"}
    return Checked(
        "right"
        if least == "prompt"
        else "imprecise"
        if needed["prompt"] < MINIMAL * needed["lora"]
        else "wrong",
        {slug: float(size) for slug, size in needed.items()},
        {
            **STEP,
            "needs": [(titles[slug], needed[slug]) for slug in ordered],
            "least": get_method(least).title,
            "published_on": get_model(MODEL).title,
            "prompt_reserved": prompt.reserved,
            "tokens": (prompt.config or {})["num_virtual_tokens"],
            "lora_reserved": lora.reserved,
            "rank": (lora.config or {})["r"],
        },
    )


def comparable_performance(model: ClaimModel) -> Checked:
    """Check both parts at once: take the best-scoring LoRA, and simulate its step and QLoRA's on a 7B model."""
    rows = [row for row in published.rows().values() if row.config is not None]
    near = [row for row in rows if 100 * row.accuracy >= accuracy("full")]
    loras = [row for row in near if row.config and row.config["peft_type"] == "LORA"]
    best = max(loras, key=lambda row: row.accuracy, default=None)
    if best is None:
        return Checked("wrong", {"near": 0}, {"runs": len(near)}, "none")
    config = best.config or {}
    values = {"r": config["r"], "lora_alpha": config["lora_alpha"], "use_rslora": config["use_rslora"]}
    lora, qlora = (
        needs(model.name, slug, own, FEWEST, checkpointing=True)
        for slug, own in (("lora", values), ("qlora", {"r": config["r"]}))
    )
    return Checked(
        both(lora <= STATED_PEFT or qlora <= STATED_PEFT, lora <= STATED_PEFT),
        {"near": len(near), "lora": lora, "qlora": qlora},
        {
            "rank": config["r"],
            "seq": SEQ,
            "runs": len(rows),
            "published_on": get_model(MODEL).title,
            "full_right": accuracy("full"),
            "best_right": 100 * best.accuracy,
        },
    )


def fewer_is_less_memory(model: ClaimModel) -> Checked:
    slugs = [slug for slug in ("lora", "ia3", "prompt") if takes(slug, model.shape)]
    peaks = {slug: needs(model.name, slug) for slug in slugs}
    trained = {slug: model.trained(slug) for slug in slugs}
    by_count, by_peak = (sorted(slugs, key=order.__getitem__) for order in (trained, peaks))
    return Checked(
        holds(by_count == by_peak),
        {f"{slug}_peak": peaks[slug] for slug in slugs},
        STEP | {"steps": [(get_method(slug).title, trained[slug], peaks[slug]) for slug in by_count]},
    )


def lora_optimizer(model: ClaimModel) -> Checked:
    step = simulated(model.name, "lora")
    part = step.parts["optimizer"] / step.peak_bytes
    largest = max(step.parts, key=step.parts.__getitem__)
    return Checked(
        holds(largest == "optimizer"),
        {"optimizer_share": part},
        STEP
        | {
            "share": 100 * part,
            "largest": largest,
            "largest_share": 100 * step.parts[largest] / step.peak_bytes,
        },
    )


# ----------------------------------------
# Large models on one graphics card, or on several.


RANK_70B = 64
CONSUMER = "GeForce"
HOME, SEVERAL = "rtx-4090", 2  # what a 70B model was fine-tuned on at home, in 2024
#: Touvron et al. 2023, LLaMA, arXiv:2302.13971, and the config that was published with it.
LLAMA_30B = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 6656, "intermediate_size": 17920,
    "num_hidden_layers": 60, "num_attention_heads": 52, "vocab_size": 32000, "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}  # fmt: skip


def qlora_70b(model: ClaimModel) -> Checked:
    names = tuple(model.shape.target_name(model.shape.block[role]) for role in ("q", "k", "v", "o"))
    values = {"r": RANK_70B, "target_modules": names}
    needed = needs(model.name, "qlora", values, FEWEST, seq=LONG, checkpointing=True)
    holding = [device for device in devices().values() if device.kind == "cuda" and device.memory >= needed]
    return Checked(
        holds(bool(holding)),
        {"needed": needed},
        {"seq": LONG, "gpus": len(holding), "smallest": holding[0].title if holding else ""},
        "" if holding else "none",
    )


def qlora_consumer(model: ClaimModel) -> Checked:
    needed = needs(model.name, "qlora", None, FEWEST, checkpointing=True)
    total, least = _llama_30b()
    cards = [device for device in devices().values() if device.title.startswith(CONSUMER)]
    largest = max(cards, key=lambda device: device.memory)
    one = [size <= largest.memory for size in (least, needed)]
    home = devices()[HOME]
    there = Situation(model=model.name, device=HOME, devices=SEVERAL, batch=SEVERAL, seq=SEQ)
    step = room_of(there).smallest("qlora", {})
    host = step.host * SEVERAL if step else 0
    return Checked(
        "right" if all(one) else "imprecise" if one[0] or step is not None else "wrong",
        {
            "needed": needed,
            "smaller": least,
            "card": largest.memory,
            "split": float(step.needed if step else 0),
        },
        {
            "seq": SEQ,
            "smaller_total": total,
            "card_title": largest.holding,
            "several": SEVERAL,
            "home": home.title,
            "home_memory": home.memory,
            "host": host,
        },
        "not even split" if step is None else "with main memory" if host else "",
    )


def _llama_30b() -> tuple[int, int]:
    """Return parameters of the model at the lower end of what the text says, and what its smallest QLoRA step needs."""
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(LLAMA_30B), "utf-8")
        needed = needs(folder, "qlora", None, FEWEST, checkpointing=True)
        return resolve(folder).shape.total, needed


def qlora_by_size(model: ClaimModel) -> Checked:
    methods, advised, needed = [], [], {}
    for name, device in (("llama-3.1-8b", "rtx-3060"), ("llama-3.1-70b", "h200")):
        there = Situation(model=name, device=device)
        decided = decide(there, room_of(there))
        assert decided.step is not None
        methods.append(decided.advice.method)
        needed[name] = float(decided.step.needed)
        card = devices()[device].title.partition(",")[0]
        advised.append((get_model(name).title, card, decided.advice.title, there.hardware.memory))
    words = {
        f"{place}_{key}": value
        for place, row in zip(("first", "second"), advised, strict=True)
        for key, value in zip(("model", "card", "advice", "memory"), row, strict=True)
    }
    words |= {"first_needs": needed["llama-3.1-8b"], "second_needs": needed["llama-3.1-70b"]}
    return Checked("right" if methods == ["lora", "qlora"] else "imprecise", needed, words)
