"""Limits on what one learner of a class may use. ``PEFT_LAB_CLASS_LIMITS`` changes them: ``runs=3,steps=300``."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace

from peft_lab.core import units
from peft_lab.core.asking import OPERATOR, asker
from peft_lab.core.errors import BadInput

VARIABLE = "PEFT_LAB_CLASS_LIMITS"


@dataclass(frozen=True)
class Limits:
    """Limits for each learner of a class.

    Attributes:
        runs: runs that have not ended, including waiting ones. steps: training steps of one run.
        minutes: training time within a day. megabytes: size of all runs of a learner on disk.
        upload_megabytes: size of all uploads of a learner. learners: size of the class.
        days: age at which ended runs, uploads and absent learners are removed.
    """

    runs: int = 6
    steps: int = 500
    minutes: int = 60
    megabytes: int = 1000
    upload_megabytes: int = 20
    learners: int = 60
    days: int = 60

    @property
    def people(self) -> str:
        """Return how many learners may join, with the noun."""
        return units.several(self.learners, "learner")

    def in_words(self) -> str:
        """Return the limits of a learner as the end of a sentence."""
        runs = "1 run that has" if self.runs == 1 else f"{self.runs} runs that have"
        return (
            f"{runs} not ended, of {self.steps:,} steps at most, {self.minutes:,} minutes of training within a day, "
            f"{self.megabytes:,} MB of runs and {self.upload_megabytes:,} MB of uploads"
        )


def limits() -> Limits:
    """Return the limits of this class.

    Raises:
        BadInput: the variable does not hold whole numbers above 0 for known limits.
    """
    found = Limits()
    known = {each.name for each in fields(Limits)}
    for part in filter(None, (each.strip() for each in os.environ.get(VARIABLE, "").split(","))):
        name, _, value = (each.strip() for each in part.partition("="))
        if name not in known or not value.isascii() or not value.isdigit() or int(value) < 1:
            raise BadInput(
                f"{VARIABLE} holds '{part[:60]}'; it takes whole numbers above 0 for {', '.join(sorted(known))}."
            )
        found = replace(found, **{name: int(value)})
    return found


def of_asker() -> Limits | None:
    """Return the limits of the person this thread acts for.

    ``None`` without a class, for its teacher and for the user of the machine itself.
    """
    who = asker()
    return None if who is None or who.teacher or who.owner == OPERATOR else limits()
