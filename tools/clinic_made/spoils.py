"""What knows how each fault is made: from a healthy setup and a source of chance, the run that went wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tools.clinic_made.runs import Ran
from tools.clinic_made.setup import ENCODER, TINY, Setup

Spoil = Callable[[Setup, random.Random, Path], Ran]
SPOILS: dict[str, Spoil] = {}
#: Which model a fault needs; the others happen on both.
NEEDS = {"head-not-saved": ENCODER, "vocabulary-not-saved": ENCODER,
         "pad-is-eos": TINY, "prompt-not-masked": TINY, "all-masked": TINY,
         "accumulation-not-averaged": TINY, "checkpointing-no-grad": TINY, "right-padding": TINY,
         "tied-head-merged": TINY, "merged-into-4-bit": TINY}  # fmt: skip


def spoil(fault: str) -> Callable[[Spoil], Spoil]:
    def register(function: Spoil) -> Spoil:
        SPOILS[fault] = function
        return function

    return register
