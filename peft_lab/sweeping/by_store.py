"""A driver's side of runs that go by a URL (:mod:`.by_url`): handed over, fetched while they train and at the end."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from peft_lab.errors import RunError
from peft_lab.runs.store import Run
from peft_lab.sweeping import by_url
from peft_lab.sweeping.by_url import Fetching

AT_ONCE = 16  # runs that are looked at together
TRIES = 5  # times that the end of a run is fetched before it is given up, some seconds apart


class Store:
    """The runs of one driver at a URL. Raises BadInput where it cannot be written."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._at = by_url.place(url)
        self._going: dict[Path, Fetching] = {}
        self._known: set[Path] = set()
        self._looked = 0.0
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetching")

    def hand_over(self, run: Run, turn: float) -> None:
        """Give a run to whichever node will carry it out. Raises RunError, and the run has failed, where it cannot."""
        try:
            self._going[run.folder] = by_url.handed_over(self._at, run, turn)
        except RunError as error:
            run.log.end("failed", message=str(error))
            raise
        self._known.add(run.folder)

    def look(self) -> None:
        """Fetch what has come of the runs under way, once in a second. A store that is away is asked again."""
        if time.monotonic() - self._looked < by_url.EVERY:
            return
        list(self._pool.map(_look, list(self._going.values())))
        self._looked = time.monotonic()

    def over(self, run: Run) -> str:
        """Fetch the last of a run whose task has ended, and clear up; why it cannot be, in a sentence, or nothing."""
        fetching = self._going.pop(run.folder)
        why = ""
        for each in range(TRIES):
            try:
                fetching.fetch()
            except Exception as error:  # noqa: BLE001  whatever the library of the URL raises ends this one run
                why = f"What it made cannot be fetched from {self.url}: {' '.join(str(error).split())[:300]}"
                time.sleep(each)
                continue
            with suppress(Exception):  # what stays there takes room, and is looked at by nobody
                self._at.below(run.id).remove()
            return ""
        return why

    def left(self, run: Run) -> None:
        """Fetch what nodes made of a run for a driver that was killed meanwhile. Raises RunError."""
        if run.folder in self._known:
            return
        try:
            for turn in by_url.turns(self._at, run.id)[-1:]:
                Fetching(turn, run.folder).fetch()
        except Exception as error:
            raise RunError(
                f"What '{run.id}' left cannot be fetched from {self.url}: {' '.join(str(error).split())[:300]}"
            ) from error


def _look(fetching: Fetching) -> None:
    with suppress(Exception):
        fetching.tell()
        fetching.fetch()
