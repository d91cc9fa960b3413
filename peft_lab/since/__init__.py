"""What was found about a method since its paper; each method's own stand in its folder.

``methods/<slug>/since.py`` defines ``SINCE``, a tuple of :class:`~peft_lab.since.base.Discovery`; nothing else lists
it.
"""

from __future__ import annotations

from functools import cache

from peft_lab.methods import all_methods, part_of
from peft_lab.since.base import Discovery


@cache
def of_method(slug: str) -> tuple[Discovery, ...]:
    """What was found about a method, in the order in which it is shown; empty for a method without any."""
    own = part_of(slug, "since")
    return () if own is None else own.SINCE


def all_discoveries() -> tuple[Discovery, ...]:
    """Every one of them, in the order of the methods."""
    return tuple(each for slug in all_methods() for each in of_method(slug))
