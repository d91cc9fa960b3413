r"""A small language for what an answer may say, and looking for it in a sentence.

A pattern is a line of terms; all of them have to occur in one sentence, in any order. A term lists alternatives::

    "B|product|update zero|vanish* unchanged|@same"

- ``merg*`` matches words that begin so, ``low_rank`` also *low-rank* and *lowrank*; ``is``/``iz`` and ``our``/``or``
  are one spelling. Capitals match capitals only, so ``B`` is the matrix.
- ``@name`` stands for a set of words in :mod:`peft_lab.quiz.reading.lexicon`.
- ``#LOW..HIGH`` is a number in that range, read by :mod:`peft_lab.quiz.parsing`, so with its multiplier or unit.
- An alternative ``~word`` has to be negated, ``?word`` may be, any other must not be.
- ``!term`` must not occur at all.
- ``>`` between terms: what follows has to come later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product

from peft_lab.quiz.parsing import read
from peft_lab.quiz.reading.lexicon import WORDS
from peft_lab.quiz.reading.text import Sentence, Span

MOST = 6  # occurrences of one term that are tried
WIDEST = 12  # words from the first to the last term
_NUMBER = re.compile(
    r"(?<![\w.])[-+]?\d[\d,.]*(?:e[-+]?\d+)?(?:\s?\^\s?-?\d+)?"
    r"(?:\s?(?:%|percent|thousand|million|billion|trillion|[kmgt]i?b|bits?|bytes?|[kmbt]|ms|s))?(?!\w)"
)
_RANGE = re.compile(r"#([-+.\de]+)\.\.([-+.\de]+)")


@dataclass(frozen=True)
class Words:
    """Alternatives of a term that ask for the same polarity: ``""``, ``~`` or ``?``."""

    sign: str
    words: re.Pattern[str] | None
    exact: re.Pattern[str] | None
    ranges: tuple[tuple[float, float], ...]

    def occurrences(self, sentence: Sentence, any_sign: bool) -> Iterator[Span]:
        for span in self._anywhere(sentence):
            negated = sentence.is_negated(span)
            if (
                any_sign
                or self.sign == "?"
                or (self.sign == "~" and (negated or sentence.denied_after(span)))
                or (self.sign == "" and not negated)
            ):
                yield span

    def _anywhere(self, sentence: Sentence) -> Iterator[Span]:
        if self.words:
            yield from (match.span() for match in self.words.finditer(sentence.lower))
        if self.exact:
            yield from (match.span() for match in self.exact.finditer(sentence.text))
        if self.ranges:
            for match in _NUMBER.finditer(sentence.lower):
                reading = read(match[0].rstrip(".,"))
                if reading and any(low <= reading.value <= high for low, high in self.ranges):
                    yield match.span()


@dataclass(frozen=True)
class Term:
    """One term of a pattern. ``absent``: it must not occur; ``later``: it follows the last one."""

    alternatives: tuple[Words, ...]
    absent: bool
    later: bool

    def occurrences(self, sentence: Sentence, any_sign: bool = False) -> list[Span]:
        """Where it occurs with the polarity that it asks for."""
        found = {
            span
            for words in self.alternatives
            for span in words.occurrences(sentence, any_sign or self.absent)
        }
        return sorted(found)[:MOST]


@dataclass(frozen=True)
class Pattern:
    """Terms that have to stand in one sentence."""

    source: str
    terms: tuple[Term, ...]

    def find(self, sentence: Sentence) -> Span | None:
        """The narrowest place (within the sentence) that holds all terms, or ``None``."""
        places = []
        for term in self.terms:
            found = term.occurrences(sentence)
            if term.absent:
                if found:
                    return None
            elif not found:
                return None
            else:
                places.append((term.later, found))
        best: Span | None = None
        for spans in product(*(found for _, found in places)):
            if any(
                later and spans[index][0] < spans[index - 1][1] for index, (later, _) in enumerate(places)
            ):
                continue
            if any(one[1] > other[0] for one, other in pairwise(sorted(spans))):
                continue  # one word is not two terms
            first, last = min(span[0] for span in spans), max(span[1] for span in spans)
            narrower = best is None or last - first < best[1] - best[0]
            if narrower and len(sentence.text[first:last].split()) <= WIDEST:
                best = (first, last)
        return best

    def share(self, answer: tuple[Sentence, ...]) -> float:
        """The share of its terms that occur anywhere in an answer, negated or not."""
        wanted = [term for term in self.terms if not term.absent]
        there = [term for term in wanted if any(term.occurrences(each, any_sign=True) for each in answer)]
        return len(there) / len(wanted)


@cache
def pattern(source: str) -> Pattern:
    """Compile one line.

    Raises:
        ValueError: a set of words that there is none of, or a line without terms.
    """
    terms, later = [], False
    for piece in source.split():
        if piece == ">":
            later = True
            continue
        terms.append(_term(piece, later))
        later = False
    if all(term.absent for term in terms):
        raise ValueError(f"the pattern {source!r} asks for nothing")
    return Pattern(source, tuple(terms))


def _term(piece: str, later: bool) -> Term:
    absent = piece.startswith("!")
    by_sign: dict[str, list[str]] = {}
    for alternative in piece.removeprefix("!").split("|"):
        sign = alternative[0] if alternative[0] in "~?" else ""
        by_sign.setdefault(sign, []).extend(_alternatives(alternative.removeprefix(sign)))
    return Term(tuple(_words(sign, found) for sign, found in by_sign.items()), absent, later)


def _words(sign: str, alternatives: list[str]) -> Words:
    words, exact, ranges = [], [], []
    for alternative in alternatives:
        if found := _RANGE.fullmatch(alternative):
            ranges.append((float(found[1]), float(found[2])))
        elif alternative != alternative.lower():
            exact.append(_word(alternative))
        else:
            words.append(_word(alternative))
    return Words(sign, _any(words), _any(exact), tuple(ranges))


def _alternatives(text: str) -> Iterator[str]:
    for alternative in text.split("|"):
        if alternative.startswith("@"):
            if alternative[1:] not in WORDS:
                raise ValueError(f"there are no words '{alternative[1:]}'")
            for each in WORDS[alternative[1:]].split():
                yield from _alternatives(each)
        else:
            yield alternative


def _any(words: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(words)) if words else None


def _word(text: str) -> str:
    """A word or phrase as a regular expression."""
    ends = r"\w*" if text.endswith("*") else ""
    body = re.escape(text.rstrip("*"))
    body = body.replace("_", r"[\s_\-]*").replace("iz", "i[sz]")
    body = re.sub(r"is(?=e|a|i|\b|$)", "i[sz]", body).replace("our", "ou?r")
    before = r"(?<![\w])" if re.match(r"\w", text) else ""
    after = r"(?!\w)" if re.search(r"[\w*]$", text) else ""
    return f"{before}{body}{ends}{after}"
