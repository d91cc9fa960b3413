"""The trajectories that come with the app, one for each method, made by ``tools/record_trajectories.py``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from peft_lab.errors import BadInput, UnknownName
from peft_lab.trajectory.format import Trajectory, from_dict

DATA = Path(__file__).parent / "data"


def methods() -> list[str]:
    """The slugs of the methods that have one."""
    return sorted(path.stem for path in DATA.glob("*.json"))


@cache
def shipped(slug: str) -> Trajectory:
    """The recorded training of a method.

    Raises:
        UnknownName: none was recorded. BadInput: the file is not what this version reads.
    """
    if slug not in methods():
        raise UnknownName("recorded method", slug, methods())
    try:
        data = json.loads((DATA / f"{slug}.json").read_text("utf-8"))
    except ValueError as error:
        raise BadInput(f"The recorded training of {slug} cannot be read ({error}).") from error
    return from_dict(data)
