"""What a learner of a class may still start or keep: said before it is hit, refused when it is.

Without a class, for its teacher and for who works on the machine itself nothing is limited.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from peft_lab import units
from peft_lab.classroom import places
from peft_lab.classroom.limits import Limits, of_asker
from peft_lab.errors import BadInput, PeftLabError, RunError
from peft_lab.queue import minutes, unended
from peft_lab.runs import room, store
from peft_lab.runs.spec import RunSpec
from peft_lab.tasks.kept_files import UPLOADS

MEGABYTE = 10**6
_FRESH = 3.0  # seconds: pages ask at every turn
_asking = threading.Lock()
_coming: list[
    tuple[Path, int]
] = []  # of runs that were let in and are not queued yet: whose, and the bytes they need
_sizes: dict[Path, tuple[float, int]] = {}


@contextmanager
def admitted(spec: RunSpec, new: bool = True) -> Iterator[None]:
    """Let a checked spec pass, and hold its place among the runs of who asks until it is queued, inside: of several who
    ask at once no more are let in than may be.

    Raises:
        RunError: with :func:`refusal`.
    """
    place = (store.root(), room.needed_bytes(spec) if new else 0)
    with _asking:
        _sizes.pop(store.root(), None)
        problem = refusal(spec, new)
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
    """Let an upload of ``more`` bytes be written, inside, one at a time. Raises BadInput with
    :func:`refusal_of_upload`."""
    with _asking:
        refused = refusal_of_upload(more)
        if refused is not None:
            raise BadInput(refused, "own_data")
        yield


def refusal(spec: RunSpec, new: bool = True) -> str | None:
    """Why who asks may not start this run now, in one sentence; ``None`` where they may.

    Args:
        new: not one that goes on, whose folder is there already.
    """
    found = of_asker()
    if found is None:
        return None
    too_long = refusal_of_steps(spec.steps)
    if too_long is not None:
        return too_long
    going = under_way()
    if going >= found.runs:
        return (
            f"{going} of your runs have not ended; each learner of this class may have {found.runs}. Wait for one, or "
            "stop one on the Runs page."
        )
    used_up = minutes.refusal()
    if used_up is not None:
        return used_up
    taken, needed = size(store.root()) + _promised(), room.needed_bytes(spec) if new else 0
    if taken + needed > found.megabytes * MEGABYTE:
        return (
            f"Your runs take up to {units.size(taken)} and this one up to {units.size(needed)} more; each learner of "
            f"this class may keep {units.size(found.megabytes * MEGABYTE)}. Delete runs on the Runs page."
        )
    return None


def _promised() -> int:
    """Bytes that runs of who asks may still write which have not ended, beside those that they have."""
    promised = sum(needed for place, needed in _coming if place == store.root())
    for _, run in unended.mine():
        with suppress(PeftLabError):  # damaged or deleted just now
            promised += max(0, room.needed_bytes(run.spec) - size(run.folder))
    return promised


def refusal_of_steps(steps: int) -> str | None:
    """Why who asks may not train for that many steps; ``None`` where they may."""
    found = of_asker()
    if found is None or steps <= found.steps:
        return None
    return f"{steps:,} steps are too many here: each run of a learner in this class may take {found.steps:,}."


def refusal_of_upload(more: int) -> str | None:
    """Why who asks may not upload ``more`` bytes; ``None`` where they may."""
    found = of_asker()
    if found is None:
        return None
    taken, most = size(places.mine() / UPLOADS, fresh=True), found.upload_megabytes * MEGABYTE
    if taken + more <= most:
        return None
    return (
        f"Your files take {units.size(taken)} and this one {units.size(more)} more; each learner of this class may "
        f"keep {units.size(most)}. Files go {found.days} days after their upload; the Runs page removes them now."
    )


def said() -> str:
    """What who asks may start and keep, and how much of it is taken; empty where nothing is limited."""
    found = of_asker()
    if found is None:
        return ""
    return (
        f"In this class: at most {_runs(found)} at a time ({under_way()} now), {found.steps:,} steps each, "
        f"{minutes.said(found)}, "
        f"{units.size(found.megabytes * MEGABYTE)} in all ({units.size(size(store.root()))} taken)."
    )


def _runs(found: Limits) -> str:
    return units.several(found.runs, "run")


def under_way() -> int:
    """How many runs of who asks have not ended, or are let in and about to be queued."""
    return len(unended.mine()) + sum(place == store.root() for place, _ in _coming)


def size(folder: Path, fresh: bool = False) -> int:
    """Bytes of all files below a folder, some seconds old unless ``fresh``."""
    at, known = _sizes.get(folder, (float("-inf"), 0))
    if not fresh and time.monotonic() - at < _FRESH:
        return known
    found = _counted(folder)
    _sizes[folder] = (time.monotonic(), found)
    return found


def _counted(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118  many small files
            except OSError:
                continue  # deleted just now
    return total
