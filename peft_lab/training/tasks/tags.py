"""Tag the words of an order: what is ordered, its size, how many, for whom and when. The rows are those of the task
Orders to JSON, so that a method on an encoder is seen on the same sentence as on a model that writes.

A tagged text is its words in order, each followed by its tag: ``Order for Anna/B-name : two/B-quantity``. A word
without a tag is outside every span. ``B-`` begins a span and ``I-`` continues it, as in CoNLL-2003.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache

from peft_lab.training.tasks import orders
from peft_lab.training.tasks.base import Row, Splits, Task, check_paired, stated_task

OUTSIDE = "O"
#: A span: its name, its first word, and the word after its last.
Span = tuple[str, int, int]


def words_of(text: str) -> list[tuple[int, int]]:
    """Return where each word begins and ends, in characters; a punctuation mark is a word.

    >>> words_of("at 7:30.")
    [(0, 2), (3, 4), (4, 5), (5, 7), (7, 8)]
    """
    return [word.span() for word in re.finditer(r"\w+|[^\w\s]", text)]


def tagged(text: str, tags: Sequence[str]) -> str:
    """Return the words of a text with the tags of all but those outside every span.

    >>> tagged("For Anna.", ["O", "B-name", "O"])
    'For Anna/B-name .'
    """
    words = [text[begin:end] for begin, end in words_of(text)]
    pairs = zip(words, tags, strict=True)
    return " ".join(word if tag == OUTSIDE else f"{word}/{tag}" for word, tag in pairs)


def tags_in(answer: str) -> list[str]:
    """Return the tag of each word of a tagged text.

    >>> tags_in("For Anna/B-name .")
    ['O', 'B-name', 'O']
    """
    parts = [part.rpartition("/") for part in answer.split()]
    return [tag if word and tag else OUTSIDE for word, _, tag in parts]


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
        """Return ``span_f1``, ``span_precision`` and ``span_recall`` over all rows, and ``exact_match``."""
        # F1 leads, as in CoNLL-2003: it grows span by span, where the share of whole rows stays 0 for long.
        check_paired(predictions, rows)
        hits = given = wanted = exact = 0
        for prediction, row in zip(predictions, rows, strict=True):
            found, target = set(spans(tags_in(prediction))), set(spans(tags_in(row.target)))
            hits += len(found & target)
            given += len(found)
            wanted += len(target)
            exact += found == target
        return {
            "span_f1": 2 * hits / ((given + wanted) or 1),
            "span_precision": hits / (given or 1),
            "span_recall": hits / (wanted or 1),
            "exact_match": exact / len(rows),
        }


TASK = stated_task(Tags, "tags", **orders.FIGURES)
