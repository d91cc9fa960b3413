"""Storage of learners: one SQLite file, several profiles, safe for several browser tabs at once."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from fsrs import Card, State

from peft_lab.classroom import places
from peft_lab.core.errors import BadInput, UnknownName, in_short

FILE = "learners.db"
VERSION = 1
WAIT = 10.0  # seconds for another tab to finish writing
_SCHEMA = (
    """CREATE TABLE profiles (
        name TEXT PRIMARY KEY COLLATE NOCASE,
        created TEXT NOT NULL,
        retention REAL NOT NULL
    )""",
    """CREATE TABLE cards (
        profile TEXT NOT NULL REFERENCES profiles(name) ON DELETE CASCADE,
        question TEXT NOT NULL,
        state INTEGER NOT NULL,
        step INTEGER,
        stability REAL,
        difficulty REAL,
        due TEXT NOT NULL,
        last_review TEXT,
        PRIMARY KEY (profile, question)
    )""",
    """CREATE TABLE reviews (
        id INTEGER PRIMARY KEY,
        profile TEXT NOT NULL REFERENCES profiles(name) ON DELETE CASCADE,
        question TEXT NOT NULL,
        rating INTEGER NOT NULL,
        at TEXT NOT NULL,
        milliseconds INTEGER
    )""",
    """CREATE TABLE results (
        id INTEGER PRIMARY KEY,
        profile TEXT NOT NULL REFERENCES profiles(name) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        at TEXT NOT NULL,
        content TEXT NOT NULL
    )""",
    """CREATE TABLE kept (
        profile TEXT NOT NULL REFERENCES profiles(name) ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (profile, key)
    )""",
)


def default_path() -> Path:
    """Return the path of the current person's learners' file."""
    return places.mine() / FILE


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield one connection with one transaction: everything inside is written, or nothing.

    Fetch all rows at once: a query that an error leaves half read keeps its lock as long as the traceback exists, and
    everybody else would wait for :data:`WAIT`.

    Raises:
        BadInput: the file is not a database of ours, is damaged, was written by a newer version, or cannot be written.
    """
    connection = _connected(path)
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


def _connected(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
    except (OSError, sqlite3.DatabaseError) as error:
        raise BadInput(f"The learners' file {path.name} cannot be used: {error}.") from error
    connection.row_factory = sqlite3.Row
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == VERSION:
        return
    if version > VERSION:
        raise BadInput(
            f"{path.name} was written by a newer PEFT Lab (format {version}); this one reads format {VERSION}."
        )
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


# ----------------------------------------
# Convert rows of the learners' file to objects, and back: profiles, cards, reviews, results.


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
        raise BadInput(f"A profile name has 1 to {LONGEST_NAME} visible characters.", "profile")
    return clean


def write_time(moment: datetime) -> str:
    """Return a time as text, always with microseconds, so that texts sort as times do."""
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
    # An explicit id; otherwise py-fsrs takes the wall clock for one and sleeps to keep it unique.
    return Card(card_id=_card_id(question), due=now) if row is None else read_card(row)


def read_card(row: sqlite3.Row | Mapping[str, Any]) -> Card:
    """Return a card from its row, or from an exported one."""
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
