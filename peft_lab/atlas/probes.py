"""What was found by asking PEFT: capabilities, what ΔW is, what a step needs. Written by ``tools/probe_atlas.py``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "probed.json"

#: What was asked, in the order in which it is shown: a short title, and what a yes means.
CAPABILITIES: dict[str, tuple[str, str]] = {
    "attaches": ("Attaches", "PEFT puts it on a small Llama with its usual settings, and something is trained."),
    "equal_at_start": ("Starts as the base", "Before any training the outputs are the base's."),
    "gradients": ("Gradient at step 0", "In the first step at least one trained parameter gets a gradient."),
    "saves": ("Saves and reloads", "Saved and loaded onto a fresh base, it gives the same outputs."),
    "merges": ("Merges (fp32)", "Folded into the weights in float32, the outputs stay the same."),
    "merges_bf16": ("Merges (bf16)", "The same in bfloat16, to within 5%."),
    "unmerges": ("Unmerges", "Merged and unmerged again, the outputs are what they were."),
    "disables": ("Can be switched off", "With the adapter disabled the outputs are the base's."),
    "several": ("Several at once", "A second adapter beside the first, and back again."),
    "mixed_batch": ("Mixed batch", "Rows of one batch each get their own adapter, or none."),
    "combines": ("Combines", "add_weighted_adapter of one adapter with weight 1 gives that adapter."),
    "generates": ("Generates", "generate() writes what the logits say."),
    "on_8bit": ("8-bit base", "A training step works on a base in 8 bits (bitsandbytes, CPU)."),
    "on_4bit": ("4-bit base", "A training step works on a base in 4 bits (bitsandbytes, CPU)."),
    "on_linear": ("Linear", "It adapts another linear map that is named."),
    "on_conv1d": ("Conv1D", "It adapts GPT-2's maps, which are stored the other way round."),
    "on_embedding": ("Embedding", "It adapts the embedding."),
    "on_experts": ("Experts", "It adapts the stacked experts of a mixture."),
    "with_ddp": ("DDP", "Two processes with half a batch each train what one with all of it does; DDP's defaults."),
    "exports": ("Exports", "Merged, saved and loaded by transformers without PEFT, it gives the same outputs."),
    "trains_causal": ("Trains a decoder", "In 20 steps on 32 tokens or fewer, SmolLM2's first 4 layers learn them."),
    "trains_encoder": ("Trains an encoder", "In 20 steps on two rows, MiniLM's loss falls, with its head frozen."),
    "trains_seq2seq": ("Trains a seq2seq", "In 20 steps on three rows, the loss of a tiny random T5 falls."),
}  # fmt: skip
#: Kinds of model that the last three are about, by what the command line calls them.
TRAINS = {"trains_causal": "causal-lm", "trains_encoder": "encoder", "trains_seq2seq": "seq2seq"}


@cache
def _kept() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return kept


def versions() -> dict[str, str]:
    """Of the libraries that were asked."""
    return dict(_kept()["versions"])


def found(name: str) -> dict[str, dict[str, Any]]:
    """Every answer about a type or variant, by question; empty for one that was not asked about."""
    return dict(_kept()["found"].get(name, {}))


def value(name: str, capability: str) -> bool | None:
    """Yes, no, or ``None``: could not be probed."""
    answer: bool | None = found(name).get(capability, {}).get("value")
    return answer


def why(name: str, capability: str) -> str:
    """Why not, or why it could not be probed; empty for a yes."""
    answer = found(name).get(capability)
    return str(answer.get("why", "")) if answer else "It has not been asked yet."


#: What others reported of the same, by type or variant and capability; each was read.
_REPORTS = {
    ("rslora", "combines"): "huggingface/peft issue 3761",
    ("dora", "combines"): "huggingface/peft issue 3761",
    ("kasa", "combines"): "huggingface/peft issue 3761",
    ("prompt_tuning", "generates"): "huggingface/peft issue 2123, which is closed",
}


def reported(name: str, capability: str) -> str:
    """Where the same was reported to PEFT, as a sentence; empty where nothing is known, or it works by now."""
    where = _REPORTS.get((name, capability))
    return f"Reported as {where}." if where and value(name, capability) is False else ""
