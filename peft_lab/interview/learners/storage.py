"""Store learners: one SQLite file, several profiles, safe for several tabs; and plan practice up to an interview's
day."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal

from fsrs import Card, Rating, Scheduler, State

from peft_lab.core.errors import BadInput, UnknownName, in_short
from peft_lab.interview.computed import wilson

FILE = "learners.db"
VERSION = 1
WAIT = 10.0  # seconds for another tab to finish writing
_SCHEMA = Path(__file__).with_name("schema.sql")


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield one connection with one transaction: everything inside is written, or nothing.

    Fetch all rows at once: a query that an error leaves half read keeps its lock as long as the traceback exists, and
    everybody else would wait for :data:`WAIT`.

    Raises:
        BadInput: the file is not a database of ours, is damaged, was written by a newer version, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
    except (OSError, sqlite3.DatabaseError) as error:
        raise BadInput(f"The learners' file {path.name} cannot be used: {error}.") from error
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        # Immediate, because a read that becomes a write cannot wait for another writer and would fail at once.
        connection.execute("BEGIN IMMEDIATE")
        _prepare(connection, path)
        yield connection
        connection.execute("COMMIT")
    except (sqlite3.DatabaseError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        # SQLite has no checksums: a flipped bit may have turned a time, a number or a stored text into something else.
        raise BadInput(f"The learners' file {path.name} cannot be used: {in_short(error)}.") from error
    finally:
        # Closing rolls back whatever was not committed.
        connection.close()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == VERSION:
        return
    if version > VERSION:
        raise BadInput(
            f"{path.name} was written by a newer PEFT Lab (format {version}); this one reads format {VERSION}."
        )
    for statement in _SCHEMA.read_text("utf-8").split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


# ----------------------------------------
# Convert rows of the learners' file to objects, and back: profiles, cards, reviews, results.


RatingName = Literal["again", "hard", "good", "easy"]
RATINGS: tuple[RatingName, ...] = ("again", "hard", "good", "easy")
RETENTION_RANGE = (0.7, 0.97)
LONGEST_NAME = 40


@dataclass(frozen=True)
class Review:
    """One rating."""

    question: str
    rating: RatingName
    at: datetime
    milliseconds: int | None


@dataclass(frozen=True)
class Result:
    """Something a learner finished: an interview's report, a prediction ... ``content`` is JSON-able."""

    at: datetime
    content: Any


def find(db: sqlite3.Connection, name: str) -> str:
    """Return the profile's name as it was created. Raises :class:`UnknownName`."""
    row = db.execute("SELECT name FROM profiles WHERE name = ?", (name.strip(),)).fetchone()
    if row is None:
        names = [each["name"] for each in db.execute("SELECT name FROM profiles").fetchall()]
        raise UnknownName("profile", name, names, "profile")
    found: str = row["name"]
    return found


def check_name(name: str) -> str:
    """Return a profile name, blanks normalised. Raises :class:`BadInput` if it is empty, too long or unprintable."""
    clean = " ".join(name.split())
    if not clean or len(clean) > LONGEST_NAME or not clean.isprintable():
        raise BadInput(f"A learner's name must have 1 to {LONGEST_NAME} visible characters.", "profile")
    return clean


def write_time(moment: datetime) -> str:
    """Return a time as text, always with microseconds, so that texts sort as times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def read_time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def save_card(db: sqlite3.Connection, profile: str, question: str, card: Card) -> None:
    last = write_time(card.last_review) if card.last_review else None
    memory = (int(card.state), card.step, card.stability, card.difficulty)
    values = (profile, question, *memory, write_time(card.due), last)
    db.execute("INSERT OR REPLACE INTO cards VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)


def load_card(db: sqlite3.Connection, profile: str, question: str, now: datetime) -> Card:
    row = db.execute("SELECT * FROM cards WHERE profile = ? AND question = ?", (profile, question)).fetchone()
    # An explicit id; otherwise py-fsrs takes the wall clock for one and sleeps to keep it unique.
    return Card(card_id=zlib.crc32(question.encode()), due=now) if row is None else read_card(row)


def read_card(row: sqlite3.Row | Mapping[str, Any]) -> Card:
    """Return a card from its row, or from an exported one."""
    return Card(
        card_id=zlib.crc32(row["question"].encode()),
        state=State(row["state"]),
        step=row["step"],
        stability=row["stability"],
        difficulty=row["difficulty"],
        due=read_time(row["due"]),
        last_review=read_time(row["last_review"]) if row["last_review"] else None,
    )


# The days are planned with py-fsrs as if every card were known when it is due; other ratings change the remaining
# plan.


MINUTES = 10.0  # of practice a day
ENOUGH = 5  # rated questions of a topic; with fewer no interval is given
LONGEST = 365  # days ahead that an interview may be
FOR_NEW = 0.3  # share of a day's minutes reserved for new questions while there are any
ASKED = 3.0  # weight of the topics that the role's interviews ask about; the others have 1
KEPT_DAY, KEPT_ROLE = "interview_on", "interview_for"  # the keys of a learner's day and role


@dataclass(frozen=True)
class Readiness:
    """How well a topic is known.

    Attributes:
        questions: of the topic. ``rated``: those rated at least once; ``known``: those whose last rating was better
            than *again*.
        low, high: Wilson's 95% interval of the share that is known, from ``known`` of ``rated``; ``None`` if fewer
            than :data:`ENOUGH` were rated.
    """

    topic: str
    questions: int
    rated: int
    known: int
    low: float | None
    high: float | None

    @property
    def enough(self) -> bool:
        return self.rated >= ENOUGH

    @property
    def weakness(self) -> float:
        """Return a weakness from 0 to 1; a topic without ratings is as weak as one of which half is known."""
        return 1 - (self.known + 1) / (self.rated + 2)


@dataclass(frozen=True)
class Day:
    """What to practise on a day, in this order. ``again``: how many of these are repetitions; the rest is new."""

    on: date
    questions: tuple[str, ...]
    again: int


def check_day(day: date, today: date) -> date:
    """Return the day if it can be planned for. Raises :class:`BadInput` if it has passed or is too far away."""
    if day < today:
        raise BadInput("The day of the interview has passed. Choose a later day.", "interview_on")
    if (day - today).days > LONGEST:
        raise BadInput(f"Choose a day within the next {LONGEST} days.", "interview_on")
    return day


def day_kept(kept: object, today: date) -> date | None:
    """Return the stored day of an interview; ``None`` if none is set, or it has passed or is invalid."""
    try:
        day = date.fromisoformat(kept) if isinstance(kept, str) else None
    except ValueError:  # an imported file may hold anything
        return None
    return day if day and today <= day <= today + timedelta(days=LONGEST) else None


def due_by(due: datetime, day: date | None, rated: datetime) -> datetime:
    """Return when a card is due, given an interview on ``day``: at the latest on the day before it.

    A card rated on the day before is due, at the latest, when the interview's day begins. On the day itself nothing
    can be repeated in time, and the due date stays.
    """
    if day is None or day <= rated.date():
        return due
    last = datetime.combine(day - timedelta(days=1), time(), UTC)
    return min(due, last if last > rated else last + timedelta(days=1))


def readiness(topics: Mapping[str, Sequence[str]], reviews: Sequence[Review]) -> tuple[Readiness, ...]:
    """Return how well each topic is known. ``topics``: questions by topic. ``reviews``: every rating, oldest first."""
    last = {review.question: review.rating for review in reviews}
    found = []
    for topic, names in topics.items():
        rated = [name for name in names if name in last]
        known = sum(last[name] != "again" for name in rated)
        low, high = wilson(known, len(rated)) if len(rated) >= ENOUGH else (None, None)
        found.append(Readiness(topic, len(names), len(rated), known, low, high))
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
    """Return what to practise each day from today to the one before the interview; on the day itself if that is today.

    A day holds what is due, longest overdue first, interleaved: no topic comes twice while another waits, and weaker
    topics go first. Before the last day :data:`FOR_NEW` of the minutes are reserved for new questions, which are spread
    over the topics by what the role asks about and how weak each is (:func:`spread`). Nothing is put off to a day after
    the interview (:func:`due_by`).

    Args:
        cards: of every rated question. ``standing``: from :func:`readiness`.
        seconds: how long each question takes. ``scheduler``: the learner's, without fuzz.
        asked: topics that the role's interviews ask about; empty for all alike.
    """
    topic_of = {name: topic for topic, names in topics.items() for name in names}
    weakness = {each.topic: each.weakness for each in standing}
    ahead = {name: card for name, card in cards.items() if name in topic_of}
    weights = {topic: (ASKED if topic in asked else 1.0) * weakness.get(topic, 0.5) for topic in topics}
    taken = {topic: sum(name in ahead for name in names) for topic, names in topics.items()}
    unseen = {topic: [name for name in names if name not in ahead] for topic, names in topics.items()}
    fresh = list(spread(unseen, weights, taken))
    number_of_days = max(1, (day - now.date()).days)
    days = []
    for number in range(number_of_days):
        at = now + timedelta(days=number)
        last = number == number_of_days - 1
        waiting = [
            name
            for name, card in sorted(ahead.items(), key=lambda each: (each[1].due, each[0]))
            if due_by(card.due, day, card.last_review or now).date() <= at.date()
        ]
        due = interleaved(waiting, topic_of, weakness)
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
    """Return the questions that fit into ``room`` seconds, in order; a shorter one may pass one that is too long."""
    found = []
    for name in names:
        if seconds[name] <= room:
            found.append(name)
            room -= seconds[name]
    return found


def spread(
    by_topic: Mapping[str, Sequence[str]], weights: Mapping[str, float], taken: Mapping[str, int]
) -> tuple[str, ...]:
    """Return all questions so that each topic appears in proportion to its weight at every point: the next is of the
    topic with the largest weight divided by one more than the number it has had.

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
    """Return the same questions, one of each topic in turn, weak topics first; within a topic in the given order."""
    turns = sorted(
        dict.fromkeys(topic_of[name] for name in names), key=lambda topic: -weakness.get(topic, 0.5)
    )
    by_topic = {topic: [name for name in names if topic_of[name] == topic] for topic in turns}
    return spread(by_topic, dict.fromkeys(turns, 1.0), dict.fromkeys(turns, 0))
