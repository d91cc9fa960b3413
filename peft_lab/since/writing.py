"""Figures for the sentences of discoveries: of a published row, or as a paper prints them."""

from __future__ import annotations

from collections.abc import Callable

from peft_lab import units
from peft_lab.published.rows import literature, rows


def right(experiment: str) -> Callable[[], str]:
    """Share of right answers of a published row.

    >>> right("lora--llama-3.2-3B-rank32")()
    '47.8%'
    """
    return lambda: f"{rows()[experiment].accuracy:.1%}"


def trained(experiment: str) -> Callable[[], str]:
    """Trained parameters of a published row, in short."""
    return lambda: units.short_count(rows()[experiment].trainable)


def printed(name: str) -> Callable[[], str]:
    """A figure of a paper, without its unit.

    >>> printed("tiny-parameters")()
    '13'
    """
    return lambda: f"{literature()[name].value:,g}"
