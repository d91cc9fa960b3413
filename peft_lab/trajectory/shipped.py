"""The trajectories that come with the app, made by ``tools/record_trajectories.py``: one for each method on the model
that its page begins with, ``<slug>.json``, and some on another one, ``<slug>.<model>.json``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from peft_lab.errors import BadInput, UnknownName
from peft_lab.trajectory.format import Trajectory, from_dict

DATA = Path(__file__).parent / "data"


def names() -> list[str]:
    """Those that there are: a method's slug, or slug and model with a dot between."""
    return sorted(path.stem for path in DATA.glob("*.json"))


@cache
def shipped(name: str) -> Trajectory:
    """The recorded training of a method.

    Raises:
        UnknownName: none was recorded. BadInput: the file is not what this version reads.
    """
    if name not in names():
        raise UnknownName("recorded method", name, names())
    try:
        data = json.loads((DATA / f"{name}.json").read_text("utf-8"))
    except ValueError as error:
        raise BadInput(f"The recorded training of {name} cannot be read ({error}).") from error
    return from_dict(data)


def on(slug: str, model: str) -> Trajectory | None:
    """A method's recorded training on a model of the catalogue; ``None`` where none was recorded.

    Raises:
        BadInput: a file that is not what this version reads.
    """
    for name in (f"{slug}.{model}", slug):
        if name in names():
            found = shipped(name)
            if found.spec.get("model") == model:
                return found
    return None
