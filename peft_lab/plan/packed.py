"""Packing in a plan: for whom, and what it comes to; the packing itself is :mod:`peft_lab.training.packing`."""

from __future__ import annotations

from collections.abc import Sequence

from peft_lab import units
from peft_lab.errors import BadInput
from peft_lab.models.catalogue import ModelEntry
from peft_lab.plan.facts import WRITTEN
from peft_lab.training.packing import TYPES, fill


def rows_of(tokens: Sequence[int], seq: int) -> int:
    """Rows of ``seq`` tokens that rows with so many ``tokens`` fill; longer ones are cut.

    >>> rows_of([300, 200, 100, 900], seq=512)
    3
    """
    return len(fill([min(length, seq) for length in tokens], seq))


def why_not(entry: ModelEntry, objective: str) -> str:
    """Why rows are not packed for this model and objective; empty where they are."""
    kind = entry.config.get("text_config", entry.config).get("model_type", "")
    if entry.kind != "causal-lm" or objective not in WRITTEN:
        return "Only decoders that learn the next token have packed rows here: leave packing out."
    if kind not in TYPES:
        return (
            f"Packed rows were not compared with rows apart for models of type '{kind}': leave packing out, or choose "
            f"one of {', '.join(TYPES)}."
        )
    return ""


def check(entry: ModelEntry, objective: str, packed: int, rows: int, row_tokens: int, seq: int) -> None:
    """Raises BadInput for rows that are not packed, or not into so many."""
    if reason := why_not(entry, objective):
        raise BadInput(reason, "packed")
    if packed > rows or (row_tokens - 0.5) * rows > packed * seq:
        every = f"{units.several(rows, 'row')} of {units.several(row_tokens, 'token')}"
        filled = f"{units.several(packed, 'row')} of {seq:,}"
        raise BadInput(
            f"{every} on average do not fill {filled}: give their lengths again.",
            "packed",
        )
