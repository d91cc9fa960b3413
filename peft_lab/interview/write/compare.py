"""Compare the results of a learner's program with the solution's, and recognise typical mistakes.

Results come as the trees of :mod:`.child`, from a process that nobody trusts: :func:`decode` accepts nothing else.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, cast

import numpy as np

from peft_lab.core.errors import echoed
from peft_lab.interview.write.child import DEEPEST, MOST_NUMBERS, MOST_TEXT

_FIGURES = 3  # of a tensor that differs, shown from the first difference on


class Unreadable(ValueError):
    """Results that the judge's own process does not write."""


@dataclass(frozen=True)
class Raised:
    """An exception. Equal to another of its type; ``line``: of the learner's program."""

    kind: str
    message: str = ""
    line: int | None = None


@dataclass(frozen=True)
class Other:
    """A value that no result may be, by its type."""

    kind: str


@dataclass(frozen=True)
class Test:
    """One case. ``expected`` and ``got`` are short texts, empty where it passed."""

    name: str
    ok: bool
    expected: str = ""
    got: str = ""


def decode(tree: Any, depth: int = 0) -> Any:
    """Return a tree's value: plain values, lists, dicts, arrays, :class:`Raised` and :class:`Other`. Raises Unreadable:
    it is no such tree."""
    if type(tree) is int and abs(tree) >= 2**63:
        raise Unreadable
    if tree is None or type(tree) in (bool, int, float) or (type(tree) is str and len(tree) <= MOST_TEXT):
        return tree
    if type(tree) is not dict or depth > DEEPEST:
        raise Unreadable
    keys = set(tree)
    match tree:
        case {"list": list(items)} if keys == {"list"}:
            return [decode(item, depth + 1) for item in items]
        case {"dict": dict(items)} if keys == {"dict"}:
            return {key: decode(item, depth + 1) for key, item in items.items()}
        case {"tensor": list(shape), "data": str(data)} if keys == {"tensor", "data"}:
            if not all(type(size) is int and 0 <= size <= MOST_NUMBERS for size in shape) or len(shape) > 16:
                raise Unreadable
            with suppress(binascii.Error):
                held = base64.b64decode(data, validate=True)
                if len(held) == 8 * math.prod(shape):
                    return np.frombuffer(held, "<f8").reshape(shape)
        case {"raised": str(kind), "message": str(message), "line": int() | None as line} if len(keys) == 3:
            return Raised(kind[:MOST_TEXT], message[:MOST_TEXT], line)
        case {"other": str(kind)} if keys == {"other"}:
            return Other(kind[:MOST_TEXT])
    raise Unreadable


# ----------------------------------------
# The first difference of two results.


def difference(expected: Any, got: Any, tolerance: float, place: str = "") -> tuple[str, str] | None:
    """Return the first place where two results differ, as what was expected and what was got; None if nowhere."""
    at = f"{place}: " if place else ""
    if type(expected) is list and type(got) is list and len(expected) == len(got):
        parts = [(f"{place}[{index}]", *pair) for index, pair in enumerate(zip(expected, got, strict=True))]
    elif type(expected) is dict and type(got) is dict and set(expected) == set(got):
        parts = [(f"{place}, {key}" if place else key, value, got[key]) for key, value in expected.items()]
    elif isinstance(expected, np.ndarray) and isinstance(got, np.ndarray) and expected.shape == got.shape:
        wrong = np.flatnonzero(~_close(expected, got, tolerance).ravel())
        if not len(wrong):
            return None
        start = int(wrong[0]) if wrong[0] >= _FIGURES else 0
        left, right = (array.ravel()[start : start + _FIGURES].tolist() for array in (expected, got))
        words = figures(left, right)
        if start:
            index = ", ".join(map(str, np.unravel_index(start, expected.shape)))
            at = f"{place or ''}[{index}]: "
        return at + words[0], at + words[1]
    elif _number(expected) and _number(got):
        if bool(_close(np.float64(expected), np.float64(got), tolerance)):
            return None
        left_word, right_word = figures([expected], [got])
        return at + left_word, at + right_word
    else:
        if type(expected) is type(got) and type(expected) in (bool, str, type(None)) and expected == got:
            return None
        if isinstance(expected, Raised) and isinstance(got, Raised) and expected.kind == got.kind:
            return None
        return at + describe(expected), at + describe(got)
    return next(
        filter(None, (difference(left, right, tolerance, where) for where, left, right in parts)), None
    )


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _close(expected: Any, got: Any, tolerance: float) -> Any:
    with np.errstate(all="ignore"):
        return np.isclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def figures(left: Sequence[float], right: Sequence[float]) -> tuple[str, str]:
    """Return two rows of numbers, with as many digits as it takes to tell them apart."""
    if all(math.isfinite(value) and value == int(value) and abs(value) < 1e9 for value in (*left, *right)):
        return tuple(" ".join(f"{int(value):d}" for value in row) for row in (left, right))  # type: ignore[return-value]
    words: tuple[str, str] = ("", "")
    for digits in range(3, 13, 3):
        sizes = [abs(value) for value in (*left, *right) if math.isfinite(value) and value]
        plain = not sizes or (max(sizes) < 1e5 and max(sizes) >= 10.0**-digits)
        kind = f"+.{digits}{'f' if plain else 'e'}"
        words = cast(
            tuple[str, str], tuple(" ".join(format(value, kind) for value in row) for row in (left, right))
        )
        if words[0] != words[1]:
            break
    return words


def describe(value: Any) -> str:
    """Return what a result is, in a few words: its value, or its shape, length or keys."""
    match value:
        case np.ndarray():
            return f"a tensor of shape ({', '.join(map(str, value.shape))})"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return echoed(", ".join(value)) if value else "an empty dict"
        case Raised():
            where = "" if value.line is None else f" in line {value.line}"
            return f"{value.kind}{where}{': ' if value.message else ''}{value.message}"
        case Other():
            return f"an object: {value.kind}"
        case str():
            return repr(echoed(value))
    return str(value)


# ----------------------------------------
# All cases.

#: A program's results: of each case its name and its value.
Results = Sequence[tuple[str, Any]]


def tests(expected: Results, got: Results, tolerance: float) -> tuple[Test, ...]:
    """Return how each case of the solution went."""
    found = []
    for right, mine in zip_longest(expected, got[: len(expected)], fillvalue=("", Raised("no result"))):
        differs = difference(right[1], mine[1], tolerance)
        found.append(Test(right[0], differs is None, *(differs or ())))
    return tuple(found)


def recognise(right: Results, got: Results, wrong: Mapping[str, Results], tolerance: float) -> str | None:
    """Return the id of the mistake whose wrong program gives these results in all cases, if there is one.

    An exception has to have the same message, too: many mistakes end in a RuntimeError. Only where the solution raises
    one as well, its words are free.
    """

    def same(results: Results) -> bool:
        return all(test.ok for test in tests(results, got, tolerance)) and all(
            mine.message == his.message
            for (_, his), (_, mine), (_, expected) in zip(results, got, right, strict=False)
            if isinstance(his, Raised) and not isinstance(expected, Raised)
        )

    return next((name for name, results in wrong.items() if same(results)), None)
