"""How one source speaks of one setting: a function of the job, with its citation and its range of validity."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from peft_lab import published
from peft_lab.recipes.job import Job

#: A source that gives a single figure is read as half to twice that figure: sweeps move in steps of two to three, and
#: between two such steps a source has not looked. (LoRA's best rate moved by less than two between rank 4 and 512.)
GRAIN = 2.0
#: Optimizers that rates were measured with. A rate is handed to its own alone, as each scales gradients otherwise.
#: AdamW stands for Adam too, which differs in decay, and for 8-bit and paged moments, which replace 32-bit ones without
#: a change of hyperparameters (8-bit Optimizers, abstract).
ADAMW, ADAFACTOR = "AdamW", "Adafactor"


@dataclass(frozen=True)
class Said:
    """What a source says for one job: the figure or word that it used, and the range where it gives one."""

    value: Any
    low: float | None = None
    high: float | None = None

    @property
    def band(self) -> tuple[float, float] | None:
        """The range it allows; ``None`` for what is no number."""
        if isinstance(self.value, bool | str) or not isinstance(self.value, int | float):
            return None
        least = 1 if isinstance(self.value, int) else 0  # there is no half epoch and no half row
        low = max(self.value / GRAIN, least) if self.low is None else self.low
        high = self.value * GRAIN if self.high is None else self.high
        return float(f"{low:.6g}"), float(f"{high:.6g}")

    def allows(self, value: Any) -> bool:
        """Whether a value agrees with it."""
        band = self.band
        if band is None or isinstance(value, bool | str) or not isinstance(value, int | float):
            return bool(value == self.value)
        return band[0] * (1 - 1e-9) <= value <= band[1] * (1 + 1e-9)


@dataclass(frozen=True)
class Rule:
    """One source on one setting.

    Attributes:
        field: the setting.
        source: reference. place: where in it. measured: on what it was found.
        says: what it says for a job, or ``None`` outside its range.
        optimizer: with which a learning rate was measured; of the other settings it says nothing.
        untestable: why this lab's small models cannot show it; empty where a sweep on them can.
    """

    id: str
    field: str
    source: str
    place: str
    measured: str
    says: Callable[[Job], Said | None]
    untestable: str = ""
    optimizer: str = ADAMW

    @property
    def citation(self) -> str:
        """Reference and place."""
        return f"{self.source}, {self.place}" if self.place else self.source


SAYS = Callable[[Job], Said | None]
RULES: list[Rule] = []


def rule(
    field: str, source: str, place: str, measured: str, untestable: str = "", optimizer: str = ADAMW
) -> Callable[[SAYS], SAYS]:
    """Enter a function into the list of rules, in the order in which they are written: what comes first wins a tie."""

    def enter(says: SAYS) -> SAYS:
        name = says.__name__.strip("_").replace("_", "-")
        RULES.append(Rule(name, field, source, place, measured, says, untestable, optimizer))
        return says

    return enter


def choose(found: Iterable[tuple[Rule, Said]]) -> Any:
    """The first rule's figure or word if a second reference allows it, else what most references allow."""
    found = list(found)
    first = found[0][1].value
    if len(allowing(found, first)) > 1:
        return first
    return max((said.value for _, said in found), key=lambda value: len(allowing(found, value)))


def allowing(found: Iterable[tuple[Rule, Said]], value: Any) -> tuple[str, ...]:
    """The references that allow a value."""
    return tuple(dict.fromkeys(rule.source for rule, said in found if said.allows(value)))


def spanned(found: Iterable[tuple[Rule, Said]]) -> tuple[float, float] | None:
    """All that any of them allows; ``None`` for what is no number."""
    bands = [said.band for _, said in found if said.band is not None]
    return (min(low for low, _ in bands), max(high for _, high in bands)) if bands else None


LARGE = "needs a model of billions of parameters"
OTHER_TASK = "this lab trains no such task"


def best_published(kind: str) -> Said | None:
    """The rate of a kind's best row in the published comparison: no other of its rows was better at another rate."""
    rows = [row for name, row in published.rows().items() if name.startswith(f"{kind}--")]
    return Said(max(rows, key=lambda row: row.accuracy).learning_rate) if rows else None
