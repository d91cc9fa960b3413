"""Numbers in a path's words, from code: ``{count}`` and ``{count r=16}`` become what the method trains there."""

from __future__ import annotations

import re

from peft_lab import units
from peft_lab.errors import BadInput
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import catalogue
from peft_lab.tour.path import Stop

_PLACE = re.compile(r"\{count(?: ([a-z_0-9]+=[^}\s]+(?: [a-z_0-9]+=[^}\s]+)*))?\}")


def has_figures(text: str) -> bool:
    return _PLACE.search(text) is not None


def fill(stop: Stop, text: str) -> str:
    """The text with its numbers: trained parameters by the closed formula, which equals the count.

    Raises:
        BadInput: a stop whose page is no method's, that names no model, or whose settings the method does not take.
    """

    def number(found: re.Match[str]) -> str:
        return units.count(trained(stop, found.group(1) or ""))

    return _PLACE.sub(number, text)


def trained(stop: Stop, moved: str = "") -> int:
    """Parameters that are trained at a stop after ``moved`` (``name=value``, blanks between) was moved."""
    if stop.page not in all_methods() or "model" not in stop.settings:
        raise BadInput(f"The stop '{stop.title}' has no method or names no model, so nothing can be counted.")
    spec = get_method(stop.page)
    texts = {**stop.settings, **dict(part.split("=", 1) for part in moved.split())}
    shape = catalogue()[texts["model"]].shape
    known = {knob.name: knob for knob in spec.knobs}
    values = {name: known[name].parse(text) for name, text in texts.items() if name in known}
    return spec.formula(shape, spec.require(shape, values)).trainable
