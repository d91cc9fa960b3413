"""What a campaign returns, what one of its cases came to, and the place it works in."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from peft_lab.core.errors import PeftLabError

Case = TypeVar("Case")
LIMIT = 60  # seconds after which a call that answers in one or two has hung


@dataclass
class Outcome:
    """What one case came to.

    Attributes:
        seconds: how long it took. peak_bytes: most memory of its process, 0 if that was not looked at.
        traceback: of an exception that is no answer. hung: it did not end in its time.
        faults: what else must not be, each in a few words.
    """

    seconds: float = 0.0
    peak_bytes: int = 0
    traceback: str = ""
    hung: bool = False
    faults: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        return not (self.traceback or self.hung or self.faults)

    @property
    def told(self) -> str:
        """What is wrong with it."""
        wrong = [f"hung for {self.seconds:.0f} s"] if self.hung else []
        return "; ".join([*wrong, *self.faults, *([self.traceback.strip()] if self.traceback else [])])


@dataclass
class Row:
    """One line of the table.

    Attributes:
        what: the fault. tried: how often.
        tracebacks: answers that were no sentence: an exception that is not one of this package's, on a terminal, a page
            or in a log.
        hangs: what did not end in its time, or did not work again afterwards.
        lost: files or figures that had been written and are gone or changed, and half-written ones that pass as whole.
        notes: what happened, in a few words. others: faults of any other kind; they are told with the notes.
    """

    what: str
    tried: int = 0
    tracebacks: int = 0
    hangs: int = 0
    lost: int = 0
    notes: str = ""
    others: int = 0

    @property
    def clean(self) -> bool:
        return not (self.tracebacks or self.hangs or self.lost or self.others)

    def line(self) -> str:
        """As a line of a Markdown table."""
        others = f"**{self.others} other faults**; " if self.others else ""
        figures = f"{self.tried:,} | {self.tracebacks} | {self.hangs} | {self.lost}"
        return f"| {self.what} | {figures} | {others}{self.notes} |"

    def traceback(self, detail: str) -> None:
        self.tracebacks += 1
        _tell(f"traceback: {detail}")

    def hang(self, detail: str) -> None:
        self.hangs += 1
        _tell(f"hang: {detail}")

    def loss(self, detail: str) -> None:
        self.lost += 1
        _tell(f"lost: {detail}")

    def other(self, detail: str) -> None:
        self.others += 1
        _tell(f"fault: {detail}")

    def take(self, cases: Iterable[tuple[str, Outcome]], expected: str) -> Row:
        """Count all cases; the notes are what is expected of each, and the extremes. Returns the row."""
        slowest, peak = 0.0, 0
        for label, found in cases:
            self.tried += 1
            self.tracebacks += bool(found.traceback)
            self.hangs += found.hung
            self.others += bool(found.faults)
            slowest, peak = max(slowest, found.seconds), max(peak, found.peak_bytes)
            if not found.fine:
                _tell(f"{label}: {found.told}")
        most = f", most memory {peak / 1e6:,.0f} MB" if peak else ""
        self.notes = f"{expected}; slowest {slowest:.1f} s{most}"
        return self

    def guarded(self, label: str, call: Callable[[], object]) -> object:
        """Call from the main thread; a sentence (an error of this package) is fine, all else is counted."""

        def hung(_number: int, _frame: object) -> None:
            raise TimeoutError(f"no answer within {LIMIT} s")

        before = signal.signal(signal.SIGALRM, hung)
        signal.alarm(LIMIT)
        try:
            return call()
        except PeftLabError as error:
            return error
        except TimeoutError as error:
            self.hang(f"{label}: {error}")
        except Exception:  # noqa: BLE001  that is what is counted
            self.traceback(f"{label}: {traceback.format_exc(limit=-3)}")
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        return None


def counted(endings: Mapping[str, int]) -> str:
    """How often each ending came."""
    return ", ".join(f"{amount} {ending}" for ending, amount in sorted(endings.items()))


def _tell(detail: str) -> None:
    """For whoever has to mend it, at once."""
    print(f"    {detail}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Place:
    """Where a campaign may write, the lab folder whose weights it may read, and how long a row may take."""

    scratch: Path
    weights: Path
    minutes: float | None = None

    def in_time(self, cases: Iterable[Case]) -> Iterator[Case]:
        """The cases of a row: all, or as many as begin within the minutes that a row has, but one at least."""
        begun = time.monotonic()
        for case in cases:
            yield case
            if self.minutes is not None and time.monotonic() - begun > 60 * self.minutes:
                return

    def home(self, name: str) -> Path:
        """A lab folder of that name without runs; the weights and sentences are links."""
        return self.link(self.scratch / name)

    def link(self, folder: Path) -> Path:
        """Make the weights and sentences appear in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("models", "data"):
            if not (folder / part).exists():
                (folder / part).symlink_to(self.weights / part, target_is_directory=True)
        return folder
