"""Defend it: the interviewer doubts an answer, and the learner holds to it or gives way, with reasons.

Some doubts are right. Whoever holds on to everything has not understood more than whoever gives way to everything.

In a file of challenges::

    CHALLENGES = (
        hold("lora-scale", "α/r, so {{value}}.", "No: a larger rank corrects more.", "Because ...", src.X),
        give_way("lora-rslora", "It adds parameters.", "Does it?", "It does not: ...", src.Y),
    )
"""

from __future__ import annotations

from dataclasses import dataclass

from peft_lab.quiz.follow_up import Calculation, Opens


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """One doubt. Texts are templates about the case of the question that it follows.

    Attributes:
        question: id of the question of the bank.
        said: what the learner has just said. ``doubt``: what the interviewer answers.
        holds: whether what was said is right, so that one holds to it; else one gives way.
        because: the reason, as one would say it.
        calculate: the calculation for the numbers in the texts; without one those of the question's own answer.
        opens: where the Lab shows it.
    """

    question: str
    said: str
    doubt: str
    holds: bool
    because: str
    sources: tuple[str, ...]
    calculate: Calculation | None = None
    opens: Opens | None = None


def hold(
    question: str,
    said: str,
    doubt: str,
    because: str,
    *sources: str,
    calculate: Calculation | None = None,
    opens: Opens | None = None,
) -> Challenge:
    """A doubt of what is right."""
    return Challenge(
        question=question, said=said, doubt=doubt, holds=True, because=because, sources=sources,
        calculate=calculate, opens=opens,
    )  # fmt: skip


def give_way(
    question: str,
    said: str,
    doubt: str,
    because: str,
    *sources: str,
    calculate: Calculation | None = None,
    opens: Opens | None = None,
) -> Challenge:
    """A doubt of what is wrong, or too much."""
    return Challenge(
        question=question, said=said, doubt=doubt, holds=False, because=because, sources=sources,
        calculate=calculate, opens=opens,
    )  # fmt: skip
