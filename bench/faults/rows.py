"""What a campaign returns, and the place it works in."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from peft_lab.errors import PeftLabError

LIMIT = 60  # seconds after which a call that answers in one or two has hung


@dataclass
class Row:
    """One line of the table.

    Attributes:
        what: the fault. tried: how often.
        tracebacks: answers that were no sentence: an exception that is not one of this package's, on a terminal, a page
            or in a log.
        hangs: what did not end in its time, or did not work again afterwards.
        lost: files or figures that had been written and are gone or changed, and half-written ones that pass as whole.
        notes: what happened, in a few words. trouble: details of what is counted, for whoever has to mend it.
    """

    what: str
    tried: int = 0
    tracebacks: int = 0
    hangs: int = 0
    lost: int = 0
    notes: str = ""
    trouble: list[str] = field(default_factory=list)

    def traceback(self, detail: str) -> None:
        self.tracebacks += 1
        self.trouble.append(f"traceback: {detail}")

    def hang(self, detail: str) -> None:
        self.hangs += 1
        self.trouble.append(f"hang: {detail}")

    def loss(self, detail: str) -> None:
        self.lost += 1
        self.trouble.append(f"lost: {detail}")

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


@dataclass(frozen=True)
class Place:
    """Where a campaign may write, and the lab folder whose weights it may read."""

    scratch: Path
    weights: Path

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
