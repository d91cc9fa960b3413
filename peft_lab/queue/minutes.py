"""How long a learner's runs have trained within a day, and what is left to them of the class's minutes.

One line a turn in the owner's folder, written when it ends: deleting the run gives nothing back. A turn that the end of
the server cut short is not held against the learner.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress

from filelock import FileLock

from peft_lab import units
from peft_lab.classroom import places
from peft_lab.classroom.limits import Limits, of_asker
from peft_lab.errors import RunError
from peft_lab.queue import unended
from peft_lab.runs.store import write_json

TAKEN = ".trained.json"
DAY = 24 * 3600.0
_SLIP = 60.0  # seconds by which clocks may differ

Turn = tuple[float, float]  #: when it ended, seconds since 1970, and how many seconds it took


def taken(now: float | None = None) -> float:
    """Seconds that who asks has trained within a day, what trains now included."""
    return sum(seconds for _, seconds in _turns(time.time() if now is None else now))


def refusal(now: float | None = None) -> str | None:
    """Why who asks may not train now, in one sentence; ``None`` where they may."""
    at = time.time() if now is None else now
    found, turns = of_asker(), _turns(at)
    if found is None or _left(found, turns) > 0:
        return None
    return (
        f"Your runs have trained for {_words(sum(seconds for _, seconds in turns) / 60)} within a day; each learner of "
        f"this class may train for {_words(found.minutes)}. You can train again in "
        f"{units.coarse(_until_free(found, turns, at))}."
    )


def over(now: float) -> bool:
    """Whether turns that have ended took all minutes of who asks: what trains now is not looked for."""
    found = of_asker()
    return found is not None and _left(found, _written(now)) <= 0


def why_ended() -> str:
    """What a run of who asks is told when it uses their last second."""
    found = of_asker()
    return (
        ""
        if found is None
        else f"That was the last of your {_words(found.minutes)} of training within a day."
    )


def note(seconds: float, now: float | None = None) -> None:
    """Keep that a run of who asks had its turn and has just ended. Raises OSError."""
    at = time.time() if now is None else now
    path = places.mine() / TAKEN
    with FileLock(path.with_suffix(".lock")):
        write_json(path, [*_written(at), (at, seconds)])


def said(found: Limits) -> str:
    """What each learner may train, and how much of it who asks has."""
    return f"{_words(found.minutes)} of training within a day ({taken() / 60:,.0f} taken)"


def _words(minutes: float) -> str:
    return f"{minutes:,.0f} minute{'' if round(minutes) == 1 else 's'}"


def _left(found: Limits, turns: Sequence[Turn]) -> float:
    return found.minutes * 60 - sum(seconds for _, seconds in turns)


def _until_free(found: Limits, turns: Sequence[Turn], now: float) -> float:
    """Seconds until enough of the turns are more than a day old."""
    over = -_left(found, turns)
    for ended, seconds in sorted(turns):
        over -= seconds
        if over < 0:
            return max(0.0, ended + DAY - now)
    return DAY


def _turns(now: float) -> list[Turn]:
    return [*_written(now), *_going(now)]


def _written(now: float) -> list[Turn]:
    """Those of the last day; a damaged note says nothing. A turn that ended in the future ended before the clock was
    set back: it is taken, and noted, as having ended now."""
    try:
        turns = [
            (float(ended), float(seconds))
            for ended, seconds in json.loads((places.mine() / TAKEN).read_text())
        ]
    except (OSError, ValueError, TypeError):
        return []
    if any(ended > now + _SLIP for ended, _ in turns):
        turns = [(min(ended, now), seconds) for ended, seconds in turns]
        with suppress(OSError):
            write_json(places.mine() / TAKEN, turns)
    return [(ended, seconds) for ended, seconds in turns if now - ended < DAY]


def _going(now: float) -> list[Turn]:
    turns = []
    for _, run in unended.mine():
        with suppress(RunError):
            began: float | None = None
            for event in run.events():
                if event["type"] == "queued":
                    began = None  # one that goes on keeps its events, of a turn that was noted when it ended
                elif event["type"] == "starting":
                    began = event["time"]
            turns += [] if began is None else [(now, max(0.0, now - began))]
    return turns
