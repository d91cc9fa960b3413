"""What a sentence has to say, whatever its words: the names, numbers and values in it, in any order."""

from __future__ import annotations

import re


def facts(*named: object) -> str:
    """Return a pattern for ``pytest.raises(match=...)``: texts with every one of ``named``, integers with commas."""
    return r"(?is)\A" + "".join(rf"(?=.*{_whole(_shown(name))})" for name in named if name != "")


def says(text: object, *named: object) -> bool:
    """Return whether a text has every one of ``named`` in it, as whole words and numbers, in any case."""
    return re.search(facts(*named), str(text)) is not None


def _shown(name: object) -> str:
    return f"{name:,}" if isinstance(name, int) else str(name)


def _whole(name: str) -> str:
    before = r"(?<!\w)(?<!\d[.,])" if name[0].isalnum() else ""
    after = r"(?!\w)(?![.,]\d)" if name[-1].isalnum() else ""
    return before + re.escape(name) + after
