"""What a class expects before an experiment runs, counted for the teacher without names."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from peft_lab.classroom import joining
from peft_lab.core.asking import Asker, acting_for
from peft_lab.core.errors import PeftLabError
from peft_lab.interview.learners.schedule import Learners

#: The key under which a learner's predictions are stored: for each prediction, the option they committed to.
COMMITTED = "committed"


@dataclass(frozen=True)
class Expected:
    """The answers of a class to one prediction.

    Attributes:
        id: the prediction's. counts: how many chose each option, by the option's index.
    """

    id: str
    counts: dict[int, int]

    @property
    def people(self) -> int:
        return sum(self.counts.values())


def commit(file: Learners, learner: str, prediction: str, option: int) -> None:
    """Store which option a learner commits to; the latest one counts."""
    kept = file.kept(learner, COMMITTED, {})
    file.keep(learner, COMMITTED, {**(kept if isinstance(kept, dict) else {}), prediction: option})


def of_class() -> list[Expected]:
    """Return every prediction that a learner of the class has committed to, the most answered first.

    Raises:
        NotATeacher: only a teacher may see them.
    """
    found: dict[str, Counter[int]] = {}
    for learner in joining.learners():  # without teachers, who only demonstrate
        with acting_for(Asker(learner.owner)), suppress(PeftLabError):  # skip a damaged file, keep the others
            file = Learners()
            if not file.path.exists():
                continue
            for profile in file.profiles():
                kept = file.kept(profile.name, COMMITTED, {})
                for name, option in kept.items() if isinstance(kept, dict) else ():
                    if type(option) is int:
                        found.setdefault(str(name), Counter())[option] += 1
    rows = [Expected(name, dict(counts)) for name, counts in found.items()]
    return sorted(rows, key=lambda row: (-row.people, row.id))
