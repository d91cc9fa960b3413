"""Right answers of Prompt Tuning in the published comparison, for texts."""

from __future__ import annotations

from peft_lab.published.rows import rows


def right(variant: str) -> str:
    """As a share, such as '5.7%'.

    >>> right("default")
    '5.7%'
    """
    return f"{rows()[f'prompt_tuning--llama-3.2-3B-{variant}'].accuracy:.1%}"
