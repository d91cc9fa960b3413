"""Tag the words of an order: what is ordered, its size, how many, for whom and when. The rows are those of the task
Orders to JSON, so that a method on an encoder is seen on the same sentence as on a model that writes.

A tagged text is its words in order, each followed by its tag: ``Order for Anna/B-name : two/B-quantity``. A word
without a tag is outside every span. ``B-`` begins a span and ``I-`` continues it, as in CoNLL-2002 (BIO, or IOB2).

A learner's own sentences come word by word with a tag each; spaces separate their words here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache

from peft_lab.training.tasks import orders
from peft_lab.training.tasks.base import WORD, Row, Splits, Task, check_paired, is_blank, stated_task
from peft_lab.training.tasks.records import Record, RecordTable, bad, half_a_character, shorten

OUTSIDE = "O"
#: A span: its name, its first word, and the word after its last.
Span = tuple[str, int, int]


def words_of(text: str, word: str = WORD) -> list[tuple[int, int]]:
    """Return where each word begins and ends, in characters. ``word``: a word, as a regular expression.

    >>> words_of("at 7:30.")
    [(0, 2), (3, 4), (4, 5), (5, 7), (7, 8)]
    """
    return [found.span() for found in re.finditer(word, text)]


def tagged(text: str, tags: Sequence[str], word: str = WORD) -> str:
    """Return the words of a text with their tags. Those outside every span have none, unless they look tagged.

    >>> tagged("For Anna.", ["O", "B-name", "O"])
    'For Anna/B-name .'
    """
    words = [text[begin:end] for begin, end in words_of(text, word)]
    pairs = zip(words, tags, strict=True)
    return " ".join(
        name if tag == OUTSIDE and tags_in(name) == [OUTSIDE] else f"{name}/{tag}" for name, tag in pairs
    )


def tags_in(answer: str) -> list[str]:
    """Return the tag of each word of a tagged text.

    >>> tags_in("For Anna/B-name and/or Bob")
    ['O', 'B-name', 'O', 'O']
    """
    parts = [re.fullmatch(r".+/([BI]-.+|O)", part) for part in answer.split()]
    return [OUTSIDE if part is None else part[1] for part in parts]


def spans(tags: Sequence[str]) -> list[Span]:
    """Return the spans in order. As in seqeval's default mode, ``I-`` after another span or none begins one.

    >>> spans(["B-time", "I-time", "O", "I-name", "B-name"])
    [('time', 0, 2), ('name', 3, 4), ('name', 4, 5)]
    """
    found: list[Span] = []
    for at, tag in enumerate(tags):
        mark, _, name = tag.partition("-")
        if mark == "I" and found and found[-1][0] == name and found[-1][2] == at:
            found[-1] = (name, found[-1][1], at + 1)
        elif mark in ("B", "I"):
            found.append((name, at, at + 1))
    return found


def _tagged_row(row: Row) -> Row:
    """Return an order of the JSON task with the words that stand for its fields tagged."""
    text, values = row.text.partition("\n")[0], json.loads(row.target)
    spoken = "|".join((*orders.SPOKEN[values["quantity"]], str(values["quantity"])))
    forms = next(forms for forms in orders.WORDS.items if forms[0] == values["item"])
    item = forms[values["quantity"] != 1]
    time = values["time"].replace(":00", "")
    places: dict[int, tuple[str, int]] = {}  # name and end of a span, by where it begins
    for pattern in (
        rf"\b(?P<quantity>{spoken}) (?P<size>{values['size']}) (?P<item>{item})\b",
        rf"\b(?P<name>{values['name']})\b",
        rf"\b(?P<time>{time})\b",
    ):
        found = re.search(pattern, text, re.IGNORECASE)
        assert found is not None, f"the order names each of its fields: {text}"
        places |= {found.start(name): (name, found.end(name)) for name in found.groupdict()}
    tags, name, end = [], "", 0
    for begin, _ in words_of(text):
        inside = begin < end
        name, end = places.get(begin, (name, end))
        tags.append(f"I-{name}" if inside else f"B-{name}" if begin in places else OUTSIDE)
    return Row(text, tagged(text, tags))


@cache
def _splits() -> Splits:
    splits = orders.TASK.load()
    return Splits(tuple(map(_tagged_row, splits.train)), tuple(map(_tagged_row, splits.test)))


class Tags(Task):
    """Tag the fields in orders and bookings."""

    def load(self) -> Splits:
        return _splits()

    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        return span_scores(predictions, rows)


def span_scores(predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
    """Return ``span_f1``, ``span_precision`` and ``span_recall`` over all rows, and ``exact_match``; all are 1 if there
    is no span and none is marked."""
    # F1 leads, as in CoNLL-2003: it grows span by span, where the share of whole rows stays 0 for long.
    check_paired(predictions, rows)
    hits = given = wanted = exact = 0
    for prediction, row in zip(predictions, rows, strict=True):
        found, target = set(spans(tags_in(prediction))), set(spans(tags_in(row.target)))
        hits += len(found & target)
        given += len(found)
        wanted += len(target)
        exact += found == target
    if not given and not wanted:
        hits = given = wanted = 1
    return {
        "span_f1": 2 * hits / (given + wanted),
        "span_precision": hits / (given or 1),
        "span_recall": hits / (wanted or 1),
        "exact_match": exact / len(rows),
    }


TASK = stated_task(Tags, "tags", **orders.FIGURES)


# ----------------------------------------
# Sentences in a learner's file, as lists of ``tokens`` and ``tags``. An error names the line and the word.


#: A word of a learner's sentence: their own words hold no space, and may hold punctuation marks.
OWN_WORD = r"\S+"
#: What BIO has for the marks of BIOES and BILOU, which also mark a span's end and a span of one word.
_MARKS = {"B": "B", "I": "I", "S": "B", "U": "B", "E": "I", "L": "I"}
_LONGEST_NAME = 60


def own_rows(table: RecordTable, longest: int) -> tuple[list[Row], int]:
    """Return the rows of a table with ``tokens`` and ``tags``, and how many of their tags were rewritten as BIO (from
    IOB1, BIOES or BILOU). ``longest``: characters of a sentence. Raises BadInput naming line and word."""
    rows, rewritten = [], 0
    for record in table.records:
        words, given = _pairs(record, table.unit)
        tags: list[str] = []
        for tag in given:
            mark, _, name = tag.partition("-")
            begins = mark == "I" and (tags[-1:] or [OUTSIDE])[0][2:] != name
            tags.append(f"B-{name}" if begins else tag)
        rewritten += sum(one != other for one, other in zip(tags, record.values["tags"], strict=True))
        # A token with spaces becomes words of one span.
        parts = [
            (part, f"I-{tag[2:]}" if number and tag != OUTSIDE else tag)
            for word, tag in zip(words, tags, strict=True)
            for number, part in enumerate(word.split())
        ]
        text = " ".join(part for part, _ in parts)
        if is_blank(text):
            raise bad(f"The sentence in line {record.number:,} is blank.")
        if len(text) > longest:
            raise bad(f"The sentence in line {record.number:,} is longer than {longest:,} characters.")
        rows.append(Row(text, tagged(text, [tag for _, tag in parts], OWN_WORD), line=record.number))
    return rows, rewritten


def _pairs(record: Record, unit: str) -> tuple[list[str], list[str]]:
    """Return the words of a sentence and their tags with the marks of BIO. Raises BadInput."""
    where = f"line {record.number:,}"
    words, tags = record.values.get("tokens"), record.values.get("tags")
    if not isinstance(words, list) or not isinstance(tags, list):
        raise bad(f"'tokens' and 'tags' must both be lists in {where}.")
    if not words or len(words) != len(tags):
        raise bad(
            f"There are {len(words):,} tokens and {len(tags):,} tags in {where}; give each token one tag."
        )
    for at, (word, tag) in enumerate(zip(words, tags, strict=True)):
        place = f"line {record.number + at:,}" if unit == "word" else f"token {at + 1:,} in {where}"
        if not isinstance(word, str) or not word.strip() or half_a_character(word):
            raise bad(f"The word is blank or not a text: {place}.")
        if isinstance(tag, int):
            raise bad(f"The tag is the number {tag}, not a name such as B-place: {place}.")
        mark, _, name = tag.partition("-") if isinstance(tag, str) else ("", "", "")
        if tag != OUTSIDE and not (mark in _MARKS and name and tags_in(f"word/B-{name}") == [f"B-{name}"]):
            raise bad(
                f"The tag '{shorten(str(tag))}' is neither O nor of the form B-place or I-place: {place}."
            )
        if len(name) > _LONGEST_NAME:
            raise bad(f"The tag has more than {_LONGEST_NAME} characters: {place}.")
    return words, [tag if tag == OUTSIDE else f"{_MARKS[tag[0]]}-{tag[2:]}" for tag in tags]
