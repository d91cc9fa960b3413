"""What an interview for a role asks about, and how long it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peft_lab.errors import UnknownName

#: Questions by the length of an interview.
LENGTHS: Mapping[str, int] = {"short": 5, "usual": 10, "long": 15}


@dataclass(frozen=True)
class Role:
    """A role. ``topics``: those that its interviews stay with; empty for all. The choice is this app's own."""

    title: str
    topics: tuple[str, ...]


ROLES: Mapping[str, Role] = {
    "any": Role("Any role", ()),
    "engineer": Role(
        "ML engineer",
        ("lora", "qlora", "memory", "training", "debugging", "merging", "serving", "choosing", "planning"),
    ),
    "research": Role(
        "Research",
        (
            "lora",
            "prefix",
            "prompt",
            "ptuning",
            "adapters",
            "ia3",
            "bitfit",
            "preference",
            "quantisation",
            "safety",
        ),
    ),
    "platform": Role(
        "Platform",
        ("serving", "memory", "quantisation", "qlora", "merging", "planning", "debugging", "safety"),
    ),
    "applied": Role(
        "Applied scientist",
        ("choosing", "lora", "qlora", "training", "preference", "safety", "planning", "debugging", "prompt"),
    ),
}


def role(name: str) -> Role:
    """Raises :class:`UnknownName`."""
    if name not in ROLES:
        raise UnknownName("role", name, ROLES, "role")
    return ROLES[name]


def size(name: str) -> int:
    """Questions of an interview of this length. Raises :class:`UnknownName`."""
    if name not in LENGTHS:
        raise UnknownName("length", name, LENGTHS, "length")
    return LENGTHS[name]
