"""Knobs: what a learner can set, with type, range and help, and the parsing of values from text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from peft_lab.errors import BadInput, echoed

Values = Mapping[str, Any]
KnobKind = Literal["int", "float", "bool", "choice", "modules", "text"]
_SENTENCE = re.compile(r"(?<!\bal)\.\s+")  # where one ends; not after "et al."
_YES, _NO = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


@dataclass(frozen=True)
class Knob:
    """One setting of a method.

    Attributes:
        name: the PEFT config's own field name where PEFT has one.
        label: what stands at the control.
        kind: ``modules`` is a tuple of target names; its default is chosen per model by the method.
        help: what it does. ``usual``: the usual range. ``paper``: what the paper used.
        stops: when given, the slider offers these values only (any value in range stays valid).
        advanced: shown in a folded section.
        read_when: another knob and the values of it with which alone this one is read; ``None`` for one that always is.
        of: ``training`` for a setting of the optimizer, which leaves the model and its config as they are;
            ``application`` for what applying the method does beyond PEFT's config, such as starting from a text.
    """

    name: str
    label: str
    kind: KnobKind
    default: Any
    help: str
    usual: str = ""
    paper: str = ""
    min: float | None = None
    max: float | None = None
    choices: tuple[str, ...] = ()
    stops: tuple[float, ...] = ()
    advanced: bool = False
    read_when: tuple[str, tuple[Any, ...]] | None = None
    of: Literal["method", "training", "application"] = "method"

    @property
    def full_help(self) -> str:
        """The help with the usual range and the paper's value."""
        parts = [self.help]
        if self.usual:
            parts.append(f"Usual: {self.usual}.")
        if self.paper:
            parts.append(f"Paper: {self.paper}.")
        return " ".join(parts)

    def brief(self, value: Any) -> str:
        """One sentence of the help, for under the control: on ``value`` if there is one, else the first.

        >>> Knob("start", "Start", "choice", "a", "a: from zero. b: from noise (Li et al. 2021).").brief("b")
        'b: from noise (Li et al. 2021).'
        """
        sentences = [text.rstrip(".") + "." for text in _SENTENCE.split(self.help)]
        return next((text for text in sentences if text.startswith(f"{value}: ")), sentences[0])

    def check(self, value: Any) -> Any:
        """``value`` in its own type.

        Raises:
            BadInput: wrong type or out of range, with the range.

        >>> Knob("r", "Rank r", "int", 8, "Width.", min=1, max=1024).check(0)
        Traceback (most recent call last):
        peft_lab.errors.BadInput: Rank r must be from 1 to 1024; '0' is not.
        """
        if self.kind == "bool":
            if not isinstance(value, bool):
                raise self._bad(value, "is either true or false")
            return value
        if self.kind in ("int", "float"):
            return self._number(value)
        if self.kind == "choice":
            if value not in self.choices:
                raise self._bad(value, f"is one of {', '.join(self.choices)}")
            return value
        if self.kind == "modules":
            if isinstance(value, str):
                value = value.split(",")
            if not isinstance(value, Iterable):
                raise self._bad(value, "is a list of names")
            names = tuple(dict.fromkeys(str(name).strip() for name in value if str(name).strip()))
            return names
        if not isinstance(value, str):
            raise self._bad(value, "is a text")
        return value

    def _number(self, value: Any) -> float | int:
        wrong_type = isinstance(value, bool) or not isinstance(value, int | float)
        endless = isinstance(value, float) and not math.isfinite(value)
        if wrong_type or endless or (self.kind == "int" and value != int(value)):
            raise self._bad(value, "is a whole number" if self.kind == "int" else "is a number")
        if (self.min is not None and value < self.min) or (self.max is not None and value > self.max):
            raise self._bad(value, f"must be from {self.min:g} to {self.max:g}")
        return int(value) if self.kind == "int" else float(value)

    def parse(self, text: str) -> Any:
        """A value from its text on the command line or in an address: ``8``, ``true``, ``q_proj,v_proj``.

        Raises:
            BadInput: as :meth:`check`.

        >>> Knob("target_modules", "Target modules", "modules", (), "Which.").parse("q_proj, v_proj")
        ('q_proj', 'v_proj')
        >>> Knob("use_dora", "DoRA", "bool", False, "Magnitudes apart.").parse("yes")
        True
        """
        text = text.strip()
        if self.kind == "bool":
            if text.lower() not in _YES + _NO:
                raise self._bad(text, "is either true or false")
            return text.lower() in _YES
        if self.kind in ("int", "float"):
            try:
                number = float(text)
                return self.check(int(text) if self.kind == "int" else number)
            except ValueError:
                raise self._bad(text, "is a whole number" if self.kind == "int" else "is a number") from None
        return self.check(text)

    def _bad(self, value: Any, rule: str) -> BadInput:
        return BadInput(f"{self.label} {rule}; '{echoed(value)}' is not.", self.name)


def is_read(knob: Knob, knobs: Iterable[Knob], values: Values) -> bool:
    """Whether a knob says anything beside these values of the others; those that are not given have not been asked."""
    if knob.read_when is None:
        return True
    name, wanted = knob.read_when
    by_name = {other.name: other for other in knobs}
    return name not in values or (values[name] in wanted and is_read(by_name[name], by_name.values(), values))


def read(knobs: Iterable[Knob], values: Values) -> dict[str, Any]:
    """The values that say anything beside each other; two settings that agree in them are the same."""
    known = tuple(knobs)
    return {
        knob.name: values[knob.name] for knob in known if knob.name in values and is_read(knob, known, values)
    }
