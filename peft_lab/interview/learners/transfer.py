"""Export a learner as one JSON document, and import it on another machine."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from fsrs import Rating

from peft_lab.core.errors import BadInput
from peft_lab.core.kinds import misfit
from peft_lab.interview.learners import storage
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.learners.storage import (
    RETENTION_RANGE,
    check_name,
    find,
    read_card,
    read_time,
    save_card,
    write_time,
)

FORMAT = "peft-lab-learner"
VERSION = 1


def export_profile(learners: Learners, name: str) -> dict[str, Any]:
    """Return everything stored about one learner. Raises :class:`UnknownName`."""
    with storage.transaction(learners.path) as db:
        profile = find(db, name)
        row = db.execute("SELECT * FROM profiles WHERE name = ?", (profile,)).fetchone()
        return {
            "format": FORMAT,
            "version": VERSION,
            "profile": profile,
            "created": row["created"],
            "retention": row["retention"],
            "cards": _rows(db, "SELECT * FROM cards WHERE profile = ? ORDER BY question", profile),
            "reviews": _rows(db, "SELECT * FROM reviews WHERE profile = ? ORDER BY at, id", profile),
            "results": [
                {**each, "content": json.loads(each["content"])}
                for each in _rows(db, "SELECT * FROM results WHERE profile = ? ORDER BY at, id", profile)
            ],
            "kept": {
                each["key"]: json.loads(each["value"])
                for each in _rows(db, "SELECT * FROM kept WHERE profile = ? ORDER BY key", profile)
            },
        }


def import_profile(learners: Learners, data: Any, name: str | None = None, replace: bool = False) -> str:
    """Import a learner; all of it or nothing.

    Args:
        data: what :func:`export_profile` returned, possibly read from a file.
        name: another name than the exported one.
        replace: overwrite a learner of that name.

    Returns:
        the learner's name.

    Raises:
        BadInput: the document is of another kind or damaged, or the name is in use.
    """
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise BadInput("This is not a learner exported by PEFT Lab.", "file")
    if data.get("version") != VERSION:
        raise BadInput(
            f"This learner was exported in format {data.get('version')}; this PEFT Lab reads {VERSION}.",
            "file",
        )
    target = check_name(name or str(data.get("profile", "")))
    with storage.transaction(learners.path) as db:
        taken = db.execute("SELECT name FROM profiles WHERE name = ?", (target,)).fetchone()
        if taken and not replace:
            raise BadInput(
                f"There is a profile '{taken['name']}' already; choose another name or replace it.", "profile"
            )
        db.execute("DELETE FROM profiles WHERE name = ?", (target,))
        try:
            _insert(db, target, data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # The transaction is rolled back, and the deletion with it.
            raise BadInput(f"The exported learner is damaged: {error}.", "file") from error
    return target


def _insert(db: sqlite3.Connection, name: str, data: Mapping[str, Any]) -> None:
    retention = _checked(_LEARNER, data, "A learner")["retention"]
    if not RETENTION_RANGE[0] <= retention <= RETENTION_RANGE[1]:
        raise ValueError(f"retention {retention}")
    db.execute("INSERT INTO profiles VALUES (?, ?, ?)", (name, _time(data["created"]), retention))
    for row in data["cards"]:
        save_card(db, name, row["question"], read_card(_checked(_CARD, row, "A card")))
    for row in data["reviews"]:
        _checked(_REVIEW, row, "A review")
        values = (name, row["question"], int(Rating(row["rating"])), _time(row["at"]), row["milliseconds"])
        db.execute(
            "INSERT INTO reviews (profile, question, rating, at, milliseconds) VALUES (?, ?, ?, ?, ?)", values
        )
    for row in data["results"]:
        _checked(_RESULT, row, "A result")
        result = (name, row["kind"], _time(row["at"]), json.dumps(row["content"]))
        db.execute("INSERT INTO results (profile, kind, at, content) VALUES (?, ?, ?, ?)", result)
    for key, value in data["kept"].items():
        db.execute("INSERT INTO kept VALUES (?, ?, ?)", (name, key, json.dumps(value)))


def _rows(db: sqlite3.Connection, query: str, profile: str) -> list[dict[str, Any]]:
    return [
        {key: row[key] for key in tuple(row.keys()) if key not in ("id", "profile")}
        for row in db.execute(query, (profile,)).fetchall()
    ]


def _time(text: str) -> str:
    return write_time(read_time(text))


def _checked(kinds: Mapping[str, Any], row: Any, what: str) -> Any:
    """Return a row unchanged. Raises ValueError if a field has the wrong type."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{what} cannot be {str(row)[:40]!r}")
    wrong = misfit(kinds, row)
    if wrong:
        raise ValueError(f"{what}'s {wrong} cannot be {str(row.get(wrong))[:40]!r}")
    return row


_LEARNER = {"retention": float, "created": str, "cards": list, "reviews": list, "results": list, "kept": dict}
_CARD = {
    "question": str, "state": int, "step": int | None, "stability": float | None, "difficulty": float | None,
    "due": str, "last_review": str | None,
}  # fmt: skip
_REVIEW = {"question": str, "rating": int, "at": str, "milliseconds": int | None}
_RESULT = {"kind": str, "at": str}
