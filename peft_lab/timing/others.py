"""Step times that others published, each with its settings and its place: what an estimate for other GPUs is held to.

``others.jsonl``: ``seconds`` are those of ``steps`` steps. Nothing is fitted to them.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

FILE = "others.jsonl"


@cache
def others() -> tuple[dict[str, Any], ...]:
    """All figures."""
    text = (resources.files(__package__) / FILE).read_text("utf-8")
    return tuple(json.loads(line) for line in text.splitlines())
