"""Where learners are kept: one SQLite file, several profiles, safe for several browser tabs at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft_lab.classroom import places
from peft_lab.errors import BadInput, in_short

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
    """The learners' file of who asks."""
    return places.mine() / FILE


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """One connection with one transaction: everything inside is written, or nothing.

    Rows are fetched all at once: a query that an error leaves half read holds its lock for as long as the traceback
    lives, and everybody else would wait for :data:`WAIT`.

    Raises:
        BadInput: the file is no database of ours, is damaged, was written by a newer version, or cannot be written to.
    """
    connection = _connected(path)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        # Immediate, because a read that turns into a write cannot wait for another writer and would fail at once.
        connection.execute("BEGIN IMMEDIATE")
        _prepare(connection, path)
        yield connection
        connection.execute("COMMIT")
    except (sqlite3.DatabaseError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        # SQLite has no sums: a flipped bit may have made a time, a number or a kept text into something else.
        raise BadInput(f"The learners' file {path.name} cannot be used: {in_short(error)}.") from error
    finally:
        # Closing rolls back what was not committed.
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
