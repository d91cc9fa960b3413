"""What a free answer is looked through for: the points it has to make, and the errors that people make."""

from __future__ import annotations

from dataclasses import dataclass

from peft_lab.quiz.reading.patterns import Pattern


@dataclass(frozen=True)
class Point:
    """One thing that a good answer says. ``text`` is a whole sentence; ``patterns``: ways of saying it."""

    text: str
    patterns: tuple[Pattern, ...]


@dataclass(frozen=True)
class Error:
    """One thing that is often said and wrong. ``against``: number of the point that it contradicts, or ``None``."""

    text: str
    patterns: tuple[Pattern, ...]
    against: int | None = None


@dataclass(frozen=True)
class Facets:
    """Points and errors of one question."""

    points: tuple[Point, ...]
    errors: tuple[Error, ...]


def facets(*parts: Point | Error) -> Facets:
    """Facets in the order in which they are named.

    Raises:
        ValueError: an error against a point that there is none of.
    """
    points = tuple(each for each in parts if isinstance(each, Point))
    errors = tuple(each for each in parts if isinstance(each, Error))
    for each in errors:
        if each.against is not None and not 0 <= each.against < len(points):
            raise ValueError(f"{each.text!r} is against a point that is not there")
    return Facets(points, errors)
