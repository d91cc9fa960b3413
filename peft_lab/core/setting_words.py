"""Names and values of settings as text, and advice on what to try next for each setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_lab.core import units

NEXT: Mapping[str, str] = {
    "learning_rate": "Train a tenth of the steps at a third of it and at three times it, and keep the highest rate "
    "that trains without spikes.",
    "schedule": "A constant rate lets you stop or go on anywhere; a falling one ends lower.",
    "warmup": "Longer, if the loss jumps in the first steps.",
    "batch": "Halve it before you double it: rows of a step cost memory, and large batches hurt LoRA.",
    "group": "More where all answers of a group get the same reward: such a group teaches nothing.",
    "epochs": "Score held-out rows after each epoch and keep the best.",
    "steps": "Score held-out rows a few times on the way.",
    "r": "Double it if the loss stops falling before all rows were seen; halve it to store less.",
    "use_rslora": "Lower the rate with it: at a large rank its scale is larger.",
    "lora_alpha": "Leave it and tune the rate: both scale the same update.",
    "target_modules": "The feed-forward maps alone, if all linear maps are too many.",
    "lora_dropout": "None, if there are many rows; more, if held-out loss rises while training loss falls.",
    "loraplus_lr_ratio": "Without it, at the same rate, as the comparison.",
    "num_virtual_tokens": "Twice as many; past a hundred little is gained.",
    "bottleneck": "256 for large data, 8 for small.",
    "dtype": "float16 with loss scaling on cards without bfloat16.",
    "optimizer": "An 8-bit optimizer, if its states are what does not fit.",
    "checkpointing": "Switch it on before the batch becomes smaller than one row a device.",
    "packing": "Compare the loss with and without it: rows must not see each other.",
}

_LABELS = {
    "group": "answers to a prompt",
    "warmup": "warm-up, share of the steps",
    "batch": "rows of a step",
    "dtype": "precision",
}


def label(name: str) -> str:
    """Return the name of a setting for a table."""
    return _LABELS.get(name, name.replace("_", " "))


def told_rows(rows: int, group: int) -> str:
    """Return the number of rows of the data, with the answers to each that are trained on.

    >>> told_rows(1000, 1), told_rows(1000, 64)
    ('1,000 rows', '1,000 rows with 64 answers to each')
    """
    return units.several(rows, "row") + (f" with {group:,} answers to each" if group > 1 else "")


def written_figure(value: Any) -> str:
    """Return a value as text for a sentence.

    >>> written_figure(0.0002), written_figure(16), written_figure(True), written_figure(("q_proj", "v_proj"))
    ('2e-4', '16', 'yes', 'q_proj, v_proj')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return _number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def band(limits: tuple[float, float] | None) -> str:
    """Return a range as text for a table cell; empty without a range.

    >>> band((5e-05, 5e-4)), band((8, 8)), band(None)
    ('5e-5 to 5e-4', '8', '')
    """
    if limits is None:
        return ""
    low, high = limits
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    """Return a number as papers write learning rates: 2e-4, not 0.0002."""
    if not 0 < abs(value) < 1e-2:
        return f"{value:g}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"
