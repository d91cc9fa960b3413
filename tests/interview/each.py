"""One test over hundreds of entries, in a few parts: setting a test up takes longer than looking at an entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

PARTS = 10
Decorator = Callable[[Callable[..., None]], Callable[[int], None]]


def over(entries: Iterable[Any], named: Callable[[Any], str] = lambda entry: entry.id) -> Decorator:
    """Return a decorator that runs a test on every entry; a failure names its entry."""
    listed = list(entries)

    def decorated(test: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize("part", range(min(PARTS, len(listed))))
        def run(part: int) -> None:
            for entry in listed[part::PARTS]:
                try:
                    test(*entry) if isinstance(entry, tuple) else test(entry)
                except BaseException as trouble:
                    trouble.add_note(f"in {named(entry)}")
                    raise

        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        return run

    return decorated
