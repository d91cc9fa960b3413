"""One class, one landscape: each learner guesses the score of one square of rank and learning rate, and trains it.

``class/map.json`` holds who has which square. It is changed under a lock, so two learners who press at once get two
squares; a guess and a result are stored once.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from filelock import FileLock

from peft_lab.classroom import joining, places
from peft_lab.core import content, disk
from peft_lab.core.asking import Asker, acting_for
from peft_lab.core.errors import BadInput, PeftLabError, UnreadableFile
from peft_lab.runs import store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.view import RunView, Status
from peft_lab.studies.shipped_sweep import ATTENTION, LORA, SweepPoint, request_again, shipped_points

RANKS = (32, 16, 8, 4, 2)
RATES = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)
SQUARES = tuple((rank, rate) for rank in RANKS for rate in RATES)
MODEL, ROWS = "smollm2-135m", 32  # held-out rows that score a square, as in the shipped sweep
_LOCK = ".map.lock"
_SPREAD = 7  # has no divisor in common with the number of squares


@dataclass(frozen=True)
class Square:
    """A learner's square."""

    at: int  # its place in SQUARES
    turn: int = 0  # how many learners had it before; the seed of its run
    guess: int | None = None  # exact matches of ROWS; before a guess None
    run: str = ""
    right: int | None = None  # as guess, measured
    recorded: bool = False  # whether the result comes from the shipped sweep


@dataclass
class ClassMap:
    """Squares by owner. ``filled``: whether recorded results stand in for runs that have not begun."""

    squares: dict[str, Square] = field(default_factory=dict)
    filled: bool = False


def _file() -> Path:
    return places.shared() / places.FOLDER / "map.json"


def stored_map() -> ClassMap:
    """Return the map; an empty one before the first square. Raises PeftLabError for a damaged file."""
    if not _file().exists():
        return ClassMap()
    try:
        told = disk.read_json(_file())
        squares = {
            owner: Square(**content.read_typed(Square, square, "A square"))
            for owner, square in told["squares"].items()
        }
        for square in squares.values():
            range(len(SQUARES)).index(square.at)  # a ValueError for a square outside the map
        return ClassMap(squares, told["filled"] is True)
    except (UnreadableFile, BadInput, AttributeError, KeyError, TypeError, ValueError) as error:
        raise PeftLabError(f"The class's map is damaged ({error}). The teacher can clear it.") from error


@contextmanager
def _changing() -> Iterator[ClassMap]:
    """Lock the map, yield it to be changed, and store it."""
    try:
        with FileLock(_file().with_name(_LOCK)):
            found = stored_map()
            yield found
            disk.write_json(_file(), asdict(found))
    except OSError as error:
        raise PeftLabError(f"The class's map cannot be stored: {disk.reason(error)}.") from error


def take(owner: str) -> Square:
    """Return the learner's square; give them a free one if they have none, and of shared ones the least shared. Squares
    of people who were removed, or left before there was a result, are free again. A few squares are spread over the
    map."""
    mine = stored_map().squares.get(owner)
    if mine is not None:
        return mine
    with _changing() as found:
        for other, square in list(found.squares.items()):
            gone = not places.of(other).is_dir()
            if gone or (square.right is None and joining.learner_of(other).left):
                del found.squares[other]
        holders = Counter(square.at for square in found.squares.values())
        at = min(range(len(SQUARES)), key=lambda place: (holders[place], place * _SPREAD % len(SQUARES)))
        return found.squares.setdefault(owner, Square(at, holders[at]))


def guess(owner: str, right: int) -> bool:
    """Store a learner's guess; return whether it is their first, as later ones change nothing. Raises BadInput."""
    if not 0 <= right <= ROWS:
        raise BadInput(f"Guess a number from 0 to {ROWS}.")
    return _once(owner, guess=right)


def land(owner: str, right: int, recorded: bool = False) -> bool:
    """Store the result of a learner's square; return whether it is the first, as later ones change nothing."""
    return _once(owner, right=right, recorded=recorded)


def _once(owner: str, **values: int) -> bool:
    with _changing() as found:
        square = _of(found, owner)
        if getattr(square, next(iter(values))) is not None:
            return False
        found.squares[owner] = replace(square, **values)  # type: ignore[arg-type]
        return True


def _of(found: ClassMap, owner: str) -> Square:
    if owner not in found.squares:
        raise BadInput("Your teacher has cleared the map. Open the page again to get a new square.")
    return found.squares[owner]


def fill() -> None:
    """Let recorded results stand in for runs that have not begun. Raises NotATeacher."""
    places.require_teacher()
    with _changing() as found:
        found.filled = True


def clear() -> None:
    """Delete all squares, guesses and results. Raises NotATeacher, or PeftLabError if the disk refuses."""
    places.require_teacher()
    try:
        with FileLock(_file().with_name(_LOCK)):
            _file().unlink(missing_ok=True)
    except OSError as error:
        raise PeftLabError(f"The class's map cannot be cleared: {disk.reason(error)}.") from error


# ----------------------------------------
# What trains a square, and what was recorded: LoRA on the attention maps, as in the shipped sweep.


@cache
def _swept() -> tuple[SweepPoint, ...]:
    points = shipped_points().on(MODEL)
    return tuple(one for one in points if (one.method, one.targets, one.seed) == (LORA, ATTENTION, 0))


@cache
def recordings() -> dict[int, int]:
    """Return the exact matches of the squares that are in the shipped sweep, by place."""
    return {SQUARES.index((one.rank, one.rate)): round((one.metric or 0) * ROWS) for one in _swept()}


def request(square: Square) -> RunRequest:
    """Return the run of a square."""
    rank, rate = SQUARES[square.at]
    return request_again(shipped_points(), replace(_swept()[0], rank=rank, rate=rate, seed=square.turn))


def train(owner: str) -> None:
    """Queue the run of a learner's square, unless a recorded result stands in for it. Raises BadInput without a guess,
    or after the map was cleared, and what :meth:`peft_lab.runs.queue.RunQueue.submit` raises."""
    before = stored_map()
    square = _of(before, owner)
    if square.guess is None:
        raise BadInput("Guess first, then train your square.")
    if before.filled and square.at in recordings():
        return
    run = get_queue().submit(request(square))
    with _changing() as found:
        found.squares[owner] = replace(_of(found, owner), run=run)


# ----------------------------------------
# The map as it is now.


@dataclass(frozen=True)
class Seen:
    """A square as it is now. ``owner`` is empty for one that nobody has; ``view`` is of its run."""

    owner: str
    title: str
    square: Square
    view: RunView | None = None

    @property
    def standing(self) -> str:
        """Return guessing, done, training, waiting or stopped: a result counts after the guess."""
        if self.owner and self.square.guess is None:
            return "guessing"
        if self.square.right is not None:
            return "done"
        if self.view is None or self.view.status.final:
            return "stopped"
        return "waiting" if self.view.status is Status.QUEUED else "training"


def look(owner: str) -> Seen:
    """Return a learner's square now, after storing a result that has come: of their run, or the recorded one. Raises
    BadInput if the map was cleared."""
    found = stored_map()
    square, view = _of(found, owner), None
    if square.right is None and square.run:
        with acting_for(Asker(owner)), suppress(PeftLabError):  # deleted or damaged: it trains no more
            view = store.get(square.run).view()
    waits = view is None or view.status.final or view.status is Status.QUEUED
    if view is not None and view.status is Status.DONE and view.after is not None:
        land(owner, round(view.after.metrics["exact_match"] * view.after.rows))
    elif (
        found.filled
        and square.guess is not None
        and square.right is None
        and waits
        and square.at in recordings()
    ):
        land(owner, recordings()[square.at], recorded=True)
        if square.run:
            with acting_for(Asker(owner)), suppress(PeftLabError):
                get_queue().stop(square.run, "Your teacher filled in the recorded result.")
    return Seen(owner, joining.learner_of(owner).title, _of(stored_map(), owner), view)


def look_at_all() -> list[Seen]:
    """Return all squares now; those filled in where nobody is come last."""
    found = stored_map()
    seen = [look(owner) for owner in found.squares if places.of(owner).is_dir()]
    free = recordings().keys() - {one.square.at for one in seen} if found.filled else ()
    return seen + [Seen("", "", Square(at, right=recordings()[at], recorded=True)) for at in sorted(free)]


@dataclass(frozen=True)
class Summary:
    """What the class found. ``by_rank`` and ``by_rate``: between the lowest and the highest mean of a rank or rate with
    two results or more, in rows; ``None`` with fewer than two of these."""

    people: Counter[str]  # by Seen.standing
    best: tuple[int, int] | None  # the place with most exact matches, and how many
    off: float | None  # mean distance of guesses from results, in rows
    by_rank: float | None
    by_rate: float | None


def summary(seen: Sequence[Seen]) -> Summary:
    """Return what the class found."""
    done = [one.square for one in seen if one.standing == "done"]
    rights = {square.at: square.right for square in reversed(done) if square.right is not None}
    off = [abs(one.guess - one.right) for one in done if one.guess is not None and one.right is not None]

    def spread(group: Callable[[int], int]) -> float | None:
        groups: dict[int, list[int]] = {}
        for at, right in rights.items():
            groups.setdefault(group(at), []).append(right)
        means = [statistics.fmean(found) for found in groups.values() if len(found) > 1]
        return max(means) - min(means) if len(means) > 1 else None

    return Summary(
        Counter(one.standing for one in seen if one.owner),
        max(rights.items(), key=lambda row: (row[1], -row[0]), default=None),
        statistics.fmean(off) if off else None,
        spread(lambda at: at // len(RATES)),
        spread(lambda at: at % len(RATES)),
    )
