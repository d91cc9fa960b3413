"""Mark an answer against the right one, piece by piece: the fields of a JSON object, tagged spans, or the words."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from peft_lab.training.tasks.base import WORD
from peft_lab.training.tasks.tags import OWN_WORD, spans, tags_in, words_of

Verdict = Literal["right", "wrong", "neutral"]
Unit = Literal["field", "word"]


@dataclass(frozen=True)
class Piece:
    """A stretch of an answer's text. Punctuation, spaces and what is not scored are ``neutral``. ``tag``: of a span."""

    text: str
    verdict: Verdict
    tag: str = ""


@dataclass(frozen=True)
class Marked:
    """An answer's pieces, which joined are the answer, and how much of the right answer it has. ``missing``: fields of
    the right answer that the answer does not name; empty where words are compared. ``right``, ``total``: fields, or
    words, of the right answer: those that the answer has, and all. ``unit``: what is counted."""

    pieces: tuple[Piece, ...]
    missing: tuple[str, ...]
    right: int
    total: int
    unit: Unit


def marked(answer: str, right: str | None) -> Marked:
    """Mark ``answer`` against ``right``; everything is neutral if that is None or empty.

    If ``right`` is a JSON object, its fields are compared in the first object of the answer, which may be cut off: a
    key is right if the right answer has it, its value if it is equal as JSON. A second field of the same name is wrong,
    text around the object neutral. An answer without a brace is wrong. Any other answer is compared by words, in order
    and without regard to case.

    >>> found = marked('{"item": "tea", "size": "smal', '{"item": "tea", "size": "small", "name": "Ivan"}')
    >>> [piece.text for piece in found.pieces if piece.verdict == "wrong"], found.missing, found.right, found.total
    (['"smal'], ('name',), 1, 3)
    """
    try:
        wanted = json.loads(right or "")
    except (ValueError, RecursionError):
        wanted = None
    if isinstance(wanted, dict) and wanted:
        return _by_fields(answer, wanted)
    return _by_words(answer, right or "")


def marked_tags(text: str, answer: str, right: str) -> Marked:
    """Mark the spans of ``text`` in a tagged answer, a field each; one is right if name, first and last word are.

    >>> found = marked_tags("for Ann, 7 pm", "for/B-name Ann/B-name , 7/B-time pm/I-time", "for Ann/B-name , 7 pm")
    >>> [(piece.text, piece.verdict, piece.tag) for piece in found.pieces if piece.tag][:2], found.right
    ([('for', 'wrong', 'name'), ('Ann', 'right', 'name')], 1)
    """
    given, wanted = spans(tags_in(answer)), spans(tags_in(right))
    apart = len(text.split()) == len(
        tags_in(right)
    )  # words are separated by spaces, as in a learner's own sentences
    words = words_of(text, OWN_WORD if apart else WORD)
    pieces, at = [], 0
    for name, first, end in given:
        begin, stop = words[first][0], words[end - 1][1]
        verdict: Verdict = "right" if (name, first, end) in wanted else "wrong"
        pieces += [Piece(text[at:begin], "neutral"), Piece(text[begin:stop], verdict, name)]
        at = stop
    pieces.append(Piece(text[at:], "neutral"))
    missing = tuple(name for name, _, _ in wanted if name not in {span[0] for span in given})
    return Marked(_joined(iter(pieces)), missing, len(set(given) & set(wanted)), len(wanted), "field")


def _joined(pieces: Iterator[Piece]) -> tuple[Piece, ...]:
    """Drop empty pieces and join neutral neighbours."""
    found: list[Piece] = []
    for piece in pieces:
        if found and piece.verdict == found[-1].verdict == "neutral":
            found[-1] = Piece(found[-1].text + piece.text, "neutral")
        elif piece.text:
            found.append(piece)
    return tuple(found)


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[^\s{}\[\]:,"]+|\s+|.', re.DOTALL)
_COLON = re.compile(r"\s*:\s*")
_JSON = json.JSONDecoder()


def _by_fields(answer: str, wanted: dict[str, Any]) -> Marked:
    correct: dict[str, bool] = {}  # by name, in the answer

    def pieces() -> Iterator[Piece]:
        begin = answer.find("{")
        if begin < 0:
            yield from _words(answer)
            return
        yield Piece(answer[:begin], "neutral")
        at, depth = begin, 0
        while at < len(answer):
            token = _TOKEN.match(answer, at)
            assert token is not None  # its last alternative takes any character
            text, at = token[0], token.end()
            field = _field(answer, text, at) if depth == 1 else None
            if field is not None:
                key, value_at, end = field
                first = key not in correct
                equal = first and key in wanted and _same(answer[value_at:end], wanted[key])
                correct.setdefault(key, equal)
                yield Piece(text, "right" if first and key in wanted else "wrong")
                yield Piece(answer[at:value_at], "neutral")
                yield Piece(answer[value_at:end], "right" if equal else "wrong")
                at = end
                continue
            depth += (text in "{[") - (text in "}]")
            plain = text.isspace() or text in "{}[]:,"
            yield Piece(text, "neutral" if plain else "wrong")
            if depth == 0:  # the object is closed; what follows is not scored
                yield Piece(answer[at:], "neutral")
                return

    found = _joined(pieces())
    missing = tuple(key for key in wanted if key not in correct)
    return Marked(found, missing, sum(correct.get(key, False) for key in wanted), len(wanted), "field")


def _field(answer: str, text: str, at: int) -> tuple[str, int, int] | None:
    """Return the name that ``text`` is, and where its value begins and ends; None if this is not a name. A value that
    is cut off or not JSON is empty: what stands there is read on token by token."""
    colon = _COLON.match(answer, at)
    if colon is None or not text.startswith('"'):
        return None
    try:
        key = _JSON.raw_decode(text)[0]
    except ValueError:
        return None
    try:
        end = _JSON.raw_decode(answer, colon.end())[1]
    except (ValueError, RecursionError):
        end = colon.end()
    return str(key), colon.end(), end


def _same(value: str, wanted: Any) -> bool:
    """Compare as JSON: Python would also take ``True`` and ``1.0`` for ``1``."""
    return bool(value) and json.dumps(json.loads(value), sort_keys=True) == json.dumps(wanted, sort_keys=True)


_WORD = re.compile(r"\w+")


def _by_words(answer: str, right: str) -> Marked:
    mine, its = ([word.casefold() for word in _WORD.findall(text)] for text in (answer, right))
    if not its:
        return Marked(_joined(iter([Piece(answer, "neutral")])), (), 0, 0, "word")
    blocks = SequenceMatcher(None, mine, its, autojunk=False).get_matching_blocks()
    shared = {place for block in blocks for place in range(block.a, block.a + block.size)}
    return Marked(_joined(_words(answer, shared)), (), len(shared), len(its), "word")


def _words(answer: str, right: Container[int] = ()) -> Iterator[Piece]:
    """Yield the answer's words, those numbered in ``right`` as right, and what stands between them as neutral."""
    at = 0
    for number, word in enumerate(_WORD.finditer(answer)):
        yield Piece(answer[at : word.start()], "neutral")
        yield Piece(word[0], "right" if number in right else "wrong")
        at = word.end()
    yield Piece(answer[at:], "neutral")
