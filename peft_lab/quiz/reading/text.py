"""An answer as sentences, with what a negation reaches and where somebody else's opinion is only reported."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

Span = tuple[int, int]  # first character, and the one after the last

_SAME_LENGTH = str.maketrans({
    "\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u2013": "-", "\u2014": ";", "\u2011": "-", "\u2212": "-",
    "\u00a0": " ",    "\u2009": " ", "\u202f": " ", "\u201c": '"', "\u201d": '"', "*": " ", "`": " ",
})  # fmt: skip
_END = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.)(?<!etc\.)(?<=[.!?])\s+|\n+|;\s*")
REACH = 8  # words that a negation reaches at most
_NEGATION = re.compile(
    r"\b(?:not|never|no|none|nor|neither|cannot|without|hardly|barely|no longer|nothing|nobody|rather than"
    r"|instead of|as opposed to|unlike|fails? to|failed to|stops? being|lacks?|impossible|unable to|avoids?"
    r"|(?:do|does|did|is|are|was|were|ca|wo|would|could|should|has|have|had|must|need)n'?t)\b"
)
_NO_NEGATION = re.compile(
    r"\b(?:not (?:only|just|merely|simply|exactly the)|no matter|no doubt|no wonder|not to mention|cannot but"
    r"|why not|or not|nothing but|whether or not)\b"
)
#: A negation ends here.
_CLAUSE = re.compile(
    r"[,:()\[\]]|\b(?:but|because|so|since|while|whereas|although|though|which|hence|therefore|only|except|until"
    r"|unless|just|then|if|when)\b"
)
_REPORTED = re.compile(
    r"\b(?:myth|misconception|mistake to|mistaken|wrong to|is wrong|are wrong|isn't true|not true|false that"
    r"|people (?:often )?(?:think|say|believe|assume)|some (?:say|think|claim|believe)|one (?:might|may|could) think"
    r"|you (?:might|may|could|would|'d) (?:think|expect|assume)|you'd (?:think|expect)|tempting|naive\w*|often said"
    r"|supposed(?:ly)?|if it were|as if|pretend\w*|contrary to|colleague (?:says|thinks)|incorrect)\b"
)
_DISMISSED = re.compile(
    r"\b(?:(?:would|will|need|do|did|should|must)(?: not|n'?t)(?: need to| have to)?|won'?t|no need to|needn'?t)"
    r" (?:check|look at|test|verify|inspect|measure|bother with|look into|worry about) (?:that|it|this|those|them)\b"
)
_UNSURE = re.compile(
    r"\b(?:not sure|unsure|i guess|no idea|don'?t know|do not know|don'?t remember|can'?t remember|maybe|perhaps"
    r"|possibly|might be|could be wrong|or something|something like that)\b"
)


@dataclass(frozen=True)
class Sentence:
    """One sentence of an answer; positions count from the start of the answer.

    Attributes:
        text: as typed, with typographic signs made plain; every sign stays where it was.
        start: where it begins in the answer.
    """

    text: str
    start: int

    @cached_property
    def lower(self) -> str:
        return self.text.lower()

    @cached_property
    def negated(self) -> tuple[Span, ...]:
        """What negations reach: from each to the end of its clause, at most :data:`REACH` words."""
        plain = [found.span() for found in _NO_NEGATION.finditer(self.lower)]
        found = []
        for match in _NEGATION.finditer(self.lower):
            if any(first <= match.start() < last for first, last in plain):
                continue
            clause = _CLAUSE.search(self.lower, match.end())
            end = clause.start() if clause else len(self.lower)
            words = list(re.finditer(r"\S+", self.lower[match.end() : end]))
            if len(words) > REACH:
                end = match.end() + words[REACH - 1].end()
            found.append((match.start(), end))
        return tuple(found)

    @cached_property
    def negations(self) -> tuple[int, ...]:
        """Where the negations themselves stand."""
        return tuple(first for first, _ in self.negated)

    @cached_property
    def reported(self) -> bool:
        """Whether it tells what others hold, or calls something wrong: nothing in it is taken for a claim."""
        return bool(_REPORTED.search(self.lower))

    @cached_property
    def dismissed(self) -> bool:
        """Whether it says that something need not be looked at: *it is surely active, so I would not check that*."""
        return bool(_DISMISSED.search(self.lower))

    @cached_property
    def unsure(self) -> bool:
        """Whether whoever wrote it says that they are not sure."""
        return bool(_UNSURE.search(self.lower))

    @property
    def asks(self) -> bool:
        """Whether it is a question: *is the adapter active?* names a point, and claims nothing."""
        return self.text.rstrip().endswith("?")

    def is_negated(self, span: Span) -> bool:
        """Whether something (positions within the sentence) stands where a negation reaches."""
        return any(first <= span[0] < last for first, last in self.negated)

    def parted(self, span: Span) -> bool:
        """Whether a clause ends within something (positions within the sentence)."""
        return bool(_CLAUSE.search(self.lower, *span))

    def denied_after(self, span: Span, words: int = 5) -> bool:
        """Whether a negation follows in the same clause within a few words: *merging is not possible*."""
        for position in self.negations:
            if position >= span[1]:
                between = self.lower[span[1] : position]
                return not _CLAUSE.search(between) and len(between.split()) <= words
        return False


def sentences(answer: str) -> tuple[Sentence, ...]:
    """The answer's sentences, without those that are empty."""
    return tuple(_sentences(answer))


def _sentences(answer: str) -> Iterator[Sentence]:
    plain = answer.translate(_SAME_LENGTH)
    start = 0
    for end in [*_END.finditer(plain), None]:
        last = end.start() if end else len(plain)
        text = plain[start:last]
        if text.strip():
            yield Sentence(text, start)
        start = end.end() if end else last
