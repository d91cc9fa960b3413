"""The cases of the clinic: failures of real runs by ``tools.make_clinic``, each with its healthy counterpart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import disk
from peft_lab.core.errors import UnknownName
from peft_lab.interview.clinic.faults import FAMILIES, Fault, all_faults, get_fault

FOLDER = "shown"
OPTIONS = 6  # faults that a learner chooses from


@dataclass(frozen=True)
class Shown:
    """The files and figures of a run, as the page shows them.

    Attributes:
        config, arguments: fields by name. tokens: pad and end token, and how many there are.
        rows: step, loss, grad_norm, learning_rate, eval_loss; a text where a figure is not a number.
        console: its last lines. tensors: name, shape, precision, largest entry. outputs: prompt and answer.
    """

    config: Mapping[str, Any]
    arguments: Mapping[str, Any]
    tokens: Mapping[str, Any]
    rows: tuple[tuple[Any, ...], ...]
    console: tuple[str, ...]
    tensors: tuple[tuple[Any, ...], ...]
    outputs: tuple[tuple[str, str], ...]

    @property
    def curve(self) -> tuple[list[float], list[float]]:
        """Steps and training losses, without rows whose loss is not a number."""
        points = [(row[0], row[1]) for row in self.rows if isinstance(row[1], int | float)]
        return [float(step) for step, _ in points], [float(loss) for _, loss in points]


@dataclass(frozen=True)
class Case:
    """One failure. ``number``, from 1, names it where its fault must not be revealed."""

    number: int
    fault: Fault
    model: str
    method: str
    faulty: Shown
    healthy: Shown
    made: str
    machine: Mapping[str, Any]
    packages: Mapping[str, str]

    def hints(self) -> tuple[str, ...]:
        """Return hints of increasing strength: the stage of the work, where to look, two titles, one of them right."""
        other = next(fault for fault in self.options() if fault.name != self.fault.name)
        pair = sorted((self.fault.title, other.title))
        return (
            f"It is about {FAMILIES[self.fault.family]}.",
            self.fault.look,
            f"It is one of two: “{pair[0]}” or “{pair[1]}”.",
        )

    def options(self) -> tuple[Fault, ...]:
        """Return the fault among others: those that look alike, then mostly its own family; always the same in the same
        order."""
        faults = list(all_faults().values())
        start = faults.index(self.fault)
        others = [*faults[start + 1 :], *faults[:start]]
        turned = [
            *map(get_fault, self.fault.like),
            *(each for each in others if each.name not in self.fault.like),
        ]
        near = [fault for fault in turned if fault.family == self.fault.family][: OPTIONS - 3]
        far = [fault for fault in turned[3::7] if fault not in near][: OPTIONS - 1 - len(near)]
        return tuple(sorted([self.fault, *near, *far], key=lambda fault: fault.title))


@cache
def all_cases() -> tuple[Case, ...]:
    """Return every case, in an order that reveals nothing about the fault."""
    found = [disk.read_json(file) for file in (Path(__file__).parent / FOLDER).glob("*.json")]
    found.sort(key=lambda each: _mixed(each["fault"]))
    return tuple(
        Case(
            number, all_faults()[each["fault"]], each["model"], each["method"], _shown(each["faulty"]),
            _shown(each["healthy"]), each["made"], each["machine"], each["packages"],
        )
        for number, each in enumerate(found, 1)
    )  # fmt: skip


def get_case(number: str) -> Case:
    """Return the case of that number. Raises :class:`UnknownName`."""
    known = {str(case.number): case for case in all_cases()}
    if number not in known:
        raise UnknownName("case", number, known, "case")
    return known[number]


def _mixed(name: str) -> str:
    """Return a sort key that puts faults of one family far apart."""
    return name[::-1]


def _shown(found: Mapping[str, Any]) -> Shown:
    def listed(name: str) -> tuple[Any, ...]:
        return tuple(tuple(item) if isinstance(item, list) else item for item in found[name])

    return Shown(
        found["config"], found["arguments"], found["tokens"], listed("rows"), listed("console"), listed("tensors"),
        listed("outputs"),
    )  # fmt: skip
