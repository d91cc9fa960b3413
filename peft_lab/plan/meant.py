"""What is planned in place of an input that cannot be: the nearest GPU by its name, the fewest rows that make sense."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from peft_lab import units
from peft_lab.choose.situation import LINKS, MOST, OF_ENCODERS
from peft_lab.errors import BadInput, UnknownName
from peft_lab.memory.devices import devices
from peft_lab.memory.optimizers import OPTIMIZER_TITLES, OPTIMIZERS
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue, readers_of_text, resolve
from peft_lab.plan.wanted import FURTHER, Wanted, checked_price, most_tokens, room
from peft_lab.recipes.job import OBJECTIVES
from peft_lab.references import LIMA

#: The fewest rows of which a training is known to have made a model that answers.
LEAST_ROWS = 1_000
_NEAR, _ALIKE = 3, 0.5  # how many names are said, and how much they have in common at least
_LONGEST = 40  # letters of a name that are looked at
_IN_WORDS = re.compile(r"([0-9][0-9,_ ]*(?:\.[0-9]+)?)\s*([km](?![a-z]))?")
_COMMA = re.compile(r"[0-9],[0-9]{1,2}(?![0-9,])")


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


def meant(name: str | None, text: str, wanted: Wanted | None = None) -> Meant | None:
    """In place of a field's text; ``None`` for what is no field.

    ``wanted``: the rest of the question, which decides how long rows may be and what the model can be trained for.
    """
    found = _MEANT.get(name or "")
    return None if found is None else found(text, wanted or Wanted())


def together(several: Sequence[Meant]) -> Meant:
    """All of them at once, in their order."""
    changes = {name: value for one in several for name, value in one.changes.items()}
    return Meant(changes, "; ".join(one.said for one in several), "; ".join(one.short for one in several))


def _rows(text: str, _: Wanted) -> Meant:
    many, most = _number(text), MOST["rows"]
    if many is None or many < 1:
        return Meant(
            {"rows": LEAST_ROWS}, f"{LEAST_ROWS:,} rows, as many as in {LIMA}", f"{LEAST_ROWS:,} rows"
        )
    many = min(round(many), most)
    said = units.several(many, "row")
    return Meant({"rows": many}, said, said)


def _row_tokens(text: str, wanted: Wanted) -> Meant:
    many, most = _number(text), most_tokens(wanted.model)
    if many is None or many < 1:
        usual = min(Wanted().row_tokens, wanted.seq if wanted.seq > 0 else most, most)
        said = f"rows of {units.several(usual, 'token')}"
        return Meant({"row_tokens": usual}, said, said)
    tokens = round(many)
    if tokens > most:
        said = f"rows of {most:,} tokens, the longest here"
        return Meant({"row_tokens": most, "seq": most}, said, f"rows of {most:,} tokens")
    own = {} if text.strip().isdecimal() else {"row_tokens": tokens}
    if tokens > wanted.seq:
        cut = room(replace(wanted, row_tokens=tokens))
        return Meant(
            {**own, "seq": cut}, f"rows cut at {units.several(cut, 'token')}", f"rows cut at {cut:,}"
        )
    said = f"rows of {units.several(tokens, 'token')}"
    return Meant({"row_tokens": tokens}, said, said)


def _seq(text: str, wanted: Wanted) -> Meant:
    many = _number(text)
    cut = room(wanted) if many is None or many < 1 else min(round(many), most_tokens(wanted.model))
    return Meant({"seq": cut}, f"rows cut at {units.several(cut, 'token')}", f"rows cut at {cut:,}")


def _devices(text: str, _: Wanted) -> Meant:
    many, most = _number(text), MOST["devices"]
    count = 1 if many is None or many < 1 else min(round(many), most)
    if count == 1 or text.strip() == str(count):  # what can be read is too many for this device
        return Meant({"devices": 1}, "one GPU", "one GPU")
    return Meant({"devices": count}, f"{count:,} GPUs", f"{count:,} GPUs")


def _price(text: str, _: Wanted) -> Meant:
    comma = _COMMA.search(text)  # of a decimal, not of thousands
    found = _number(text if comma is None else text.replace(",", "."))
    try:
        if found is not None:
            price = checked_price(found)
            return Meant({"price": price}, f"a price of {price:g}", f"a price of {price:g}")
    except BadInput:
        pass
    return Meant({"price": None}, "no price, so that hours decide the order and no cost is told", "no price")


def _deadline(_: str, __: Wanted) -> Meant:
    return Meant({"deadline": ""}, "no deadline", "no deadline")


def _objective(text: str, wanted: Wanted) -> Meant:
    encoder = resolve(wanted.model).shape.kind == "encoder"
    near = _nearest(text, OF_ENCODERS if encoder else OBJECTIVES)
    said = OBJECTIVES[near] if near else "what suits the model"
    return Meant({"objective": near}, said, said)


def _link(text: str, _: Wanted) -> Meant:
    near = _nearest(text, LINKS) or Wanted().link
    return Meant({"link": near}, LINKS[near], LINKS[near])


def _optimizer(text: str, _: Wanted) -> Meant:
    near = _nearest(text, OPTIMIZERS)
    title = OPTIMIZER_TITLES[near] if near else "the usual optimizer"
    return Meant({"optimizer": near}, title, title)


def _also(text: str, _: Wanted) -> Meant:
    kept = [name for name in Wanted(also=text).further if name in FURTHER]
    titles = " and ".join(get_method(name).title for name in kept)
    said = f"{titles} ranked beside the usual methods" if kept else "the usual methods alone"
    return Meant({"also": ",".join(kept)}, said, titles or "the usual methods alone")


def _packed(_: str, __: Wanted) -> Meant:
    return Meant({"packed": 0}, "rows that are padded", "padded rows")


def _model(text: str, _: Wanted) -> Meant:
    """The one whose name, or title, is nearest, else the usual one."""
    known = {name: name for name in readers_of_text()}
    known |= {catalogue()[name].title.lower(): name for name in known}
    near = "" if text in catalogue() else _nearest(text.rpartition("/")[2], known)  # or else it reads no text
    name = known[near] if near else Wanted().model
    title = catalogue()[name].title
    return Meant({"model": name}, title, title)


def _nearest(text: str, known: Iterable[str]) -> str:
    """Of these names, the one that has most in common with a text; empty where none has much."""
    found = difflib.get_close_matches(text.strip().lower()[:_LONGEST], list(known), 1, _ALIKE)
    return found[0] if found else ""


def _number(text: str) -> float | None:
    """The number in a text such as ``10k``, ``500 rows`` or ``$2``; ``None`` for none and for what is below 0."""
    text = text.strip().lower()[:_LONGEST]
    try:
        value = float(text)
    except ValueError:
        found = _IN_WORDS.search(text)
        if found is None or text.startswith("-"):
            return None
        digits = re.sub(r"[,_ ]", "", found[1])
        value = float(digits) * {"k": 1e3, "m": 1e6}.get(found[2] or "", 1.0)
    return value if math.isfinite(value) and value >= 0 else None


def _card(text: str, _: Wanted) -> Meant:
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


_MEANT: Mapping[str, Callable[[str, Wanted], Meant]] = {
    "model": _model, "objective": _objective, "rows": _rows, "row_tokens": _row_tokens, "seq": _seq, "gpu": _card,
    "devices": _devices, "link": _link, "price": _price, "deadline": _deadline, "also": _also,
    "optimizer": _optimizer, "packed": _packed,
}  # fmt: skip
