"""Claims about PEFT, each with what it says and code that finds out what is so.

A module of this package that defines ``CLAIMS`` is part of it; claims about one method alone stand in the module of its
slug. ``base`` says what a claim is and how a verdict follows from figures.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from peft_lab.core.errors import UnknownName
from peft_lab.interview.claims.base import Claim
from peft_lab.methods import all_methods

_HELPERS = frozenset({"base", "figures", "kept"})


@cache
def all_claims() -> dict[str, Claim]:
    """Every claim by id, the source text's first."""
    found: list[Claim] = []
    names = [info.name for info in pkgutil.iter_modules(__path__) if info.name not in _HELPERS]
    slugs = [slug for slug in all_methods() if slug in names]
    for name in [*(name for name in names if name not in slugs), *slugs]:
        found.extend(importlib.import_module(f"{__name__}.{name}").CLAIMS)
    found.sort(key=lambda claim: (claim.origin != "text", claim.topic_order))
    known = {claim.id: claim for claim in found}
    if len(known) != len(found):
        raise ValueError("two claims have the same id")
    return known


def get_claim(name: str) -> Claim:
    """A claim by id. Raises :class:`UnknownName` with the nearest one."""
    try:
        return all_claims()[name]
    except KeyError:
        raise UnknownName("claim", name, all_claims(), "claim") from None
