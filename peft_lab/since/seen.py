"""What the experiments behind discoveries showed when they were last run for the lab: ``seen.json``.

``python -m tools.see_since`` writes it. A page says it beside the experiment, so that a finding which does not show at
this size is told as such before anybody spends a minute on it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("seen.json")


@dataclass(frozen=True)
class Seen:
    """The conclusion of one experiment.

    Attributes:
        text: as :func:`peft_lab.experiments.results.conclude` writes it. holds: whether it came out as expected.
        date, machine, packages: when, where and with which libraries.
    """

    text: str
    holds: bool | None
    date: str
    machine: str
    packages: dict[str, str]


@cache
def seen() -> dict[str, Seen]:
    """By the experiment's id."""
    kept: dict[str, Any] = json.loads(PATH.read_text("utf-8"))
    return {name: Seen(**found) for name, found in kept.items()}
