"""The path that somebody is making, kept under their name: it may have no stop yet, and survives restarts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from peft_lab.errors import BadInput
from peft_lab.learners.schedule import Learners
from peft_lab.tour.path import MOST_STOPS, Stop, Tour

_DRAFT = "draft-path"
UNTITLED = "My path"


def load(file: Learners, name: str, pages: Collection[str]) -> Tour:
    """The draft; an empty one where there is none. Raises :class:`BadInput` for one that cannot be followed here."""
    kept = file.kept(name, _DRAFT)
    if kept is None:
        return Tour(UNTITLED, ())
    if kept.get("stops") == []:
        return Tour(str(kept["title"]), ())
    return Tour.from_dict(kept, pages)


def save(file: Learners, name: str, path: Tour, pages: Collection[str]) -> None:
    """Keep the draft. Raises :class:`BadInput` for one that cannot be followed; nothing is kept then."""
    if path.stops:
        path.check(pages)
    file.keep(name, _DRAFT, path.to_dict())


def discard(file: Learners, name: str) -> None:
    """Begin with nothing again."""
    file.keep(name, _DRAFT, None)


def added(path: Tour, stop: Stop) -> Tour:
    """With one more stop at the end. Raises :class:`BadInput` when it is full."""
    if len(path.stops) >= MOST_STOPS:
        raise BadInput(f"A path has at most {MOST_STOPS} stops.", "stops")
    return replace(path, stops=(*path.stops, stop))


def changed(path: Tour, index: int, stop: Stop) -> Tour:
    """With another stop in that place."""
    return replace(path, stops=(*path.stops[:index], stop, *path.stops[index + 1 :]))


def removed(path: Tour, index: int) -> Tour:
    return replace(path, stops=(*path.stops[:index], *path.stops[index + 1 :]))


def moved(path: Tour, index: int, by: int) -> Tour:
    """With a stop moved up (-1) or down (1); at an end it stays."""
    target = min(max(index + by, 0), len(path.stops) - 1)
    rest = list(removed(path, index).stops)
    rest.insert(target, path.stops[index])
    return replace(path, stops=tuple(rest))
