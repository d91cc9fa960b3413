"""The faults by name, and the evidence for one. What is said of a fault stands in ``interview/content/clinic``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Literal

from peft_lab.core.content import read_table
from peft_lab.core.errors import UnknownName
from peft_lab.methods.shared.generation import PREFIX_LOST

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
MOMENTS: dict[Moment, str] = {
    "config": "before get_peft_model(base, config)",
    "wrap": "in place of the lines that make model",
    "model": "after model is made, before it is trained",
    "arguments": "before arguments, the TrainingArguments, are given to Trainer",
    "optimizer": "before optimizer and scheduler are given to Trainer",
    "batch": "in the collator, where batch is ready; prompt_lengths are in tokens",
    "loss": "in compute_loss, before loss is returned",
    "save": "in place of the lines that save model to folder",
    "load": "in place of the lines that load the adapter in folder",
    "use": "before model is used",
}

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
class Fault:
    """One way a fine-tune goes wrong.

    Attributes:
        name: its name on the command line and in addresses. title: one line.
        why: the mechanism. fix: what to change. look: where it shows, as a hint that does not name it.
        code: the fix as lines of a script, by where they belong (:data:`MOMENTS`). Tests run them on the fault's case.
        unrun: why there is no testable code; empty if there is.
        like: faults that look alike, offered as options beside it in a case.
        evidence: what the checks write when they see it, or something against it; figures stand in braces.
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
    evidence: Mapping[str, str] = field(default_factory=dict, hash=False)
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
    if name not in all_faults():
        raise UnknownName("fault", name, all_faults(), "fault")
    return all_faults()[name]


def sign(fault: str, name: str, weight: float, /, **words: object) -> Evidence:
    """Return a piece of evidence in the fault's own words.

    Args:
        name: of the sentence in the fault's ``evidence``. words: what it names.
    """
    return Evidence(fault, weight, get_fault(fault).evidence[name].format_map(words))
