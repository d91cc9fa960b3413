"""What a class expects before an experiment runs, counted for its teacher: no count says who."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from peft_lab.classroom import joining
from peft_lab.core.asking import Asker, acting_for
from peft_lab.core.errors import PeftLabError
from peft_lab.interview.learners.schedule import Learners

#: Under which a learner's predictions are kept: by prediction, the option they committed to.
COMMITTED = "committed"


@dataclass(frozen=True)
class Expected:
    """One prediction of a class.

    Attributes:
        id: the prediction's. counts: how many chose each option, by the option's place.
    """

    id: str
    counts: dict[int, int]

    @property
    def people(self) -> int:
        return sum(self.counts.values())


def commit(file: Learners, learner: str, prediction: str, option: int) -> None:
    """Keep which option a learner commits to; the latest one counts."""
    kept = file.kept(learner, COMMITTED, {})
    file.keep(learner, COMMITTED, {**(kept if isinstance(kept, dict) else {}), prediction: option})


def of_class() -> list[Expected]:
    """Every prediction that a learner of the class has committed to, the most answered first.

    Raises:
        NotATeacher.
    """
    found: dict[str, Counter[int]] = {}
    for learner in joining.learners():  # not the teacher, who shows how it is done
        with acting_for(Asker(learner.owner)), suppress(PeftLabError):  # one damaged file hides nobody else's
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
