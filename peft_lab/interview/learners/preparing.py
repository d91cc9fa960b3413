"""Practice up to the day of an interview: what to do each day, and how ready each topic is, with intervals.

The days are laid out by py-fsrs as if every card were known when it comes up; what is rated otherwise changes the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from statistics import fmean

from fsrs import Card, Rating, Scheduler

from peft_lab.core.errors import BadInput
from peft_lab.interview.computed import wilson
from peft_lab.interview.learners.storage import Review

MINUTES = 10.0  # of practice a day
ENOUGH = 5  # rated questions of a topic, below which nothing is said about it
LONGEST = 365  # days ahead that an interview may be
FOR_NEW = 0.3  # of a day's minutes, kept for new questions while there are any
ASKED = 3.0  # weight of the topics that the role's interviews ask about; the others have 1
KEPT_DAY, KEPT_ROLE = "interview_on", "interview_for"  # under which a learner's day and role are kept


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


def check_day(day: date, today: date) -> date:
    """A day that can be planned for. Raises :class:`BadInput`."""
    if day < today:
        raise BadInput("The day of the interview has passed; choose one that is to come.", "interview_on")
    if (day - today).days > LONGEST:
        raise BadInput(f"Choose a day within the next {LONGEST} days.", "interview_on")
    return day


def day_kept(kept: object, today: date) -> date | None:
    """The day of an interview as it was kept; ``None`` where none is set, it has passed or is none to plan for."""
    try:
        day = date.fromisoformat(kept) if isinstance(kept, str) else None
    except ValueError:  # an imported file may hold anything
        return None
    return day if day and today <= day <= today + timedelta(days=LONGEST) else None


def due_by(due: datetime, day: date | None, rated: datetime) -> datetime:
    """When a card that was rated then comes back with an interview on ``day``: not after the day before it.

    What is rated on the day before comes back, if at all, as the interview's day begins. On the day itself nothing
    can come back in time, and the due date stays.
    """
    if day is None or day <= rated.date():
        return due
    last = datetime.combine(day - timedelta(days=1), time(), UTC)
    return min(due, last if last > rated else last + timedelta(days=1))


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
    asked: Collection[str] = (),
) -> tuple[Day, ...]:
    """What to practise each day from today to the one before the interview; on the day itself if that is today.

    A day holds what is due, longest overdue first, interleaved: no topic comes twice while another waits, and the
    weaker topic goes first. Up to the last day :data:`FOR_NEW` of its minutes are for new questions, which are spread
    over all topics by what the role asks about and how weak each is (:func:`spread`). Nothing is put off to a day
    after the interview (:func:`due_by`).

    Args:
        cards: of every rated question. ``standing``: of :func:`readiness`.
        seconds: how long each question takes. ``scheduler``: the learner's, without fuzz.
        asked: topics that the role's interviews ask about; empty for all alike.
    """
    topic_of = {name: topic for topic, names in topics.items() for name in names}
    weakness = {each.topic: each.weakness for each in standing}
    ahead = {name: card for name, card in cards.items() if name in topic_of}
    weights = {topic: (ASKED if topic in asked else 1.0) * weakness.get(topic, 0.5) for topic in topics}
    taken = {topic: sum(name in ahead for name in names) for topic, names in topics.items()}
    fresh = list(
        spread(
            {topic: [name for name in names if name not in ahead] for topic, names in topics.items()},
            weights,
            taken,
        )
    )
    number_of_days = max(1, (day - now.date()).days)
    days = []
    for number in range(number_of_days):
        at = now + timedelta(days=number)
        last = number == number_of_days - 1
        due = interleaved(
            sorted(
                (
                    name
                    for name, card in ahead.items()
                    if due_by(card.due, day, card.last_review or now).date() <= at.date()
                ),
                key=lambda name: (ahead[name].due, name),
            ),
            topic_of,
            weakness,
        )
        room = minutes * 60
        again = _fitting(due, seconds, room * (1 if last else 1 - FOR_NEW))
        new = _fitting(fresh, seconds, room - sum(seconds[name] for name in again))
        left = room - sum(seconds[name] for name in (*again, *new))
        again += _fitting([name for name in due if name not in again], seconds, left)
        for name in (*again, *new):
            before = ahead.get(name) or Card(card_id=len(ahead) + 1, due=at)
            ahead[name], _ = scheduler.review_card(before, Rating.Good, at)
        fresh = [name for name in fresh if name not in ahead]
        days.append(Day(at.date(), (*again, *new), len(again)))
    return tuple(days)


def _fitting(names: Sequence[str], seconds: Mapping[str, float], room: float) -> list[str]:
    """Those that fit into so many seconds, in their order; one that is too long lets a shorter one pass."""
    found = []
    for name in names:
        if seconds[name] <= room:
            found.append(name)
            room -= seconds[name]
    return found


def spread(
    by_topic: Mapping[str, Sequence[str]], weights: Mapping[str, float], taken: Mapping[str, int]
) -> tuple[str, ...]:
    """All the questions, each topic as often as its weight asks for at every point: the next is of the topic with the
    largest weight divided by one more than it has had.

    Source: the divisors are D'Hondt's, as for seats by votes.

    Args:
        taken: how many questions of each topic were had already.
    """
    left = {topic: list(names) for topic, names in by_topic.items() if names}
    had = dict(taken)
    found = []
    while left:
        topic = max(left, key=lambda each: weights[each] / (had[each] + 1))
        found.append(left[topic].pop(0))
        had[topic] += 1
        if not left[topic]:
            del left[topic]
    return tuple(found)


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
