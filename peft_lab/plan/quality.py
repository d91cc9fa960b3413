"""What is known of how good a plan's training gets: from published trainings alone."""

from __future__ import annotations

from dataclasses import dataclass

from peft_lab import published, units
from peft_lab.choose.words import PUBLISHED
from peft_lab.plan.wanted import Wanted


@dataclass(frozen=True)
class Quality:
    """What is known of how good it gets. ``accuracy`` is ``None`` where nothing is."""

    accuracy: float | None
    text: str
    source: str = ""


UNKNOWN = Quality(None, "")


def quality(wanted: Wanted, method: str) -> Quality:
    """From published trainings of the same model for the same kind of task; nothing is carried over to others."""
    same = wanted.model == published.MODEL and wanted.situation().purpose == "sft"
    if not same or method not in PUBLISHED:
        return Quality(
            None, "Unknown: no training of this model with this method that we know was published."
        )
    row = published.rows()[PUBLISHED[method]]
    return Quality(
        row.accuracy, f"{units.percent(100 * row.accuracy)} right on MetaMathQA's test", published.SOURCE
    )
