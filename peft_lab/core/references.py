"""The citations of ``references.yaml`` as constants, and the facts that texts state, for code to compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml

#: Citations by name, such as ``LORA``; each is an attribute of this module, too.
CITATIONS: Mapping[str, str] = yaml.load(
    Path(__file__).with_suffix(".yaml").read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
)
globals().update(CITATIONS)

if TYPE_CHECKING:

    def __getattr__(name: str) -> str: ...


# Two texts cannot be compared. Each text therefore lists the facts that it states, and :func:`contradiction` tells
# whether two facts cannot both hold.


Holds = Literal["always", "sometimes", "never"]
Numbers = tuple[float, float]

#: The subject is the first choice under the conditions; then nothing else is.
FIRST = "first choice"
#: A yes-or-no relation of the subject and the object.
RUNS, MERGES, SERVED, TARGETS = "runs on", "merges", "served by", "best on"
LENGTHENS, FORGETS_LESS = "lengthens requests", "forgets less than"
RANK_ONE = "needs no more than rank one"
#: Relations to a number, or to a range of numbers.
RATE, ROWS, SEEDS = "learning rate", "worth it from rows", "seeds"
NEAR_FULL = "near full fine-tuning from parameters"
NUMERIC = (RATE, ROWS, SEEDS, NEAR_FULL)
RELATIONS = (FIRST, RUNS, MERGES, SERVED, TARGETS, LENGTHENS, FORGETS_LESS, RANK_ONE, *NUMERIC)
#: Two slugs of one idea: advice for the first allows the second if memory is short.
_FAMILY = {"qlora": "lora"}


@dataclass(frozen=True)
class Fact:
    """One fact: of a method's slug (of several, of any one of them) a ``relation`` above to the ``object`` (a name, a
    range of numbers, or nothing), under conditions (``when``: the decision tree's questions by name, with the
    answers that qualify); ``sometimes`` if these do not decide it."""

    subject: tuple[str, ...]
    relation: str
    object: str | Numbers = ""
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()
    holds: Holds = "always"

    def __str__(self) -> str:
        about = " or ".join(self.subject)
        what = f"{self.object[0]:g} to {self.object[1]:g}" if isinstance(self.object, tuple) else self.object
        where = ", ".join(f"{name} {' or '.join(values)}" for name, values in self.when)
        return f"{about}: {self.holds} {self.relation} {what} ({where or 'everywhere'})"


def fact(
    subject: str | Iterable[str],
    relation: str,
    about: str | float | Numbers = "",
    holds: Holds = "always",
    /,
    **when: str | Iterable[str],
) -> Fact:
    """Return a fact. A single number becomes a range of one; a first choice implies that something is trained."""
    given: dict[str, str | Iterable[str]] = dict(when)
    if relation == FIRST:
        given = {"prompting": "no", "base": ("sixteen", "four")} | given
    named = {name: (values,) if isinstance(values, str) else tuple(values) for name, values in given.items()}
    subjects = (subject,) if isinstance(subject, str) else tuple(subject)
    numbers = (float(about), float(about)) if isinstance(about, int | float) else about
    return Fact(subjects, relation, numbers, tuple(sorted(named.items())), holds)


def contradiction(one: Fact, other: Fact) -> bool:
    """Return whether two facts cannot both hold. Facts about situations that never occur together do not contradict."""
    if one.relation != other.relation or _apart(one.when, other.when):
        return False
    shared = set(one.subject) & set(other.subject)
    if isinstance(one.object, tuple) and isinstance(other.object, tuple):  # numbers
        return bool(shared) and max(one.object[0], other.object[0]) > min(one.object[1], other.object[1])
    if one.relation == FIRST and one.holds == other.holds == "always":
        families = ({_FAMILY.get(name, name) for name in each.subject} for each in (one, other))
        return set.isdisjoint(*families)
    if one.object != other.object or not shared:
        return False
    if {one.holds, other.holds} == {"always", "never"}:
        return len(one.subject) == len(other.subject) == 1
    # what only sometimes is so under a condition is not always so under that condition, or a wider one
    open_one, firm = (one, other) if one.holds == "sometimes" else (other, one)
    known = dict(open_one.when)
    within = all(name in known and set(known[name]) <= set(values) for name, values in firm.when)
    return open_one.holds == "sometimes" != firm.holds and within


When = tuple[tuple[str, tuple[str, ...]], ...]


def _apart(one: When, other: When) -> bool:
    known = dict(other)
    return any(name in known and not set(values) & set(known[name]) for name, values in one)
