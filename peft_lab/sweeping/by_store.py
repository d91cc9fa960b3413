"""A driver's side of runs that go by a URL (:mod:`.by_url`): handed over, fetched while they train and at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from peft_lab import units
from peft_lab.errors import RunError, in_short
from peft_lab.runs import going_on
from peft_lab.runs.store import Run
from peft_lab.sweeping import by_url
from peft_lab.sweeping.by_url import Fetching

AT_ONCE = 16  # runs that are looked at together
TRIES = 5  # times that the end of a run is fetched before it is given up, some seconds apart
UNTOLD = 5.0  # seconds for which a store may be away without a word


class Store:
    """The runs of one driver at a URL. Raises BadInput where it cannot be written.

    ``tell`` gets a sentence when the URL is away for seconds, and one when it is back.
    """

    def __init__(self, url: str, tell: Callable[[str], None] = lambda _: None) -> None:
        self.url = url
        self._tell = tell
        self._away: float | None = None  # since when nothing can be fetched, in seconds since 1970
        self._told = False
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
        begun, since, going = time.time(), time.monotonic(), list(self._going.values())
        asked = [self._pool.submit(_look, each) for each in going]
        late = wait(asked, timeout=UNTOLD).not_done
        # One that answered is busy with a large file; one that has not begun waits for such.
        slow = any(
            one in late and one.running() and each.answered < since
            for each, one in zip(going, asked, strict=True)
        )
        if slow:
            self._note(begun, f"no answer within {units.seconds(UNTOLD)}")
        problems = [each for each in [look.result() for look in asked] if each is not None]
        if problems:
            self._note(begun, in_short(problems[0], 200))
        elif asked and not slow:
            self._note_back()
        self._looked = time.monotonic()

    def _note(self, begun: float, why: str) -> None:
        """Nothing could be fetched in a look that was begun then: told once, when that has lasted for some seconds."""
        if self._away is None:
            self._away = begun
        if not self._told and time.time() - self._away >= UNTOLD:
            self._told = True
            since = time.strftime("%H:%M:%S", time.localtime(self._away))
            self._tell(
                f"what nodes make cannot be fetched from {self.url} since {since} ({why.rstrip('.')}): tried again "
                "every second"
            )

    def _note_back(self) -> None:
        if self._told and self._away is not None:
            self._tell(f"{self.url} answers again, after {units.seconds(time.time() - self._away)}")
        self._away, self._told = None, False

    def over(self, run: Run) -> str:
        """Fetch the last of a run whose task has ended, and clear up; why it cannot be, in a sentence, or nothing."""
        fetching = self._going.pop(run.folder)
        why = ""
        for each in range(TRIES):
            try:
                fetching.fetch()
            except Exception as error:  # noqa: BLE001  whatever the library of the URL raises ends this one run
                why = f"What it made cannot be fetched from {self.url}: {in_short(error)}"
                time.sleep(each)
                continue
            self.clear(run)
            return ""
        self._known.discard(run.folder)  # it is there still, for when the run is begun again
        return why

    def clear(self, run: Run) -> None:
        """Remove what a run has there."""
        with suppress(Exception):  # what stays there takes room, and is looked at by nobody
            self._at.below(run.id).remove()

    def left(self, run: Run) -> None:
        """Fetch what nodes made of a run for a driver that was killed meanwhile, unless it has gone on without this
        place since: then its latest turn was never here, and what is here is older. Raises RunError."""
        if run.folder in self._known:
            return
        turn = by_url.turn_of(self._at, run.id, going_on.asked(run))
        try:
            Fetching(turn, run.folder).fetch()
        except Exception as error:
            raise RunError(
                f"What '{run.id}' left cannot be fetched from {self.url}: {in_short(error)}"
            ) from error


def _look(fetching: Fetching) -> Exception | None:
    """What was in the way."""
    try:
        fetching.tell()
        fetching.fetch()
    except Exception as error:  # noqa: BLE001  whatever the library of the URL raises: it is asked again
        return error
    return None
