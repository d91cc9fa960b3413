"""Who carries out a sweep's runs. They are folders of the run store, whoever does: that is how results come back."""

from __future__ import annotations

from typing import Protocol

from peft_lab.queue.queue import RunQueue
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run


class Executor(Protocol):
    """Starts runs; where they stand is read from the run store."""

    @property
    def slots(self) -> int:
        """How many may be under way at once."""

    def start(self, spec: RunSpec) -> str:
        """Begin a new run; its id. Raises PeftLabError where it cannot be."""

    def again(self, run: Run) -> None:
        """Let a run that ended too early go on, or begin once more in its own folder. Raises PeftLabError."""

    def look(self) -> None:
        """Called now and then: give runs whose process was lost for good their ending."""

    def close(self) -> None:
        """No more runs come."""


class Local:
    """This machine's queue, where one run trains at a time. No other waits in it: a killed driver loses none."""

    slots = 1

    def __init__(self, queue: RunQueue) -> None:
        self._queue = queue

    def start(self, spec: RunSpec) -> str:
        return self._queue.submit(spec)

    def again(self, run: Run) -> None:
        self._queue.go_on(run.id, anew=True)

    def look(self) -> None:
        """The queue ends its runs itself."""

    def close(self) -> None:
        """The queue ends with its process."""
