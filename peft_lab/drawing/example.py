"""The text in the drawing's token strip."""

from __future__ import annotations

import re

MOST = 12  # words that are handed to the strip, which shows as many as fit
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def strip_of(text: str) -> tuple[str, ...]:
    """The first words and marks of an example, one a cell. Real tokenizers often cut words further."""
    return tuple(_WORD.findall(text)[:MOST])
