"""Reading one answer: for each point whether it was made, is missing or is contradicted, or that it cannot be told.

Nothing is graded. A point counts as made where one sentence holds all that a pattern asks for, with the right
negations, and enough speaks for the finding; as contradicted only by words of one clause; as missing only where hardly
a word of it was found; everything between is left to the learner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from peft_lab.quiz.reading.confidence import Signs, confidence, signs
from peft_lab.quiz.reading.facet import Error, Facets, Point
from peft_lab.quiz.reading.facets import all_facets
from peft_lab.quiz.reading.falsehoods import false_here
from peft_lab.quiz.reading.patterns import Pattern
from peft_lab.quiz.reading.text import Sentence, Span, sentences

State = Literal["made", "contradicted", "missing", "unsure"]
HINT = 0.6  # share of a pattern's terms from which on a point may have been made in words that are not known


@dataclass(frozen=True)
class PointRead:
    """One point. ``spans``: the learner's words that it was found in, positions in the answer; ``error`` what they say
    instead, where it is contradicted; ``signs`` how sure a finding was."""

    point: Point
    state: State
    spans: tuple[Span, ...] = ()
    error: str = ""
    signs: Signs | None = None


@dataclass(frozen=True)
class ErrorRead:
    """An error that was found in the answer and belongs to no point."""

    error: Error
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class AnswerRead:
    """All that could be read in an answer."""

    points: tuple[PointRead, ...]
    errors: tuple[ErrorRead, ...]

    def of(self, state: State) -> tuple[PointRead, ...]:
        return tuple(each for each in self.points if each.state == state)


def readable() -> Mapping[str, Facets]:
    """Facets by question id, of those questions whose answers can be read."""
    return all_facets()


def read_answer(question: str, answer: str) -> AnswerRead | None:
    """Read an answer to a question; ``None`` where that question has no facets."""
    found = all_facets().get(question)
    return None if found is None else read_with(found, answer, false_here(question))


def read_with(
    wanted: Facets, answer: str, falsehoods: Sequence[Error] = (), doubting: bool = True
) -> AnswerRead:
    """Read an answer with given facets, and for what is false whatever is asked.

    ``doubting``: a point that was found without enough signs for it is left open; ``False`` is for measuring them.
    """
    parts = sentences(answer)
    claims = [part for part in parts if not part.asks]
    loose = {each: _found(each.patterns, claims) for each in wanted.errors}
    wrong = {each: _found(each.patterns, claims, one_clause=True) for each in wanted.errors}
    told = [span for spans in loose.values() for span in spans]
    for each in falsehoods:
        spans = _found(each.patterns, claims, one_clause=True)
        if not any(first < other[1] and other[0] < last for first, last in spans for other in told):
            loose[each] = wrong[each] = spans
    heard = tuple(part for part in parts if not part.dismissed)
    points = []
    for index, point in enumerate(wanted.points):
        against = {each: spans for each, spans in wrong.items() if each.against == index and spans}
        doubt = any(spans for each, spans in loose.items() if each.against == index)
        points.append(_read_point(point, heard, parts, against, doubt))
    if any(loose.values()):  # whoever errs on one point may have meant something else by the words of another
        points = [
            replace(each, state="unsure", spans=()) if each.state == "made" else each for each in points
        ]
    points = _with_signs(points, answer, heard, doubting)
    rest = (ErrorRead(each, spans) for each, spans in wrong.items() if each.against is None and spans)
    return AnswerRead(tuple(points), tuple(rest))


def _read_point(
    point: Point,
    heard: tuple[Sentence, ...],
    parts: tuple[Sentence, ...],
    against: Mapping[Error, tuple[Span, ...]],
    doubt: bool,
) -> PointRead:
    made = _found(point.patterns, heard)
    if doubt and (made or not against):
        return PointRead(point, "unsure")
    if against:
        spans = tuple(span for each in against.values() for span in each)
        return PointRead(point, "contradicted", spans, next(iter(against)).text)
    if made:
        return PointRead(point, "made", made)
    near = max((each.share(parts) for each in point.patterns), default=0.0)
    return PointRead(point, "unsure" if near >= HINT else "missing")


def _with_signs(
    points: Sequence[PointRead], answer: str, parts: Sequence[Sentence], doubting: bool
) -> list[PointRead]:
    nearly = sum(each.state == "unsure" for each in points)
    read = []
    for each in points:
        if each.state == "made":
            patterns = sum(bool(_found([one], parts)) for one in each.point.patterns)
            seen = signs(each.point.text, answer, patterns, nearly)
            open_ = doubting and not confidence().enough(seen)
            each = replace(each, state="unsure", spans=()) if open_ else each
            each = replace(each, signs=seen)
        read.append(each)
    return read


def _found(
    patterns: Sequence[Pattern], parts: Sequence[Sentence], one_clause: bool = False
) -> tuple[Span, ...]:
    """Where any of the patterns is found, in the answer's own positions; one place for each sentence.

    ``one_clause``: only where all its terms stand in one clause; words of two clauses may say different things.
    """
    found = []
    for part in parts:
        if part.unsure or part.reported:
            continue
        spans = [span for span in (each.find(part) for each in patterns) if span]
        if one_clause:
            spans = [span for span in spans if not part.parted(span)]
        if spans:
            first, last = min(spans, key=lambda span: span[1] - span[0])
            found.append((part.start + first, part.start + last))
    return tuple(found)
