"""Rows of the learners' file as objects, and back: profiles, cards, reviews, results."""

from __future__ import annotations

import sqlite3
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from fsrs import Card, State

from peft_lab.errors import BadInput, UnknownName

RatingName = Literal["again", "hard", "good", "easy"]
RATINGS: tuple[RatingName, ...] = ("again", "hard", "good", "easy")
RETENTION_RANGE = (0.7, 0.97)
LONGEST_NAME = 40


@dataclass(frozen=True)
class Profile:
    """One learner. ``due`` counts cards that are due now."""

    name: str
    created: datetime
    retention: float
    cards: int
    reviews: int
    due: int


@dataclass(frozen=True)
class CardView:
    """One question's card. ``state`` is ``learning``, ``review`` or ``relearning``; stability is in days."""

    question: str
    state: str
    due: datetime
    stability: float | None
    difficulty: float | None
    last_review: datetime | None


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

    kind: str
    at: datetime
    content: Any


def find(db: sqlite3.Connection, name: str) -> str:
    """The profile's name as it was created. Raises :class:`UnknownName`."""
    row = db.execute("SELECT name FROM profiles WHERE name = ?", (name.strip(),)).fetchone()
    if row is None:
        names = [each["name"] for each in db.execute("SELECT name FROM profiles").fetchall()]
        raise UnknownName("profile", name, names, "profile")
    found: str = row["name"]
    return found


def check_name(name: str) -> str:
    """A usable profile name. Raises :class:`BadInput`."""
    clean = " ".join(name.split())
    if not clean or len(clean) > LONGEST_NAME or not clean.isprintable():
        raise BadInput(f"A profile name has 1 to {LONGEST_NAME} visible characters.", "profile")
    return clean


def write_time(moment: datetime) -> str:
    """Always with microseconds, so that texts sort as times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def read_time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def save_card(db: sqlite3.Connection, profile: str, question: str, card: Card) -> None:
    last = write_time(card.last_review) if card.last_review else None
    values = (
        profile,
        question,
        int(card.state),
        card.step,
        card.stability,
        card.difficulty,
        write_time(card.due),
        last,
    )
    db.execute("INSERT OR REPLACE INTO cards VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)


def check_retention(value: float) -> float:
    low, high = RETENTION_RANGE
    if not low <= value <= high:
        raise BadInput(f"Retention must be from {low:g} to {high:g}; {value:g} is not.", "retention")
    return value


def load_card(db: sqlite3.Connection, profile: str, question: str, now: datetime) -> Card:
    row = db.execute("SELECT * FROM cards WHERE profile = ? AND question = ?", (profile, question)).fetchone()
    # An id of its own, or py-fsrs takes the wall clock for one and sleeps to keep it unique.
    return Card(card_id=_card_id(question), due=now) if row is None else read_card(row)


def read_card(row: sqlite3.Row) -> Card:
    return Card(
        card_id=_card_id(row["question"]),
        state=State(row["state"]),
        step=row["step"],
        stability=row["stability"],
        difficulty=row["difficulty"],
        due=read_time(row["due"]),
        last_review=read_time(row["last_review"]) if row["last_review"] else None,
    )


def _card_id(question: str) -> int:
    return zlib.crc32(question.encode())


def view(question: str, card: Card) -> CardView:
    return CardView(
        question, card.state.name.lower(), card.due, card.stability, card.difficulty, card.last_review
    )
