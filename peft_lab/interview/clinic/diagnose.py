"""Sum the evidence: which faults are likely, what supports each, and what could not be examined."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from peft_lab.core.disk import read_json
from peft_lab.core.errors import BadInput
from peft_lab.interview.clinic.checks import NEEDS, examine
from peft_lab.interview.clinic.faults import MOMENTS, PRIOR, Evidence, Fault, get_fault
from peft_lab.interview.clinic.reading import Features, Material

# ----------------------------------------
# How often a suspicion was right, by the weight of its evidence: counted on runs with known faults.
#
# A diagnosis sums evidence by hand-set weights, so its figure is not a frequency. These counts are: of all suspicions
# with a figure in the same tenth, how many named the actual fault.
# ``reliability.json`` is written by ``python -m bench.clinic measure FOLDER... --write``.


RELIABILITY_FILE = Path(__file__).with_name("reliability.json")
TENTHS = 10
FEW = 5  # with fewer suspicions a count says nothing


def tenth(figure: float) -> int:
    """Return the tenth that a figure from 0 to 1 is in.

    >>> tenth(0.05), tenth(0.99), tenth(1.0)
    (0, 9, 9)
    """
    return min(TENTHS - 1, int(figure * TENTHS))


@cache
def in_words(figure: float) -> str:
    """Return one sentence on how often suspicions with about this figure were right in test runs."""
    kept, low = read_json(RELIABILITY_FILE), tenth(figure) / TENTHS
    right, of = kept["tenths"].get(str(tenth(figure)), (0, 0))
    between = f"diagnoses with evidence from {low:.1f} to {low + 1 / TENTHS:.1f}"
    if of < FEW:
        return f"The test runs had fewer than {FEW} {between}."
    runs = f"{kept['mutants']} runs with a known fault and {kept['healthy']} healthy runs"
    return f"{right} of {of} {between} were right, on {runs}."


SUSPECTED = 0.5  # probability from which a fault counts as found
LISTED = 0.05  # below it a fault is not mentioned
MOST = 0.99  # the maximum probability: the checks do not see everything
#: What no file contains.
UNSEEN = "how prompts are written at inference, whether the adapter is switched on, what the model answers"


@dataclass(frozen=True)
class Suspicion:
    """One suspected fault. ``evidence``: what was seen, the weightiest first. ``probability`` sums it by hand-set
    weights; how often such a figure was right: :func:`in_words`."""

    fault: Fault
    probability: float
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """The result of a diagnosis. ``suspicions``: the likeliest first; ``found``: those at :data:`SUSPECTED` or above;
    ``examined``: what was read; ``missing``: what was not given."""

    suspicions: tuple[Suspicion, ...]
    examined: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def found(self) -> tuple[Suspicion, ...]:
        return tuple(each for each in self.suspicions if each.probability >= SUSPECTED)

    @property
    def verdict(self) -> str:
        """Return the result as one sentence."""
        if self.found:
            first = self.found[0]
            return f"{first.fault.title}: weight of the evidence {first.probability:.2f} of 1."
        unseen = ", ".join((*self.missing, UNSEEN))
        return f"No fault was found in your files ({', '.join(self.examined)}); not examined: {unseen}."


def diagnose(material: Material) -> Diagnosis:
    """Run every check whose inputs were given, and rank the faults. Raises BadInput: nothing was given."""
    given = {need: getattr(material, need) is not None for need in NEEDS}
    if not any(given.values()):
        raise BadInput("There is nothing to diagnose. Give a config, a log or an adapter folder.")
    return Diagnosis(
        rank(list(examine(Features(material)))),
        tuple(words for need, words in NEEDS.items() if given[need]),
        tuple(words for need, words in NEEDS.items() if not given[need]),
    )


def rank(found: list[Evidence]) -> tuple[Suspicion, ...]:
    """Return faults by probability, without those that have no, or hardly any, evidence for them."""
    suspicions = []
    for name in dict.fromkeys(evidence.fault for evidence in found):
        pieces = sorted((each for each in found if each.fault == name), key=lambda piece: -piece.weight)
        likely = probability(sum(piece.weight for piece in pieces))
        texts = tuple(piece.text for piece in pieces if piece.weight > 0)
        if texts and likely >= LISTED:
            suspicions.append(Suspicion(get_fault(name), likely, texts))
    return tuple(sorted(suspicions, key=lambda each: -each.probability))


def probability(weight: float) -> float:
    """Return a fault's probability for the sum of its evidence's weights.

    >>> round(probability(0), 2), round(probability(4.6), 2), probability(50)
    (0.03, 0.77, 0.99)
    """
    return min(MOST, 1 / (1 + math.exp(-(PRIOR + weight))))


def as_rows(suspicions: Iterable[Suspicion]) -> list[Mapping[str, object]]:
    """Return the ranked list for the command line."""
    return [
        {
            "fault": each.fault.name,
            "title": each.fault.title,
            "probability": round(each.probability, 3),
            "probability_is": "sum of weights set by hand",
            "in_test_runs": in_words(each.probability),
            "evidence": list(each.evidence),
            "fix": each.fault.fix,
            "code": {MOMENTS[moment]: lines for moment, lines in each.fault.code.items()},
            "reference": {"title": each.fault.reference.title, "url": each.fault.reference.url},
        }
        for each in suspicions
    ]
