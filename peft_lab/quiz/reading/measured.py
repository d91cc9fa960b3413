"""How well the reading did on answers that it was not built on, as ``python -m bench.reading --write`` counted it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("measured.json")


@dataclass(frozen=True)
class Measured:
    """Counts over the answers of both sets that the reading was not developed on.

    Attributes:
        answers: read. ``points``: of all of them. ``decided``: points that something was said about.
        made, made_right: points called made, and those of them that a person finds made, too.
        against, against_right: the same for points called contradicted.
    """

    answers: int
    points: int
    decided: int
    made: int
    made_right: int
    against: int
    against_right: int


@cache
def measured() -> Measured:
    return Measured(**json.loads(FILE.read_text("utf-8")))
