"""What was asked, with what of it is no value, and the question that is meant by it."""

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
_LARGEST = 1e15  # that a browser tells from its neighbours
_LETTERS = 80  # of a name that is kept
_ROUNDS = 6  # what is meant by one field may be no answer to another


@dataclass(frozen=True)
class Unread:
    """A field's text that no value can be read from, and why."""

    text: str
    error: BadInput


@dataclass(frozen=True)
class Asked:
    """A question. ``wanted``: with the usual in place of what is ``unread``, which is by field."""

    wanted: Wanted
    unread: Mapping[str, Unread] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A field's, as it was given."""
        return self.unread[name].text if name in self.unread else str(getattr(self.wanted, name, ""))

    def problems(self) -> tuple[BadInput, ...]:
        """What cannot be read, contradicts itself, or is no name: at most one for each field."""
        found: dict[str | None, BadInput] = {name: one.error for name, one in self.unread.items()}
        for problem in self._settled().problems():
            found.setdefault(problem.field, problem)
        return tuple(found.values())

    def _settled(self) -> Wanted:
        """With limits that were not read as they suit what was."""
        wanted = self.wanted
        if "seq" in self.unread and wanted.row_tokens > wanted.seq:
            wanted = replace(wanted, seq=room(wanted))
        return wanted

    def put(self, changes: Mapping[str, Any]) -> Asked:
        """With other values, and what was unread of these fields forgotten."""
        left = {name: one for name, one in self.unread.items() if name not in changes}
        return Asked(replace(self.wanted, **changes), left)


def ask(told: Mapping[str, str]) -> Asked:
    """From texts, as :func:`peft_lab.advise.plans.wanted.look`."""
    wanted, wrong = values(told)
    return Asked(wanted, {name: Unread(told[name], error) for name, error in wrong.items()})


def as_typed(name: str, text: str) -> Any:
    """A text as the field's control would have it if it were typed there, whether it can be meant or not; ``None`` for
    one that the control cannot hold."""
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
    """What is meant.

    Attributes:
        each: every problem with what mends it; ``None`` where nothing does.
        several: what was changed; ``None`` where no question came of it. asked: with it.
    """

    each: Sequence[tuple[BadInput, Meant | None]]
    several: Sequence[Meant] | None
    asked: Asked


def mend(asked: Asked) -> Mended:
    """Find what is meant by a question that cannot be."""

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
