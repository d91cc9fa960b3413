"""What became of several runs in their trackers, in a sentence for each tracker: of a comparison or a sweep."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from peft_lab.runs.store import Run
from peft_lab.tracking import kept, start
from peft_lab.tracking.kept import TITLES, Told


@dataclass(frozen=True)
class Summed:
    """Runs that go to one tracker.

    Attributes:
        told: how each of them stands there, one at least.
    """

    told: tuple[Told, ...]

    @property
    def failed(self) -> tuple[Told, ...]:
        """Those of which it was not told all."""
        return tuple(each for each in self.told if each.problem)

    def sentence(self) -> str:
        """For the page and the command line."""
        one, total = self.told[0], len(self.told)
        if total == 1:
            return one.sentence()
        title = TITLES.get(one.tracker, one.tracker)
        if self.failed:
            reasons = Counter(each.problem for each in self.failed).most_common()
            more = " Other reasons stand on their runs." if len(reasons) > 1 else ""
            return (
                f"{title} was not told all of {len(self.failed)} of these {total} runs: {reasons[0][0]}{more}"
            )
        complete = sum(each.complete for each in self.told)
        if complete < total:
            return f"{title}: {complete} of these {total} runs so far."
        at = dict.fromkeys(each.address for each in self.told)
        return f"{title}: all of these {total} runs, in {' and '.join(at)}."


def summed(runs: Sequence[Run]) -> list[Summed]:
    """How runs stand now, one entry for each tracker that any of them goes to."""
    found: dict[str, list[Told]] = {}
    for run in runs:
        for name, told in kept.read(run.folder).items():
            found.setdefault(name, []).append(told)
    return [Summed(tuple(found[name])) for name in sorted(found)]


def waited_for(runs: Sequence[Run], seconds: float) -> list[Summed]:
    """The same of ended runs, once their trackers have all of them; after ``seconds`` as they stand then."""
    deadline = time.monotonic() + seconds
    for run in runs:
        start.wait(run, tuple(kept.read(run.folder)), max(0.0, deadline - time.monotonic()))
    return summed(runs)
