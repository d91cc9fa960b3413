"""A request for plans as texts give it, where it has no problem."""

from __future__ import annotations

from collections.abc import Mapping

from peft_lab.advise.plans.wanted import Wanted, look


def read(told: Mapping[str, str]) -> Wanted:
    """The request; raises the first of its problems."""
    wanted, wrong = look(told)
    for error in wrong:
        raise error
    return wanted
