"""Figures of the published comparison (MetaMathQA, Llama-3.2-3B), for texts."""

from __future__ import annotations

from peft_lab import units
from peft_lab.published.rows import rows


def right(variant: str) -> str:
    """Right answers as a share.

    >>> right("prompt_tuning-default"), right("lora-rank32")
    ('5.7%', '47.8%')
    """
    return f"{rows()[_name(variant)].accuracy:.1%}"


def slower(variant: str, other: str) -> str:
    """How much longer a step took than the other's, as a share of that.

    >>> slower("lora-rank32-dora", "lora-rank32")
    '20.7%'
    """
    one, two = (rows()[_name(name)].step_seconds for name in (variant, other))
    return units.percent(100 * (one / two - 1))


def reserved(variant: str) -> str:
    """The most that the allocator held."""
    return units.size(rows()[_name(variant)].reserved)


def _name(variant: str) -> str:
    kind, _, rest = variant.partition("-")
    return f"{kind}--llama-3.2-3B-{rest}"
