"""A request as typed: what of it can be read, what cannot, and the request that was probably meant."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from peft_lab.advise.plans.nearest import Meant, meant
from peft_lab.advise.plans.wanted import Wanted, room, values
from peft_lab.core.errors import BadInput

NUMBERS = ("rows", "row_tokens", "seq", "devices")
_WHOLE = re.compile(r"-?[0-9]{1,15}")
_LARGEST = 1e15  # below this, a browser tells numbers from their neighbours
_LETTERS = 80  # of a name that are kept
_ROUNDS = 6  # one field's correction may contradict another field


@dataclass(frozen=True)
class Unread:
    """A field's text that cannot be read as a value, and why."""

    text: str
    error: BadInput


@dataclass(frozen=True)
class Asked:
    """A request. ``wanted`` has defaults in place of the ``unread`` fields."""

    wanted: Wanted
    unread: Mapping[str, Unread] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return a field's text as given."""
        return self.unread[name].text if name in self.unread else str(getattr(self.wanted, name, ""))

    def problems(self) -> tuple[BadInput, ...]:
        """Return what cannot be read, contradicts itself, or is an unknown name: at most one per field."""
        found: dict[str | None, BadInput] = {name: one.error for name, one in self.unread.items()}
        for problem in self._settled().problems():
            found.setdefault(problem.field, problem)
        return tuple(found.values())

    def _settled(self) -> Wanted:
        """Return the request, with an unread row limit raised to hold the rows."""
        wanted = self.wanted
        if "seq" in self.unread and wanted.row_tokens > wanted.seq:
            wanted = replace(wanted, seq=room(wanted))
        return wanted

    def put(self, changes: Mapping[str, Any]) -> Asked:
        """Return the request with other values; these fields are no longer unread."""
        left = {name: one for name, one in self.unread.items() if name not in changes}
        return Asked(replace(self.wanted, **changes), left)


def ask(told: Mapping[str, str]) -> Asked:
    """Return the request that texts give, as :func:`peft_lab.advise.plans.wanted.look`."""
    wanted, wrong = values(told)
    return Asked(wanted, {name: Unread(told[name], error) for name, error in wrong.items()})


def as_typed(name: str, text: str) -> Any:
    """Return a text as its field's control would hold it if it were typed there, sensible or not; ``None`` if the
    control cannot hold it."""
    text = text.strip()
    if name in NUMBERS:
        bare = text.replace(",", "").replace("_", "")
        return int(bare) if _WHOLE.fullmatch(bare) else None
    if name == "price":
        try:
            value = float(text)
        except ValueError:
            return None
        return value if math.isfinite(value) and abs(value) < _LARGEST else None
    return None if name in ("model", "packed") else text[:_LETTERS]


@dataclass(frozen=True)
class Mended:
    """What was probably meant.

    Attributes:
        each: every problem with its correction; ``None`` where there is none.
        several: all corrections; ``None`` if they do not make a valid request. asked: the corrected request.
    """

    each: Sequence[tuple[BadInput, Meant | None]]
    several: Sequence[Meant] | None
    asked: Asked


def mend(asked: Asked) -> Mended:
    """Return what was probably meant by an invalid request."""

    def of(now: Asked, error: BadInput) -> Meant | None:
        found = meant(error.field, now.text(error.field or ""), now.wanted)
        if found is None or any(one.field == error.field for one in now.put(found.changes).problems()):
            return None
        return found

    each = [(error, of(asked, error)) for error in asked.problems()]
    now, several = asked, list[Meant]()
    for _ in range(_ROUNDS):
        problems = now.problems()
        for error in problems:
            found = meant(error.field, now.text(error.field or ""), now.wanted)
            if found is None:
                return Mended(each, None, asked)
            several = [one for one in several if not one.changes.keys() & found.changes.keys()] + [found]
            now = now.put(found.changes)
        if not problems:
            return Mended(each, several, now)
    return Mended(each, None, asked)
