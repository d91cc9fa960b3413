"""Labels that look alike and are not the same: to a model they are two classes, to a reader one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from itertools import takewhile

# Shown as nothing, though not of the category "format": joiners and fillers of some scripts, and variation selectors.
_UNSEEN = {"\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u3164", "\uffa0"}
_NAMED = 3  # how many characters are spelt out


def _unseen(char: str) -> bool:
    code = ord(char)
    selects = 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF
    return char in _UNSEEN or selects or unicodedata.category(char) == "Cf"


def is_blank(text: str) -> bool:
    """Whether nothing of it can be seen."""
    return not text.strip() or (not text.isascii() and all(_unseen(char) or char.isspace() for char in text))


def looks(text: str) -> str:
    """What a reader sees: one form of accents, every space the same, nothing that does not show."""
    if text.isascii():
        return " ".join(text.split())
    shown = "".join(char for char in unicodedata.normalize("NFC", text) if not _unseen(char))
    return " ".join(unicodedata.normalize("NFC", shown).split())


def alike(labels: Iterable[str]) -> tuple[str, str] | None:
    """The first two different labels that look the same, spelt so that they no longer do."""
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.setdefault(looks(label), label)
        if other != label:
            return spelt(other, label), spelt(label, other)
    return None


def spelt(label: str, other: str) -> str:
    """``label`` with the characters that tell it from ``other`` named: ``good[U+200B zero width space]``."""
    start = _shared(label, other)
    rest, others = label[start:], other[start:]
    end = len(rest) - _shared(rest[::-1], others[::-1])
    middle = [
        char if char.isascii() and char.isprintable() and char != " " else _named(char) for char in rest[:end]
    ]
    cut = "…" if len(middle) > _NAMED else ""
    return f"{label[:start]}{''.join(middle[:_NAMED])}{cut}{rest[end:]}"


def _shared(one: str, other: str) -> int:
    """How many first characters two texts have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _named(char: str) -> str:
    return f"[U+{ord(char):04X} {unicodedata.name(char, 'without a name').lower()}]"
