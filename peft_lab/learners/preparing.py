"""Practice up to the day of an interview: what to do each day, and how ready each topic is, with intervals.

The days are laid out by py-fsrs as if every card were known when it comes up; what is rated otherwise changes the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import NormalDist, fmean

from fsrs import Card, Rating, Scheduler

from peft_lab.errors import BadInput
from peft_lab.learners.records import Review

MINUTES = 10.0  # of practice a day
ENOUGH = 5  # rated questions of a topic, below which nothing is said about it
LEVEL = 0.95  # of the intervals
LONGEST = 365  # days ahead that an interview may be


@dataclass(frozen=True)
class Readiness:
    """How a topic stands.

    Attributes:
        questions: of the topic. ``rated``: those rated at least once; ``known``: those whose last rating was better
            than *again*.
        low, high: Wilson's 95% interval of the share that is known, from ``known`` of ``rated``; ``None`` where fewer
            than :data:`ENOUGH` were rated.
        recalled: the mean chance that py-fsrs gives the rated questions of being known on the day; ``None`` likewise.
    """

    topic: str
    questions: int
    rated: int
    known: int
    low: float | None
    high: float | None
    recalled: float | None

    @property
    def enough(self) -> bool:
        return self.rated >= ENOUGH

    @property
    def weakness(self) -> float:
        """From 0 to 1, for what comes first: what nothing is known of is as weak as what is half known."""
        return 1 - (self.known + 1) / (self.rated + 2)


@dataclass(frozen=True)
class Day:
    """What to practise on a day, in this order. ``again``: how many of it come back; the rest is new."""

    on: date
    questions: tuple[str, ...]
    again: int


def wilson(known: int, rated: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22, 209-212.

    >>> [round(end, 3) for end in wilson(8, 10)]
    [0.49, 0.943]
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, spread = known / rated, z * z / rated
    middle = (share + spread / 2) / (1 + spread)
    half = z * ((share * (1 - share) + spread / 4) / rated) ** 0.5 / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def check_day(day: date, today: date) -> date:
    """A day that can be planned for. Raises :class:`BadInput`."""
    if day < today:
        raise BadInput("The day of the interview has passed; choose one that is to come.", "interview_on")
    if (day - today).days > LONGEST:
        raise BadInput(f"Choose a day within the next {LONGEST} days.", "interview_on")
    return day


def readiness(
    topics: Mapping[str, Sequence[str]], reviews: Sequence[Review], recalled: Mapping[str, float]
) -> tuple[Readiness, ...]:
    """How each topic stands.

    Args:
        topics: questions by topic.
        reviews: every rating, oldest first.
        recalled: by question that was rated, the chance of knowing it on the day.
    """
    last = {review.question: review.rating for review in reviews}
    found = []
    for topic, names in topics.items():
        rated = [name for name in names if name in last]
        known = sum(last[name] != "again" for name in rated)
        low, high = wilson(known, len(rated)) if len(rated) >= ENOUGH else (None, None)
        chances = [recalled[name] for name in rated if name in recalled]
        mean = fmean(chances) if chances and len(rated) >= ENOUGH else None
        found.append(Readiness(topic, len(names), len(rated), known, low, high, mean))
    return tuple(found)


def days_to(
    day: date,
    now: datetime,
    cards: Mapping[str, Card],
    standing: Sequence[Readiness],
    topics: Mapping[str, Sequence[str]],
    seconds: Mapping[str, float],
    scheduler: Scheduler,
    minutes: float = MINUTES,
) -> tuple[Day, ...]:
    """What to practise each day from today to the one before the interview; on the day itself if that is today.

    A day holds what is due, longest overdue first, then new questions, until its minutes are full. Both are
    interleaved: no topic comes twice while another waits, and the weaker topic goes first.

    Args:
        cards: of every rated question. ``standing``: of :func:`readiness`.
        seconds: how long each question takes. ``scheduler``: the learner's, without fuzz.
    """
    topic_of = {name: topic for topic, names in topics.items() for name in names}
    weakness = {each.topic: each.weakness for each in standing}
    ahead = {name: card for name, card in cards.items() if name in topic_of}
    fresh = [name for names in topics.values() for name in names if name not in ahead]
    days = []
    for number in range(max(1, (day - now.date()).days)):
        at = now + timedelta(days=number)
        due = sorted(
            (name for name, card in ahead.items() if card.due.date() <= at.date()),
            key=lambda name: (ahead[name].due, name),
        )
        taken: list[str] = []
        left = minutes * 60
        again = 0
        for group in (due, fresh):
            for name in interleaved(group, topic_of, weakness):
                if seconds[name] <= left:
                    taken.append(name)
                    left -= seconds[name]
                    again += group is due
        for name in taken:
            before = ahead.get(name) or Card(card_id=len(ahead) + 1, due=at)
            ahead[name], _ = scheduler.review_card(before, Rating.Good, at)
        fresh = [name for name in fresh if name not in ahead]
        days.append(Day(at.date(), tuple(taken), again))
    return tuple(days)


def interleaved(
    names: Sequence[str], topic_of: Mapping[str, str], weakness: Mapping[str, float]
) -> tuple[str, ...]:
    """The same questions, one of each topic in turn, weak topics first; within a topic in the given order."""
    by_topic: dict[str, list[str]] = {}
    for name in names:
        by_topic.setdefault(topic_of[name], []).append(name)
    turns = sorted(by_topic, key=lambda topic: -weakness.get(topic, 0.5))
    longest: Collection[int] = range(max(map(len, by_topic.values()), default=0))
    return tuple(by_topic[topic][turn] for turn in longest for topic in turns if turn < len(by_topic[topic]))
