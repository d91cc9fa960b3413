"""Defend it: all doubts of the bank. Each is defined in the bank module of the question that it follows."""

from __future__ import annotations

from functools import cache

from peft_lab.interview.bank import all_questions, topic_modules
from peft_lab.interview.question import Challenge


@cache
def all_challenges() -> dict[str, Challenge]:
    """Return all doubts by the id of the question each follows, in the bank's order.

    Raises:
        ValueError: a question has two doubts, or a doubt names no question of the bank.
    """
    found: list[Challenge] = []
    for module in topic_modules():
        found.extend(getattr(module, "CHALLENGES", ()))
    known = {challenge.question: challenge for challenge in found}
    if len(known) != len(found) or not set(known) <= set(all_questions()):
        raise ValueError("two doubts about one question, or one about a question that is not there")
    return {name: known[name] for name in all_questions() if name in known}
