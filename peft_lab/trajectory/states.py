"""Which states of a run are recorded, and what recording may cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from peft_lab.trajectory.format import STATES

SHARE = 0.04  # of the run's time until now that recording may have taken
FREE = 1.0  # seconds that it may take in any case, so that a short run is recorded too
MEASURING = 0.6  # of the budget: what measuring states may use up, and has to itself; the rest is for answers
BEND = 1.6  # more states at the beginning, where more happens


def states(steps: int, most: int = STATES) -> list[int]:
    """The states of a run of ``steps`` steps that are recorded when time allows: the first, the last, and others that
    lie closer at the beginning.

    >>> states(6), states(60, 8)
    ([0, 1, 2, 3, 4, 5, 6], [0, 1, 8, 15, 25, 35, 47, 60])
    """
    if steps < most:
        return list(range(steps + 1))
    return sorted(
        {1 if number == 1 else round(steps * (number / (most - 1)) ** BEND) for number in range(most)}
    )


@dataclass
class Budget:
    """Time that recording has taken, against that of the run.

    Attributes:
        share: that it may take; ``None``: as much as it likes.
        spent: seconds in all. measured: those of them that measuring took. An answer may take far longer than was
            guessed; what it takes too much is not taken from the states, or the drawing would stand still for long.
    """

    share: float | None = SHARE
    spent: float = 0.0
    measured: float = 0.0

    def __post_init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the run's first step began, recording included."""
        return time.perf_counter() - self._began

    def allows(self, seconds: float, measuring: bool = False) -> bool:
        """Whether something that takes so long may be done now: an answer, or ``measuring`` a state."""
        if self.share is None:
            return True
        most = FREE + self.share * self.elapsed
        return self.measured + seconds <= MEASURING * most if measuring else self.spent + seconds <= most

    @contextmanager
    def counted(self, measuring: bool = False) -> Iterator[None]:
        """What is done inside is recording."""
        start = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - start
            self.spent += took
            self.measured += took if measuring else 0.0
