"""What a learner has solved, kept with the rest of what they did."""

from __future__ import annotations

from typing import Any

from peft_lab.clinic.faults import all_faults
from peft_lab.learners.schedule import Learners

SCOPE = "clinic"
KIND = "clinic"


def solved(file: Learners, learner: str) -> dict[str, dict[str, Any]]:
    """The latest attempt at every case, by its fault."""
    return {
        result.content["fault"]: result.content
        for result in file.results(learner, KIND, {"fault": str})
        if result.content["fault"] in all_faults()
    }


def record(file: Learners, learner: str, fault: str, guess: str, seconds: float, hints: int) -> None:
    """Keep an attempt. ``seconds``: from opening the case to the answer."""
    content = {
        "fault": fault, "guess": guess, "right": guess == fault, "seconds": round(seconds), "hints": hints,
    }  # fmt: skip
    file.add_result(learner, KIND, content)
