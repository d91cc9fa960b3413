"""Which trackers runs go to: ``PEFT_LAB_TRACK=mlflow,trackio``, or ``--track`` of a command, which sets it.

Only who has the machine may say so. In a class learners' runs go to none, whatever is set: a tracker's store lies
outside their folders, is seen by all who can open it, and would keep what the class deletes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec

from peft_lab.classroom import places
from peft_lab.classroom.asking import OPERATOR, asker
from peft_lab.errors import BadInput, echoed
from peft_lab.runs.store import Run
from peft_lab.tracking.kept import TITLES

VARIABLE = "PEFT_LAB_TRACK"
#: What has to be there to import, and how it gets there.
_NEEDS = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "trackio": ("trackio",)}


def names(text: str | None = None) -> tuple[str, ...]:
    """The trackers that ``text`` names, without it the environment.

    Raises:
        BadInput: one that there is not, or whose library is not installed.
    """
    said = os.environ.get(VARIABLE, "") if text is None else text
    found = tuple(dict.fromkeys(name.strip().lower() for name in said.split(",") if name.strip()))
    for name in found:
        if name not in TITLES:
            raise BadInput(f"'{echoed(name)}' is no tracker: there are {' and '.join(TITLES)}.", "track")
        if not all(find_spec(module) for module in _NEEDS[name]):
            raise BadInput(
                f"{TITLES[name]} is not installed here: pip install 'peft-lab[{name}]' (in a clone, '.[{name}]').",
                "track",
            )
    return found


def require() -> None:
    """Let who asks submit a run. Raises BadInput as :func:`names`; a learner's run goes to no tracker."""
    who = asker()
    if who is None or who.owner == OPERATOR:
        names()


def of(run: Run) -> tuple[str, ...]:
    """The trackers that a run goes to now. Raises BadInput as :func:`names`."""
    return names() if places.asker_of(run.folder).owner == OPERATOR else ()


def switch_on(trackers: Iterable[str]) -> None:
    """For this process and what it starts. Raises BadInput as :func:`names`."""
    text = ",".join(trackers)
    if text:
        names(text)
        os.environ[VARIABLE] = text
