"""What is planned in place of an input that cannot be: the nearest GPU by its name, the fewest rows that make sense."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft_lab.choose.situation import MOST
from peft_lab.errors import BadInput, UnknownName
from peft_lab.memory.devices import devices
from peft_lab.plan.wanted import Wanted
from peft_lab.references import LIMA

#: The fewest rows of which a training is known to have made a model that answers.
LEAST_ROWS = 1_000
_NEAR, _ALIKE = 3, 0.5  # how many names are said, and how much they have in common at least
_LONGEST = 40  # letters of a name that are looked at


@dataclass(frozen=True)
class Meant:
    """What is planned instead.

    Attributes:
        changes: fields of :class:`Wanted`, with what they are then. said: that, in a sentence. short: on a button.
        hint: a sentence to add to what is said of the input; empty for none.
    """

    changes: Mapping[str, Any]
    said: str
    short: str
    hint: str = ""


def said_of(error: BadInput, instead: Meant | None) -> str:
    """What is wrong, and the names that are near: all of them, in place of the one that the error has."""
    wrong = str(error)
    if instead is None:
        return wrong
    if isinstance(error, UnknownName) and instead.hint:
        wrong = wrong.partition("'. ")[0] + "'."
    return " ".join(filter(None, (wrong, instead.hint)))


def meant(name: str | None, text: str) -> Meant | None:
    """In place of a field's text; ``None`` where nothing is as good as another."""
    if name == "gpu":
        return _card(text)
    if name == "rows":
        most = MOST["rows"]
        digits = text.strip().replace(",", "").replace("_", "")
        many = most if digits.isdecimal() and int(digits[:20]) > most else LEAST_ROWS
        source = "" if many == most else f", as many as in {LIMA}"
        return Meant({"rows": many}, f"{many:,} rows{source}", f"{many:,} rows")
    if name == "row_tokens" and text.strip().isdecimal() and 0 < int(text) <= MOST["seq"]:
        room = min(MOST["seq"], 1 << (int(text) - 1).bit_length())
        return Meant({"seq": room}, f"rows cut at {room:,} tokens", f"rows cut at {room:,}")
    if name == "devices":
        return Meant({"devices": 1}, "one GPU", "one GPU")
    if name == "deadline":
        return Meant({"deadline": ""}, "no deadline", "no deadline")
    return None


def together(several: Sequence[Meant]) -> Meant:
    """All of them at once, in their order."""
    changes = {name: value for one in several for name, value in one.changes.items()}
    return Meant(changes, "; ".join(one.said for one in several), "; ".join(one.short for one in several))


def _card(text: str) -> Meant:
    """The GPU whose name has most in common with the text, else the usual one."""
    cards = {name: card for name, card in devices().items() if card.kind == "cuda"}
    typed = difflib.SequenceMatcher(b=text.strip().lower().replace(" ", "-")[:_LONGEST])
    alike = dict[str, float]()
    for name in cards:
        typed.set_seq1(name)
        alike[name] = typed.ratio()
    # of two that are as near the one with less memory: what fits there fits on either
    order = sorted(cards, key=lambda name: (-alike[name], cards[name].memory))
    near = [name for name in order if alike[name] >= _ALIKE][:_NEAR]
    name = near[0] if near else Wanted().gpu
    names = f"Near it in name: {', '.join(near)}." if near else f"Known: {', '.join(cards)}."
    hint = f"{names} Any other card goes by its memory, such as 24GB."
    title = cards[name].title
    return Meant({"gpu": name}, title, title, hint)
