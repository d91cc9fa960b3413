"""Evidence, added up: which faults are likely, what speaks for each, and what could not be looked at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from peft_lab.clinic import checks
from peft_lab.clinic.evidence import CHECKS, NEEDS, PRIOR, Evidence
from peft_lab.clinic.fault import MOMENTS, Fault
from peft_lab.clinic.faults import get_fault
from peft_lab.clinic.features import Features
from peft_lab.clinic.reading import Material
from peft_lab.clinic.reliability import in_words
from peft_lab.errors import BadInput

SUSPECTED = 0.5  # probability from which a fault counts as found
LISTED = 0.05  # below it a fault is not mentioned
MOST = 0.99  # no probability is above: the checks do not see everything
#: What no file says.
UNSEEN = "how prompts are written at inference, whether the adapter is switched on, what the model answers"


@dataclass(frozen=True)
class Suspicion:
    """One fault. ``evidence``: what was seen, the weightiest first.

    ``probability`` adds it up by weights that were set by hand; how often such a figure was right in test runs says
    :mod:`peft_lab.clinic.reliability`.
    """

    fault: Fault
    probability: float
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """The outcome.

    Attributes:
        suspicions: the likeliest first. ``found``: those at :data:`SUSPECTED` or above.
        checked: how many checks ran. examined: what they read. missing: what was not given.
    """

    suspicions: tuple[Suspicion, ...]
    checked: int
    examined: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def found(self) -> tuple[Suspicion, ...]:
        return tuple(each for each in self.suspicions if each.probability >= SUSPECTED)

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.found:
            first = self.found[0]
            return f"{first.fault.title}: weight of the evidence {first.probability:.2f} of 1."
        unseen = ", ".join((*self.missing, UNSEEN))
        return f"No fault found in what was given ({', '.join(self.examined)}); not examined: {unseen}."


def diagnose(material: Material) -> Diagnosis:
    """Run every check whose inputs are there, and rank.

    Raises:
        BadInput: nothing was given.
    """
    assert checks  # importing it registers them
    given = {
        need: value is not None
        for need, value in (
            ("adapter", material.adapter),
            ("arguments", material.arguments),
            ("rows", material.rows),
            ("messages", material.messages),
            ("tensors", material.tensors),
            ("tokens", material.tokens),
        )
    }
    if not any(given.values()):
        raise BadInput("There is nothing to diagnose: give a config, a log or an adapter folder.")
    seen = Features(material)
    ran = [each for each in CHECKS if all(given[need] for need in each.needs)]
    found = [evidence for each in ran for evidence in each.look(seen)]
    return Diagnosis(
        rank(found),
        len(ran),
        tuple(words for need, words in NEEDS.items() if given[need]),
        tuple(words for need, words in NEEDS.items() if not given[need]),
    )


def rank(found: list[Evidence]) -> tuple[Suspicion, ...]:
    """Faults by probability; those with nothing for them, or hardly any, are left out."""
    by_fault: dict[str, list[Evidence]] = {}
    for evidence in found:
        by_fault.setdefault(evidence.fault, []).append(evidence)
    suspicions = []
    for name, pieces in by_fault.items():
        likely = probability(sum(piece.weight for piece in pieces))
        pieces.sort(key=lambda piece: -piece.weight)
        texts = tuple(piece.text for piece in pieces if piece.weight > 0)
        if texts and likely >= LISTED:
            suspicions.append(Suspicion(get_fault(name), likely, texts))
    return tuple(sorted(suspicions, key=lambda each: -each.probability))


def probability(weight: float) -> float:
    """Of a fault, for the sum of its evidence's weights.

    >>> round(probability(0), 2), round(probability(4.6), 2), probability(50)
    (0.03, 0.77, 0.99)
    """
    return min(MOST, 1 / (1 + math.exp(-(PRIOR + weight))))


def as_rows(suspicions: Iterable[Suspicion]) -> list[Mapping[str, object]]:
    """The ranked list as the command line gives it."""
    return [
        {
            "fault": each.fault.name,
            "title": each.fault.title,
            "probability": round(each.probability, 3),
            "probability_is": "added up by weights that were set by hand",
            "in_test_runs": in_words(each.probability),
            "evidence": list(each.evidence),
            "fix": each.fault.fix,
            "code": {MOMENTS[moment]: lines for moment, lines in each.fault.code.items()},
            "reference": {"title": each.fault.reference.title, "url": each.fault.reference.url},
        }
        for each in suspicions
    ]
