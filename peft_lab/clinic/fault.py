"""What a fault is: its name, why it happens, what mends it, and where somebody met it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Where in the life of an adapter it goes wrong.
Family = Literal["training", "data", "saving", "loading"]
FAMILIES: dict[Family, str] = {
    "training": "how it was trained",
    "data": "what it was trained on",
    "saving": "what was saved",
    "loading": "how it is loaded and used",
}


@dataclass(frozen=True)
class Reference:
    """Where the fault was met or is explained. ``title`` as the page has it."""

    title: str
    url: str


@dataclass(frozen=True)
class Fault:
    """One way a fine-tune goes wrong.

    Attributes:
        name: how the command line and addresses call it. title: one line.
        why: the mechanism. fix: what to change. look: where it shows, as a hint that does not name it.
    """

    name: str
    title: str
    family: Family
    why: str
    fix: str
    look: str
    reference: Reference
