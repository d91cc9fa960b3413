"""The glossary: one explanation of each word that a newcomer may not know, for every page that uses it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from peft_lab.core.content import read_table
from peft_lab.core.errors import named

CONTENT = Path(__file__).with_name("content") / "glossary.yaml"


@dataclass(frozen=True, kw_only=True)
class Word:
    """One word of the glossary. ``term``: as it is listed. ``also``: other forms of it in a text. ``meaning``: one to
    three sentences, plain text."""

    term: str
    meaning: str
    also: tuple[str, ...] = ()


@cache
def words() -> dict[str, Word]:
    """Return the words by term, in alphabetical order."""
    table = read_table([CONTENT], Word, "term")
    return {term: table[term] for term in sorted(table, key=str.casefold)}


def meaning(term: str) -> str:
    """Return a word's explanation. Raises UnknownName: the glossary has no such word."""
    return named("word", term, words(), "term").meaning


@cache
def _forms() -> dict[str, str]:
    """Return the term of every form, in lower case."""
    return {form.lower(): word.term for word in words().values() for form in (word.term, *word.also)}


@cache
def _pattern() -> re.Pattern[str]:
    forms = sorted(map(re.escape, _forms()), key=len, reverse=True)  # "learning rate" before "rate"
    return re.compile(rf"(?<![\w-])(?:{'|'.join(forms)})(?![\w-])", re.IGNORECASE)


def pieces(text: str) -> list[tuple[str, Word | None]]:
    """Return the text in pieces, each with the word it is where that word is used for the first time.

    >>> [(piece, word and word.term) for piece, word in pieces("Low rank")]
    [('Low rank', 'low rank')]
    """
    found: list[tuple[str, Word | None]] = []
    seen: set[str] = set()
    end = 0
    for match in _pattern().finditer(text):
        term = _forms()[match[0].lower()]
        if term in seen:
            continue
        seen.add(term)
        found += [(text[end : match.start()], None), (match[0], words()[term])]
        end = match.end()
    return [piece for piece in [*found, (text[end:], None)] if piece[0]]
