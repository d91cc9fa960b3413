"""Schedule flash cards: when each question is due for each learner, by py-fsrs's FSRS; export a learner, and count a
class's predictions without names.

Due dates are exactly py-fsrs's, except that none is after the day of a learner's interview while that is ahead.
py-fsrs's random fuzz, which spreads the cards of large collections over days, is off: equal ratings at equal times give
equal dates.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fsrs import Card, Rating, Scheduler

from peft_lab.classroom import joining, places
from peft_lab.core.asking import Asker, acting_for
from peft_lab.core.content import misfit
from peft_lab.core.errors import BadInput, PeftLabError, UnknownName
from peft_lab.interview.learners import storage
from peft_lab.interview.learners.storage import RatingName
from peft_lab.interview.mock import FULL, Interview, is_exercise

RETENTION = 0.9  # py-fsrs's default: the probability of knowing a card when it is due
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Learners:
    """All learners in one file. Every call is one transaction, so tabs and processes can share the file. ``path``: the
    file; by default the current person's. ``clock``: returns the current time, in UTC; tests pass their own."""

    def __init__(self, path: Path | None = None, clock: Clock = utc_now) -> None:
        self.path = path or places.mine() / storage.FILE
        self._clock = clock

    def now(self) -> datetime:
        """Return the clock's time in UTC, as py-fsrs requires."""
        return self._clock().astimezone(UTC)

    @contextmanager
    def _learner(self, name: str) -> Iterator[tuple[sqlite3.Connection, str]]:
        """Yield one transaction and the learner's name as it was created. Raises :class:`UnknownName`."""
        with storage.transaction(self.path) as db:
            yield db, storage.find(db, name)

    # -- learners --------------------------------------------------------------------------------------------------

    def names(self) -> tuple[str, ...]:
        """Return the names of all learners."""
        with storage.transaction(self.path) as db:
            rows = db.execute("SELECT * FROM profiles ORDER BY name").fetchall()
            return tuple(row["name"] for row in rows if storage.read_time(row["created"]))

    def known(self, name: str) -> str:
        """Return a learner's name as it was created. Raises :class:`UnknownName`."""
        with self._learner(name) as (_, found):
            return found

    def create(self, name: str) -> str:
        """Create a learner and return the name, blanks normalised.

        Raises:
            BadInput: the name is empty, too long or in use (case-insensitive).
        """
        name = storage.check_name(name)
        with storage.transaction(self.path) as db:
            if db.execute("SELECT 1 FROM profiles WHERE name = ?", (name,)).fetchone():
                raise BadInput(f"There is already a learner '{name}'. Choose another name.", "profile")
            db.execute(
                "INSERT INTO profiles VALUES (?, ?, ?)", (name, storage.write_time(self.now()), RETENTION)
            )
        return name

    def remove(self, name: str) -> None:
        """Delete a learner and all their data. Raises :class:`UnknownName`."""
        with self._learner(name) as (db, found):
            db.execute("DELETE FROM profiles WHERE name = ?", (found,))

    def scheduler(self, name: str) -> Scheduler:
        """Return the scheduler of a learner's cards, without fuzz. Raises :class:`UnknownName`."""
        with self._learner(name) as (db, found):
            return _scheduler(db, found)

    # -- cards -----------------------------------------------------------------------------------------------------

    def rate(self, profile: str, question: str, rating: RatingName, milliseconds: int | None = None) -> Card:
        """Record a rating of a question, now, and return its card as it is scheduled.

        Raises:
            UnknownName: there is no such learner or rating.
        """
        grade, now = _rating(rating), self.now()
        with self._learner(profile) as (db, name):
            before = storage.load_card(db, name, question, now)
            card, _ = _scheduler(db, name).review_card(before, grade, now, milliseconds)
            storage.save_card(db, name, question, card)
            db.execute(
                "INSERT INTO reviews (profile, question, rating, at, milliseconds) VALUES (?, ?, ?, ?, ?)",
                (name, question, int(grade), storage.write_time(now), milliseconds),
            )
            return self._ahead(db, name, card)

    def preview(self, profile: str, question: str) -> dict[RatingName, datetime]:
        """Return when the question would be due after each rating, if rated now."""
        now = self.now()
        with self._learner(profile) as (db, name):
            scheduler = _scheduler(db, name)
            rated = {
                rating: scheduler.review_card(
                    storage.load_card(db, name, question, now), _rating(rating), now
                )[0]
                for rating in storage.RATINGS
            }
            return {rating: self._ahead(db, name, card).due for rating, card in rated.items()}

    def cards(self, profile: str) -> dict[str, Card]:
        """Return the card of every rated question, in the order of due dates."""
        with self._learner(profile) as (db, name):
            found = {
                row["question"]: self._ahead(db, name, storage.read_card(row))
                for row in _rows(db, "cards", name, "due, question")
            }
        return dict(sorted(found.items(), key=lambda each: each[1].due))

    def _ahead(self, db: sqlite3.Connection, name: str, card: Card) -> Card:
        """Return a card with its due date before the learner's interview. The file keeps py-fsrs's own date."""
        day = storage.day_kept(_stored(db, name, storage.KEPT_DAY), self.now().date())
        return (
            replace(card, due=storage.due_by(card.due, day, card.last_review)) if card.last_review else card
        )

    def due(self, profile: str, among: Iterable[str]) -> list[str]:
        """Return those of these questions that are due now, longest overdue first."""
        wanted, now = set(among), self.now()
        return [name for name, card in self.cards(profile).items() if card.due <= now and name in wanted]

    def fresh(self, profile: str, among: Iterable[str]) -> list[str]:
        """Return those of these questions that were never rated, in the given order."""
        known = self.cards(profile)
        return [name for name in among if name not in known]

    def reviews(self, profile: str) -> tuple[storage.Review, ...]:
        """Return every rating, oldest first."""
        with self._learner(profile) as (db, name):
            return tuple(
                storage.Review(
                    row["question"],
                    storage.RATINGS[row["rating"] - 1],
                    storage.read_time(row["at"]),
                    row["milliseconds"],
                )
                for row in _rows(db, "reviews", name, "at, id")
            )

    def days_to(
        self,
        profile: str,
        day: date,
        topics: Mapping[str, Sequence[str]],
        seconds: Mapping[str, float],
        asked: Collection[str] = (),
    ) -> tuple[tuple[storage.Readiness, ...], tuple[storage.Day, ...]]:
        """Return how well each topic is known for an interview on ``day``, and what to practise each day up to it.

        Args:
            topics: questions by topic. ``seconds``: how long each takes. ``asked``: topics that the role's
                interviews ask about; empty for all alike.

        Raises:
            BadInput: the day has passed or is too far away.
        """
        now = self.now()
        storage.check_day(day, now.date())
        standing = storage.readiness(topics, self.reviews(profile))
        with self._learner(profile) as (db, name):
            cards = {row["question"]: storage.read_card(row) for row in _rows(db, "cards", name)}
            scheduler = _scheduler(db, name)
            return standing, storage.days_to(
                day, now, cards, standing, topics, seconds, scheduler, asked=asked
            )

    # -- everything else a learner does ------------------------------------------------------------------------------

    def add_result(self, profile: str, kind: str, content: Any) -> None:
        """Store the result of an interview or a prediction. ``content`` must be JSON-able."""
        kept = json.dumps(content)
        with self._learner(profile) as (db, name):
            values = (name, kind, storage.write_time(self.now()), kept)
            db.execute("INSERT INTO results (profile, kind, at, content) VALUES (?, ?, ?, ?)", values)

    def results(
        self, profile: str, kind: str, holding: Mapping[str, Any] = MappingProxyType({})
    ) -> tuple[storage.Result, ...]:
        """Return the stored results of one kind, oldest first, whose content is an object with the fields ``holding``:
        names and types (:func:`peft_lab.core.content.misfit`). An imported file may contain anything."""
        with self._learner(profile) as (db, name):
            rows = [row for row in _rows(db, "results", name, "at, id") if row["kind"] == kind]
            found = [storage.Result(storage.read_time(row["at"]), json.loads(row["content"])) for row in rows]
        return tuple(
            each for each in found if isinstance(each.content, dict) and not misfit(holding, each.content)
        )

    def keep(self, profile: str, key: str, value: Any) -> None:
        """Store a setting or a place (such as in the tour), replacing the last one. ``value`` must be JSON-able."""
        kept = json.dumps(value)
        with self._learner(profile) as (db, name):
            db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (name, key, kept))

    def kept(self, profile: str, key: str, default: Any = None) -> Any:
        """Return the value last stored under this key, else ``default``."""
        with self._learner(profile) as (db, name):
            return _stored(db, name, key, default)


def _stored(db: sqlite3.Connection, profile: str, key: str, default: Any = None) -> Any:
    row = db.execute("SELECT value FROM kept WHERE profile = ? AND key = ?", (profile, key)).fetchone()
    return default if row is None else json.loads(row["value"])


def _rows(db: sqlite3.Connection, table: str, profile: str, order: str = "question") -> list[sqlite3.Row]:
    """Return all of a learner's rows of a table; names of tables and columns come from this module alone."""
    return db.execute(f"SELECT * FROM {table} WHERE profile = ? ORDER BY {order}", (profile,)).fetchall()


def _rating(name: str) -> Rating:
    if name not in storage.RATINGS:
        raise UnknownName("rating", name, storage.RATINGS, "rating")
    return Rating[name.capitalize()]


def _scheduler(db: sqlite3.Connection, profile: str) -> Scheduler:
    retention = db.execute("SELECT retention FROM profiles WHERE name = ?", (profile,)).fetchone()[0]
    return Scheduler(desired_retention=retention, enable_fuzzing=False)


# ----------------------------------------
# What mock interviews and flash cards share: questions asked or known already, and answers as reviews.


LATELY = timedelta(days=14)
HALF = 0.5  # of a point


def rating_of(points: float) -> RatingName:
    """Return the rating for an answer's points: good for all of them, hard for half or more, again for fewer."""
    return "good" if points >= FULL else "hard" if points >= HALF else "again"


def count_as_reviews(file: Learners, learner: str, held: Interview) -> None:
    """Record every answer of an interview, given or passed, as a review now. Other questions do not change. Exercises
    have no card: :mod:`peft_lab.interview.write.progress` keeps them. Raises UnknownName: there is no such learner."""
    for reply in held.replies:
        if is_exercise(reply.question):
            continue
        file.rate(learner, reply.question, rating_of(reply.points), round(1000 * reply.seconds))


def to_avoid(
    earlier: Iterable[Interview], reviews: Sequence[storage.Review], now: datetime
) -> frozenset[str]:
    """Return questions of earlier interviews, and those last rated good or easy within the last two weeks. ``reviews``:
    every rating, oldest first."""
    last = {review.question: review for review in reviews}
    known = {
        name for name, each in last.items() if each.rating in ("good", "easy") and now - each.at <= LATELY
    }
    return frozenset(known.union(*(held.plan.questions for held in earlier)))


EXPORT_FORMAT = "peft-lab-learner"
EXPORT_VERSION = 1


def export_profile(learners: Learners, name: str) -> dict[str, Any]:
    """Return everything stored about one learner. Raises :class:`UnknownName`."""
    with learners._learner(name) as (db, profile):
        row = db.execute("SELECT * FROM profiles WHERE name = ?", (profile,)).fetchone()
        held = {
            table: [
                {key: each[key] for key in tuple(each.keys()) if key not in ("id", "profile")}
                for each in _rows(db, table, profile, order)
            ]
            for table, order in (
                ("cards", "question"),
                ("reviews", "at, id"),
                ("results", "at, id"),
                ("kept", "key"),
            )
        }
        return {
            "format": EXPORT_FORMAT,
            "version": EXPORT_VERSION,
            "profile": profile,
            "created": row["created"],
            "retention": row["retention"],
            **held,
            "results": [{**each, "content": json.loads(each["content"])} for each in held["results"]],
            "kept": {each["key"]: json.loads(each["value"]) for each in held["kept"]},
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
    if not isinstance(data, Mapping) or data.get("format") != EXPORT_FORMAT:
        raise BadInput("This file is not a learner exported by PEFT Lab. Choose another file.", "file")
    if data.get("version") != EXPORT_VERSION:
        raise BadInput(
            f"This learner has format {data.get('version')}; this PEFT Lab reads {EXPORT_VERSION}. Update PEFT Lab.",
            "file",
        )
    target = storage.check_name(name or str(data.get("profile", "")))
    with storage.transaction(learners.path) as db:
        taken = db.execute("SELECT name FROM profiles WHERE name = ?", (target,)).fetchone()
        if taken and not replace:
            raise BadInput(
                f"There is already a learner '{taken['name']}'. Tick the box to replace that learner.",
                "profile",
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
    if not storage.RETENTION_RANGE[0] <= retention <= storage.RETENTION_RANGE[1]:
        raise ValueError(f"retention {retention}")
    db.execute("INSERT INTO profiles VALUES (?, ?, ?)", (name, _time(data["created"]), retention))
    for row in data["cards"]:
        storage.save_card(db, name, row["question"], storage.read_card(_checked(_CARD, row, "A card")))
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


def _time(text: str) -> str:
    return storage.write_time(storage.read_time(text))


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


#: The key under which a learner's predictions are stored: for each prediction, the option they committed to.
COMMITTED = "committed"


@dataclass(frozen=True)
class ClassAnswers:
    """The answers of a class to one prediction. ``id``: the prediction's. ``counts``: how many chose each option, by
    the option's index."""

    id: str
    counts: dict[int, int]

    @property
    def people(self) -> int:
        return sum(self.counts.values())


def commit_prediction(file: Learners, learner: str, prediction: str, option: int) -> None:
    """Store which option a learner commits to; the latest one counts."""
    kept = file.kept(learner, COMMITTED, {})
    file.keep(learner, COMMITTED, {**(kept if isinstance(kept, dict) else {}), prediction: option})


def expected_by_class() -> list[ClassAnswers]:
    """Return every prediction that a learner of the class has committed to, the most answered first. Raises
    NotATeacher: only a teacher may see them."""
    found: dict[str, Counter[int]] = {}
    for learner in joining.learners():  # without teachers, who only demonstrate
        with acting_for(Asker(learner.owner)), suppress(PeftLabError):  # skip a damaged file, keep the others
            file = Learners()
            if not file.path.exists():
                continue
            for profile in file.names():
                kept = file.kept(profile, COMMITTED, {})
                for name, option in kept.items() if isinstance(kept, dict) else ():
                    if type(option) is int:
                        found.setdefault(str(name), Counter())[option] += 1
    rows = [ClassAnswers(name, dict(counts)) for name, counts in found.items()]
    return sorted(rows, key=lambda row: (-row.people, row.id))
