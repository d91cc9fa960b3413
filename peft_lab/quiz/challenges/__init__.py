"""Defend it: every doubt of the bank. Those on a method stand in its folder, those on other topics in this package."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from peft_lab.methods import all_methods, part_of
from peft_lab.quiz.bank import all_questions
from peft_lab.quiz.challenge import Challenge


@cache
def all_challenges() -> dict[str, Challenge]:
    """By the id of the question that each follows, in the bank's order.

    Raises:
        ValueError: two for one question, or one for a question that is not there: a mistake in the bank.
    """
    found: list[Challenge] = []
    for info in pkgutil.iter_modules(__path__):
        found.extend(importlib.import_module(f"{__name__}.{info.name}").CHALLENGES)
    for slug in all_methods():
        own = part_of(slug, "challenges")
        found.extend(own.CHALLENGES if own is not None else ())
    known = {challenge.question: challenge for challenge in found}
    if len(known) != len(found) or not set(known) <= set(all_questions()):
        raise ValueError("two doubts about one question, or one about a question that is not there")
    return {name: known[name] for name in all_questions() if name in known}
