"""How large things are drawn: text widths, labels broken into lines, matrix sides and strip thicknesses.

All lengths are SVG user units; at its natural width one unit is one CSS pixel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

# Widths of a character in em: those of Source Code Pro, and on the safe side of Source Sans, which Streamlit ships.
MONO, SANS = 0.605, 0.56
LINE = 1.18
ELLIPSIS = "…"
# Sides grow with the cube root of the real size: 1/8 and 8 times the hidden size both stay readable and distinct.
EXPONENT = 1 / 3


def text_width(text: str, size: float, mono: bool = True) -> float:
    return len(text) * size * (MONO if mono else SANS)


def shorten(text: str, room: float, size: float, mono: bool = True) -> str:
    """``text``, or its beginning and an ellipsis, so that it is at most ``room`` wide."""
    if text_width(text, size, mono) <= room:
        return text
    keep = max(1, int(room / (size * (MONO if mono else SANS))) - 1)
    return text[:keep].rstrip("_. ") + ELLIPSIS


def break_name(name: str, room: float, size: float) -> tuple[str, ...]:
    """A module name in as few lines as fit into ``room``, broken after underscores and after or before dots."""
    after, before = (
        _fill(re.findall(pieces, name), room, size)
        for pieces in (r"[^._]*[._]|[^._]+", r"\.?[^._]*_|\.?[^._]+")
    )
    whole = [lines for lines in (after, before) if all(text_width(line, size) <= room for line in lines)]
    best = min(whole, key=len) if whole else after
    return tuple(shorten(line, room, size) for line in best)


def _fill(pieces: Iterable[str], room: float, size: float) -> list[str]:
    lines: list[str] = []
    for piece in pieces:
        if lines and text_width(lines[-1] + piece, size) <= room:
            lines[-1] += piece
        else:
            lines.append(piece)
    return lines


def side(real: int, hidden: int, base: float, low: float, high: float) -> float:
    """Drawn side of a matrix: ``base`` for the hidden size, compressed, and clamped to [low, high] times ``base``."""
    return base * min(max((real / hidden) ** EXPONENT, low), high)


def thickness(rank: int, full: int, most: float) -> float:
    """Drawn thickness of a strip of ``rank`` beside a matrix of rank up to ``full``: logarithmic, never invisible."""
    share = min(1.0, math.log1p(rank) / math.log1p(max(full, 1)))
    return 2 + (most - 2) * share
