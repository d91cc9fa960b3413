"""A learner's progress on each path, stored with the learner: it survives restarts and is part of an export."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from peft_lab.core.errors import BadInput
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.tour.path import MOST_STOPS, Stop, Tour, newcomer

FIRST = "newcomer"  # the id of the path that every learner has
_PATHS = "paths"
_PLACE = "place"
_LAST = "last-path"


@dataclass(frozen=True)
class Progress:
    """``at``: the stop last opened, ``None`` before the first; ``visited``: all stops opened; ``done``: those whose
    control was changed."""

    at: int | None = None
    visited: frozenset[int] = frozenset()
    done: frozenset[int] = frozenset()


def path_id(path: Tour) -> str:
    return FIRST if path == newcomer() else path.id


def progress(file: Learners, learner: str, identity: str) -> Progress:
    """Return the learner's progress on a path. Raises :class:`UnknownName` if there is no such learner."""
    kept = file.kept(learner, f"{_PLACE}.{identity}")
    if kept is None:
        return Progress()
    try:
        visited, done = (
            frozenset(int(index) for index in kept.get(name, ())) for name in ("visited", "done")
        )
        return Progress(int(kept["at"]), visited, done)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{learner}'s place on the path cannot be read: {kept!r}"[:200]) from error


def visit(file: Learners, learner: str, identity: str, index: int) -> None:
    """Record that a stop was opened."""
    before = progress(file, learner, identity)
    _keep(file, learner, identity, Progress(index, before.visited | {index}, before.done))


def do(file: Learners, learner: str, identity: str, index: int) -> None:
    """Record that a stop's control was changed."""
    before = progress(file, learner, identity)
    if index not in before.done:
        _keep(file, learner, identity, Progress(index, before.visited | {index}, before.done | {index}))


def _keep(file: Learners, learner: str, identity: str, now: Progress) -> None:
    kept = {"at": now.at, "visited": sorted(now.visited), "done": sorted(now.done)}
    file.keep(learner, f"{_PLACE}.{identity}", kept)
    file.keep(learner, _LAST, identity)


def last(file: Learners, learner: str) -> str:
    """Return the id of the path the learner was on last; initially the newcomer's."""
    return str(file.kept(learner, _LAST, FIRST))


def start_over(file: Learners, learner: str, identity: str) -> None:
    """Reset the learner's progress on a path."""
    file.keep(learner, f"{_PLACE}.{identity}", None)


def paths(file: Learners, learner: str, pages: Collection[str]) -> dict[str, Tour]:
    """Return the paths that the learner can follow, by id: the newcomer's and those added."""
    kept: list[Any] = file.kept(learner, _PATHS, [])
    found = [Tour.from_dict(entry, pages) for entry in kept]
    return {FIRST: newcomer()} | {path.id: path for path in found}


def take_in(file: Learners, learner: str, path: Tour, pages: Collection[str]) -> str:
    """Add a teacher's path to the learner's and return its id. A path that is there already is not added twice."""
    known = paths(file, learner, pages)
    identity = path_id(path)
    if identity not in known:
        own = [each.to_dict() for name, each in known.items() if name != FIRST]
        file.keep(learner, _PATHS, [*own, path.to_dict()])
    return identity


def let_go(file: Learners, learner: str, identity: str, pages: Collection[str]) -> None:
    """Remove a path that was added, and the progress on it."""
    own = {name: each for name, each in paths(file, learner, pages).items() if name not in (FIRST, identity)}
    file.keep(learner, _PATHS, [each.to_dict() for each in own.values()])
    start_over(file, learner, identity)


# ----------------------------------------
# The draft of a path that somebody is making, stored under their name: it may be empty, and survives restarts.


_DRAFT = "draft-path"
UNTITLED = "My path"


def load_draft(file: Learners, name: str, pages: Collection[str]) -> Tour:
    """Return the draft, empty if there is none. Raises :class:`BadInput` if it cannot be followed here."""
    kept = file.kept(name, _DRAFT)
    if kept is None:
        return Tour(UNTITLED, ())
    if kept.get("stops") == []:
        return Tour(str(kept["title"]), ())
    return Tour.from_dict(kept, pages)


def save_draft(file: Learners, name: str, path: Tour, pages: Collection[str]) -> None:
    """Store the draft. Raises :class:`BadInput`, storing nothing, if it cannot be followed."""
    if path.stops:
        path.check(pages)
    file.keep(name, _DRAFT, path.to_dict())


def discard_draft(file: Learners, name: str) -> None:
    """Delete the draft."""
    file.keep(name, _DRAFT, None)


def added_to_draft(path: Tour, stop: Stop) -> Tour:
    """Return the path with one more stop at the end. Raises :class:`BadInput` if it is full."""
    if len(path.stops) >= MOST_STOPS:
        raise BadInput(f"A path has at most {MOST_STOPS} stops.", "stops")
    return replace(path, stops=(*path.stops, stop))


def changed_draft(path: Tour, index: int, stop: Stop) -> Tour:
    """Return the path with another stop in that place."""
    return replace(path, stops=(*path.stops[:index], stop, *path.stops[index + 1 :]))


def removed_stop(path: Tour, index: int) -> Tour:
    return replace(path, stops=(*path.stops[:index], *path.stops[index + 1 :]))


def moved_stop(path: Tour, index: int, by: int) -> Tour:
    """Return the path with a stop moved up (-1) or down (1); at an end it stays."""
    target = min(max(index + by, 0), len(path.stops) - 1)
    rest = list(removed_stop(path, index).stops)
    rest.insert(target, path.stops[index])
    return replace(path, stops=tuple(rest))
