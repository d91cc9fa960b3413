"""Define the faults, the evidence for one, and cases: failures of real runs, each with its healthy counterpart. The
texts on a fault are in ``interview/content/clinic``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from peft_lab.core import disk
from peft_lab.core.content import read_entry, read_table
from peft_lab.core.errors import named
from peft_lab.interview.formulas import compiled
from peft_lab.methods.shared.virtual_tokens import PREFIX_LOST

CONTENT = Path(__file__).parents[1] / "content" / "clinic"

#: The stage in an adapter's life at which it goes wrong; one content file each, in this order.
Family = Literal["training", "data", "saving", "loading"]
FAMILIES: dict[Family, str] = {
    "training": "how it was trained",
    "data": "what it was trained on",
    "saving": "what was saved",
    "loading": "how it is loaded and used",
}

#: Where in a script a fix belongs, in script order, with the names that the fix can use there.
Moment = Literal["config", "wrap", "model", "arguments", "optimizer", "batch", "loss", "save", "load", "use"]
MOMENTS = read_entry(CONTENT.parent / "moments.yaml", dict[Moment, str])

# ----------------------------------------
# Evidence. Every fault starts with the same odds, about 1 to 30; a piece of evidence multiplies them by e to the power
# of its weight. The weights are set by hand; how reliable the resulting probabilities are was measured: see
# ``bench/RESULTS.md``.


PRIOR = math.log(1 / 30)
#: Hardly any other explanation; usual with this fault and rare without; consistent; consistent with others too.
PROOF, STRONG, SOME, HINT, SLIGHT = 7.0, 4.6, 2.8, 1.4, 0.7
AGAINST = -3.0
SIZES = {"proof": PROOF, "strong": STRONG, "some": SOME, "hint": HINT, "slight": SLIGHT}


@dataclass(frozen=True)
class Evidence:
    """An observation for a fault, or with a negative weight against it. ``text`` quotes what was seen."""

    fault: str
    weight: float
    text: str


# ----------------------------------------
# A fault: its name, its cause, its fix in words and as code, and where somebody met it.


@dataclass(frozen=True)
class Reference:
    """Where the fault was met or is explained. ``title`` is that of the page."""

    title: str
    url: str


@dataclass(frozen=True)
class Message:
    """A regular expression for a line that libraries print with the fault, and how strong that evidence is."""

    pattern: str
    weight: Literal["proof", "strong", "some", "hint", "slight"]


@dataclass(frozen=True)
class Rule:
    """A sign of the fault, or with a negative weight against it. ``says``: the sentence, with figures in braces.

    ``when`` it is seen and its ``weight`` are formulas; what they may name: :mod:`peft_lab.interview.clinic.checks`.
    """

    says: str
    when: str
    weight: str

    def __post_init__(self) -> None:
        for formula in (self.when, self.weight):
            compiled(formula)

    def value(self, formula: str, names: Mapping[str, Any]) -> Any:
        """Return a formula's value. Raises NameError for a name that is not among these."""
        return eval(
            compiled(formula), {"__builtins__": {}}, names
        )  # it computes and compares, and nothing else


@dataclass(frozen=True)
class Fault:
    """One way a fine-tune goes wrong.

    Attributes:
        name: its name on the command line and in addresses. title: one line.
        why: the mechanism. fix: what to change. look: where it shows, as a hint that does not name it.
        code: the fix as lines of a script, by where they belong (:data:`MOMENTS`). Tests run them on the fault's case.
        unrun: why there is no testable code; empty if there is.
        like: faults that look alike, offered as options beside it in a case.
        evidence: rules by which it is seen, or something against it.
        messages: what libraries print with it.
    """

    name: str
    title: str
    family: Family
    why: str
    fix: str
    look: str
    reference: Reference
    code: Mapping[Moment, str] = field(default_factory=dict, hash=False)
    unrun: str = ""
    like: tuple[str, ...] = ()
    evidence: Mapping[str, Rule] = field(default_factory=dict, hash=False)
    messages: tuple[Message, ...] = ()


@cache
def all_faults() -> dict[str, Fault]:
    """Return all faults, in the order of an adapter's life: trained, saved, loaded."""
    table = read_table((CONTENT / f"{family}.yaml" for family in FAMILIES), Fault, "name")
    return {
        name: replace(fault, fix=fault.fix.replace("{prefix_lost}", PREFIX_LOST))
        for name, fault in table.items()
    }


def get_fault(name: str) -> Fault:
    """Return a fault by name. Raises :class:`UnknownName`."""
    return named("fault", name, all_faults(), "fault")


FOLDER = "shown"
OPTIONS = 6  # faults that a learner chooses from


@dataclass(frozen=True)
class ShownCase:
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
        """Return steps and training losses, without rows whose loss is not a number."""
        points = [(row[0], row[1]) for row in self.rows if isinstance(row[1], int | float)]
        return [float(step) for step, _ in points], [float(loss) for _, loss in points]


@dataclass(frozen=True)
class ClinicCase:
    """One failure. ``number``, from 1, names it where its fault must not be revealed."""

    number: int
    fault: Fault
    model: str
    method: str
    faulty: ShownCase
    healthy: ShownCase
    made: str
    machine: Mapping[str, Any]
    packages: Mapping[str, str]

    def hints(self) -> tuple[str, ...]:
        """Return hints of increasing strength: the stage of the work, where to look, two titles, one of them right."""
        other = next(fault for fault in self.options() if fault.name != self.fault.name)
        pair = sorted((self.fault.title, other.title))
        return (
            f"The cause is in {FAMILIES[self.fault.family]}.",
            self.fault.look,
            f"It is one of these two: “{pair[0]}” or “{pair[1]}”.",
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
def all_cases() -> tuple[ClinicCase, ...]:
    """Return every case, in an order that reveals nothing about the fault."""
    found = [disk.read_json(file) for file in (Path(__file__).parent / FOLDER).glob("*.json")]
    found.sort(key=lambda each: each["fault"][::-1])  # faults of one family far apart
    return tuple(
        ClinicCase(
            number, all_faults()[each["fault"]], each["model"], each["method"], _shown(each["faulty"]),
            _shown(each["healthy"]), each["made"], each["machine"], each["packages"],
        )
        for number, each in enumerate(found, 1)
    )  # fmt: skip


def get_case(number: str) -> ClinicCase:
    """Return the case of that number. Raises :class:`UnknownName`."""
    return named("case", number, {str(case.number): case for case in all_cases()}, "case")


def _shown(found: Mapping[str, Any]) -> ShownCase:
    held = {name: found[name] for name in ShownCase.__dataclass_fields__}
    for name, value in held.items():
        if isinstance(value, list):
            held[name] = tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return ShownCase(**held)
