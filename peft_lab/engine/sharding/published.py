"""Memory of each device that others published of steps on several, with settings and place.

``published.jsonl``: ``published`` is a range in bytes, ``measure`` what was read off (``allocated`` or ``reserved`` of
PyTorch's allocator; ``driver``: all that the card held). Nothing is fitted to them.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

FILE = "published.jsonl"


@cache
def published() -> tuple[dict[str, Any], ...]:
    """All figures."""
    text = (resources.files(__package__) / FILE).read_text("utf-8")
    return tuple(json.loads(line) for line in text.splitlines())
