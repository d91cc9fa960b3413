"""What the source text says about large models on one graphics card, or on several."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from peft_lab.advise.room import room_of
from peft_lab.advise.situation import Situation
from peft_lab.core import references as src
from peft_lab.core import units
from peft_lab.core.units import Source
from peft_lab.engine import fits
from peft_lab.engine.devices import devices
from peft_lab.interview.claims.base import Claim, Found, Subject, holds
from peft_lab.interview.claims.figures import FEWEST, SEQ, simulated
from peft_lab.interview.question import causal, separate_attention
from peft_lab.models.shapes import ModelShape

sim = partial(
    Claim, source=Source.SIMULATED, needs="torch", how="the real training step on tensors without data"
)
LONG = 1024
RANK_70B = 64
CONSUMER = "GeForce"
HOME, SEVERAL = "rtx-4090", 2  # what a 70B model was fine-tuned on at home, in 2024
#: Touvron et al. 2023, LLaMA, arXiv:2302.13971, and the config that was published with it.
LLAMA_30B = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 6656, "intermediate_size": 17920,
    "num_hidden_layers": 60, "num_attention_heads": 52, "vocab_size": 32000, "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}  # fmt: skip


def _seventy(model: Subject) -> Found:
    names = [model.shape.target_name(model.shape.block[role]) for role in ("q", "k", "v", "o")]
    needs = fits.needed(
        simulated(
            model.name,
            "qlora",
            {"r": RANK_70B, "target_modules": tuple(names)},
            FEWEST,
            LONG,
            checkpointing=True,
        )
    )
    holding = [device for device in devices().values() if device.kind == "cuda" and device.memory >= needs]
    where = (
        f"fits on {len(holding)} of the GPUs listed here, from {holding[0].title}"
        if holding
        else "fits on none"
    )
    return Found(
        holds(bool(holding)),
        f"the snippet's own setting needs {units.size(needs)} for one row of {LONG:,} tokens, checkpointed: {where}",
        "The weights in 4 bits are most of it; activations of one row add little when they are computed again.",
        {"needed": needs},
    )


def _consumer(model: Subject) -> Found:
    needs = fits.needed(simulated(model.name, "qlora", batch=FEWEST, checkpointing=True))
    total, least = _llama_30b()
    cards = [device for device in devices().values() if device.title.startswith(CONSUMER)]
    largest = max(cards, key=lambda device: device.memory)
    one = [size <= largest.memory for size in (least, needs)]
    home = devices()[HOME]
    there = Situation(model=model.name, device=HOME, devices=SEVERAL, batch=SEVERAL, seq=SEQ)
    step = room_of(there).smallest("qlora", {})
    split = (
        f"split over {SEVERAL} of {home.title} it needs {units.size(step.needed)} of "
        f"{units.size(home.memory)} on each{_in_main(step.host * SEVERAL)}"
        if step is not None
        else f"it does not fit {SEVERAL} of {home.title} either"
    )
    return Found(
        "right" if all(one) else "imprecise" if one[0] or step is not None else "wrong",
        f"for one row of {SEQ} tokens QLoRA needs {units.size(least)} on the first LLaMA of "
        f"{units.short_count(total)} parameters and {units.size(needs)} on {model.shape.title}; {largest.holding}, the "
        f"largest consumer card listed here, has {units.size(largest.memory)} usable; {split}",
        "The 4-bit weights decide how far one card goes. Beyond that several share them (FSDP): each holds its part "
        "and fetches the other layers while they compute. How many cards is what the saying leaves out.",
        {
            "needed": needs,
            "smaller": least,
            "card": largest.memory,
            "split": float(step.needed if step else 0),
        },
        f"On two such cards it has been done: {src.FSDP_QLORA}",
    )


def _in_main(host: int) -> str:
    return f", and {units.size(host)} of main memory" if host else ""


def _llama_30b() -> tuple[int, int]:
    """Parameters of the model at the lower end of what the text says, and what its smallest QLoRA step needs."""
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(LLAMA_30B), "utf-8")
        step = simulated(folder, "qlora", batch=FEWEST, checkpointing=True)
        return Subject(folder).shape.total, fits.needed(step)


def _quantisable(shape: ModelShape) -> bool:
    return separate_attention(shape) and causal(shape)


CLAIMS = (
    sim(
        id="qlora-70b", topic="qlora", check=_seventy, model="llama-3.1-70b", fits=_quantisable,
        claim="QLoRA makes fine-tuning 70B models feasible on a single GPU.",
        quote="makes fine-tuning 70B models feasible on a single GPU",
    ),
    sim(
        id="qlora-consumer", topic="qlora", check=_consumer, model="llama-3.1-70b", fits=_quantisable,
        claim="QLoRA fine-tunes models of 30B to 70B and more on consumer GPUs.",
        quote="Fine-tuning very large models (30B–70B+) on consumer GPUs.",
    ),
)  # fmt: skip
