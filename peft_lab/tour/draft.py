"""The path that somebody is making, kept under their name: it may have no stop yet, and survives restarts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from peft_lab.errors import BadInput
from peft_lab.learners.schedule import Learners
from peft_lab.tour.path import MOST_STOPS, Path, Stop

_DRAFT = "draft-path"
UNTITLED = "My path"


def load(file: Learners, name: str, pages: Collection[str]) -> Path:
    """The draft; an empty one where there is none. Raises :class:`BadInput` for one that cannot be followed here."""
    kept = file.kept(name, _DRAFT)
    if kept is None:
        return Path(UNTITLED, ())
    if kept.get("stops") == []:
        return Path(str(kept["title"]), ())
    return Path.from_dict(kept, pages)


def save(file: Learners, name: str, path: Path, pages: Collection[str]) -> None:
    """Keep the draft. Raises :class:`BadInput` for one that cannot be followed; nothing is kept then."""
    if path.stops:
        path.check(pages)
    file.keep(name, _DRAFT, path.to_dict())


def discard(file: Learners, name: str) -> None:
    """Begin with nothing again."""
    file.keep(name, _DRAFT, None)


def added(path: Path, stop: Stop) -> Path:
    """With one more stop at the end. Raises :class:`BadInput` when it is full."""
    if len(path.stops) >= MOST_STOPS:
        raise BadInput(f"A path has at most {MOST_STOPS} stops.", "stops")
    return replace(path, stops=(*path.stops, stop))


def changed(path: Path, index: int, stop: Stop) -> Path:
    """With another stop in that place."""
    return replace(path, stops=(*path.stops[:index], stop, *path.stops[index + 1 :]))


def removed(path: Path, index: int) -> Path:
    return replace(path, stops=(*path.stops[:index], *path.stops[index + 1 :]))


def moved(path: Path, index: int, by: int) -> Path:
    """With a stop moved up (-1) or down (1); at an end it stays."""
    target = min(max(index + by, 0), len(path.stops) - 1)
    rest = list(removed(path, index).stops)
    rest.insert(target, path.stops[index])
    return replace(path, stops=tuple(rest))
