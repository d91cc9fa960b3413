"""Count how long a learner's runs have trained within a day, and what is left of the class's minutes.

The owner's folder holds one entry per turn, written when the turn ends, so deleting a run gives no time back.
A turn cut short by the end of the server is not counted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from peft_lab.classroom import places
from peft_lab.core import disk, units
from peft_lab.core.asking import limits_of_asker
from peft_lab.core.errors import BadInput, PeftLabError, RunError
from peft_lab.runs import admission, store, waiting
from peft_lab.runs.spec import RunSpec
from peft_lab.training.tasks.hub import UPLOADS

MINUTES_FILE = ".trained.json"
DAY = 24 * 3600.0
_SLIP = 60.0  # seconds by which clocks may differ

Turn = tuple[float, float]  #: when it ended, seconds since 1970, and how many seconds it took


def minutes_taken(now: float | None = None) -> float:
    """Return the seconds that the current learner has trained within a day, the current run included."""
    return _sum(_turns(time.time() if now is None else now))


def minutes_refusal(now: float | None = None) -> str | None:
    """Return why the current learner may not train now, in one sentence; ``None`` if they may."""
    at = time.time() if now is None else now
    found, turns = limits_of_asker(), _turns(at)
    if found is None or (over := _sum(turns) - found.minutes * 60) < 0:
        return None
    free = at + DAY  # when enough of the turns are more than a day old
    for ended, seconds in sorted(turns):
        over -= seconds
        if over < 0:
            free = ended + DAY
            break
    return (
        f"Your runs have trained for {_words(_sum(turns) / 60)} in the last day; the limit in this class is "
        f"{_words(found.minutes)}. You can train again in {units.coarse(max(0.0, free - at))}."
    )


def minutes_over(now: float) -> bool:
    """Return whether the current learner's ended turns have used up all minutes; running ones do not count."""
    found = limits_of_asker()
    return found is not None and _sum(_written(now)) >= found.minutes * 60


def why_ended() -> str:
    """Return what a run reports when it uses up the learner's minutes; empty without a limit."""
    found = limits_of_asker()
    return "" if found is None else f"This run used up your {_words(found.minutes)} of training per day."


def note_minutes(seconds: float, now: float | None = None) -> None:
    """Record that a run of the current learner has just ended its turn. Raises OSError."""
    at = time.time() if now is None else now
    path = places.mine() / MINUTES_FILE
    with FileLock(path.with_suffix(".lock")):
        disk.write_json(path, [*_written(at), (at, seconds)])


def _words(minutes: float) -> str:
    return f"{minutes:,.0f} minute{'' if round(minutes) == 1 else 's'}"


def _sum(turns: Sequence[Turn]) -> float:
    return sum(seconds for _, seconds in turns)


def _written(now: float) -> list[Turn]:
    """Return the last day's recorded turns; one that ended before the clock was set back counts as ending now."""
    path = places.mine() / MINUTES_FILE
    try:
        turns = [(float(ended), float(seconds)) for ended, seconds in disk.read_json(path, [])]
    except (ValueError, TypeError):
        return []
    if any(ended > now + _SLIP for ended, _ in turns):
        turns = [(min(ended, now), seconds) for ended, seconds in turns]
        with suppress(OSError):
            disk.write_json(path, turns)
    return [(ended, seconds) for ended, seconds in turns if now - ended < DAY]


def _turns(now: float) -> list[Turn]:
    """Return the last day's turns, those that have not ended yet included."""
    turns = _written(now)
    for _, run in waiting.is_mine():
        with suppress(RunError):
            # a resumed run keeps the events of earlier, recorded turns
            latest = next(
                (event for event in reversed(run.events()) if event["type"] in ("queued", "starting")), {}
            )
            if latest.get("type") == "starting":
                turns.append((now, max(0.0, now - latest["time"])))
    return turns


# ----------------------------------------
# The limits on what a learner of a class may start or keep: shown beforehand, and enforced.
#
# Nothing is limited without a class, for its teacher, or for whoever works on the machine itself.


MEGABYTE = 10**6
_FRESH = 3.0  # seconds: pages ask at every rerun
_asking = threading.Lock()
#: Runs that were admitted and are not queued yet: their owner's folder, and the bytes they need.
_coming: list[tuple[Path, int]] = []
_folder_sizes: dict[Path, tuple[float, int]] = {}


@contextmanager
def admitted(steps: int, written: int) -> Iterator[None]:
    """Check the class's limits for a run that writes at most ``written`` bytes, and reserve its place until it is
    queued, inside the block. Raises RunError with :func:`limit_refusal`."""
    place = (store.root(), written)
    with _asking:
        _folder_sizes.pop(store.root(), None)
        problem = _limit_refusal(steps, written)
        if problem is not None:
            raise RunError(problem)
        _coming.append(place)
    try:
        yield
    finally:
        with _asking:
            _coming.remove(place)


@contextmanager
def storing(more: int) -> Iterator[None]:
    """Allow an upload of ``more`` bytes inside the block, one at a time. Raises BadInput if it is refused."""
    with _asking:
        refused = refusal_of_upload(more)
        if refused is not None:
            raise BadInput(refused, "own_data")
        yield


def limit_refusal(spec: RunSpec) -> str | None:
    """Return why the current learner may not start this new run now, in one sentence; ``None`` if they may."""
    return (
        None if limits_of_asker() is None else _limit_refusal(spec.steps, admission.needed_disk_bytes(spec))
    )


def _limit_refusal(steps: int, needed: int) -> str | None:
    """Return why no run of that many steps may start that writes up to ``needed`` bytes."""
    found = limits_of_asker()
    if found is None:
        return None
    too_long = refusal_of_steps(steps)
    if too_long is not None:
        return too_long
    going = under_way()
    if going >= found.runs:
        return (
            f"{going} of your runs have not ended; the limit in this class is {found.runs}. Wait until one ends, or "
            "stop one on the Runs page."
        )
    used_up = minutes_refusal()
    if used_up is not None:
        return used_up
    taken = size_taken(store.root()) + sum(bytes_ for place, bytes_ in _coming if place == store.root())
    for _, run in waiting.is_mine():  # what they may still write
        with suppress(PeftLabError):  # damaged or deleted just now
            taken += max(0, admission.needed_disk_bytes(run.spec) - size_taken(run.folder))
    if taken + needed > found.megabytes * MEGABYTE:
        return (
            f"Your runs take up to {units.size(taken)}, and this run would take up to {units.size(needed)} more; the "
            f"limit in this class is {units.size(found.megabytes * MEGABYTE)}. Delete runs on the Runs page."
        )
    return None


def refusal_of_steps(steps: int) -> str | None:
    """Return why the current learner may not train for that many steps; ``None`` if they may."""
    found = limits_of_asker()
    if found is None or steps <= found.steps:
        return None
    return f"{steps:,} steps are too many: the limit in this class is {found.steps:,} steps per run."


def refusal_of_upload(more: int) -> str | None:
    """Return why the current learner may not upload ``more`` bytes; ``None`` if they may."""
    found = limits_of_asker()
    if found is None:
        return None
    taken, most = size_taken(places.mine() / UPLOADS, fresh=True), found.upload_megabytes * MEGABYTE
    if taken + more <= most:
        return None
    return (
        f"Your files take {units.size(taken)}, and this file would take {units.size(more)} more; the limit in this "
        f"class is {units.size(most)}. Remove files on the Runs page; otherwise they are removed {found.days} days "
        "after their upload."
    )


def limits_said() -> str:
    """Return the current learner's limits and how much of them is used, in words; empty without limits."""
    found = limits_of_asker()
    if found is None:
        return ""
    return (
        f"In this class: at most {units.several(found.runs, 'run')} at a time ({under_way()} now), "
        f"{found.steps:,} steps each, {_words(found.minutes)} of training per day "
        f"({minutes_taken() / 60:,.0f} used), {units.size(found.megabytes * MEGABYTE)} in all "
        f"({units.size(size_taken(store.root()))} used)."
    )


def under_way() -> int:
    """Return how many runs of the current learner have not ended, or are admitted and about to be queued."""
    return len(waiting.is_mine()) + sum(place == store.root() for place, _ in _coming)


def size_taken(folder: Path, fresh: bool = False) -> int:
    """Return the bytes of all files below a folder, up to some seconds old unless ``fresh``."""
    at, known = _folder_sizes.get(folder, (float("-inf"), 0))
    if not fresh and time.monotonic() - at < _FRESH:
        return known
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # deleted just now
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118  many small files
    _folder_sizes[folder] = (time.monotonic(), total)
    return total
