"""What mock interviews and flash cards know of each other: what was asked or known already, and answers as reviews."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from peft_lab.learners.records import RatingName, Review
from peft_lab.learners.schedule import Learners
from peft_lab.quiz.interview import Interview

LATELY = timedelta(days=14)
FULL, HALF = 0.999, 0.5  # of a point; ticked shares are fractions


def rating_of(points: float) -> RatingName:
    """How well an answer of so many points was known: all of them good, half or more hard, fewer again."""
    return "good" if points >= FULL else "hard" if points >= HALF else "again"


def count_as_reviews(file: Learners, learner: str, held: Interview) -> None:
    """Every answer of an interview, given or passed, as a review now. What did not come up stays as it is.

    Raises:
        UnknownName: no such learner.
    """
    for reply in held.replies:
        file.rate(learner, reply.question, rating_of(reply.points), round(1000 * reply.seconds))


def to_avoid(earlier: Iterable[Interview], reviews: Sequence[Review], now: datetime) -> frozenset[str]:
    """Questions of earlier interviews, and those whose last rating was good or easy in the last two weeks.

    Args:
        reviews: every rating, oldest first.
    """
    last = {review.question: review for review in reviews}
    known = {
        name for name, each in last.items() if each.rating in ("good", "easy") and now - each.at <= LATELY
    }
    return frozenset(known.union(*(held.plan.questions for held in earlier)))
