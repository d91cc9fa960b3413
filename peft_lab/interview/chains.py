"""Chains: a question, its follow-ups, and so on. Where one leads to another question, that one's come next."""

from __future__ import annotations

from dataclasses import dataclass

from peft_lab.interview.bank import all_questions, get_question
from peft_lab.interview.question import FollowUp, Question

LONGEST = 5


@dataclass(frozen=True)
class Link:
    """One question asked in a chain. ``after``: the question whose case it is about; ``asks``: the question of the bank
    that it is or leads to, ``None`` for a follow-up with its own answer."""

    after: Question
    follow_up: FollowUp | None
    asks: Question | None


def chain(question: Question) -> tuple[Link, ...]:
    """Return the question and up to four that follow, in the order asked; no question of the bank occurs twice."""
    links = [Link(question, None, question)]
    met = {question.id}
    current: Question | None = question
    while current is not None and len(links) < LONGEST:
        following: Question | None = None
        for follow_up in current.follow_ups:
            if len(links) == LONGEST or follow_up.leads_to in met:
                continue
            following = get_question(follow_up.leads_to) if follow_up.leads_to else None
            if following is not None:
                met.add(following.id)
            links.append(Link(current, follow_up, following))
        current = following
    return tuple(links)


def chains() -> dict[str, tuple[Link, ...]]:
    """Return every question's chain by id."""
    return {name: chain(question) for name, question in all_questions().items()}
