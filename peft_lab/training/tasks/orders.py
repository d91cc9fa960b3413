"""Turn an order or a booking in free text into one line of JSON, or of plain fields, with five fixed fields.

The rows are generated. Every template and every customer's name belongs to one part of the split only, so a model that
scores well has learned the format and not the sentences.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import content
from peft_lab.training.tasks.base import Row, Splits, Task, check_paired, stated_task

#: The fields in the order in which the completions write them.
FIELDS = ("item", "size", "quantity", "name", "time")
TRAIN_ROWS = 1500
TEST_ROWS = 200
SEED = 20


@dataclass(frozen=True)
class Words:
    """What orders are made of, as ``orders.yaml`` states it; ``items`` are the singular and plural of each."""

    train_templates: tuple[str, ...]
    test_templates: tuple[str, ...]
    train_names: tuple[str, ...]
    test_names: tuple[str, ...]
    items: tuple[tuple[str, ...], ...]
    spoken: Mapping[str, tuple[str, ...]]


WORDS = content.read_entry(Path(__file__).with_suffix(".yaml"), Words)
SIZES = ("small", "medium", "large")
#: What a person may say for a quantity; digits are an option for each.
SPOKEN = {int(quantity): words for quantity, words in WORDS.spoken.items()}
OPENING_HOURS = range(7, 22)
SHARE_ON_THE_HOUR = 0.7


def _sentence(rng: random.Random, templates: Sequence[str], names: Sequence[str]) -> Row:
    """Return one order, worded by one of ``templates``."""
    quantity = rng.choice(tuple(SPOKEN))
    spoken = rng.choice((*SPOKEN[quantity], str(quantity)))
    size, name = rng.choice(SIZES), rng.choice(names)
    singular, plural = rng.choice(WORDS.items)
    hour = rng.choice(OPENING_HOURS)
    minute = 0 if rng.random() < SHARE_ON_THE_HOUR else rng.choice((15, 30, 45))
    clock, half = (hour - 1) % 12 + 1, "am" if hour < 12 else "pm"
    goods = f"{spoken} {size} {singular if quantity == 1 else plural}"
    text = rng.choice(templates).format(
        name=name,
        goods=goods,
        Goods=goods[0].upper() + goods[1:],
        time=f"{clock}:{minute:02d} {half}" if minute else f"{clock} {half}",
    )
    values = (singular, size, quantity, name, f"{clock}:{minute:02d} {half}")
    return Row(prompt(text), json.dumps(dict(zip(FIELDS, values, strict=True))))


def prompt(sentence: str) -> str:
    """Return the model's input: the sentence, then a word that asks for JSON. The fields are never named."""
    return f"{sentence}\nJSON:"


def _generate(
    rng: random.Random, count: int, templates: Sequence[str], names: Sequence[str]
) -> tuple[Row, ...]:
    rows: dict[str, Row] = {}
    while len(rows) < count:
        row = _sentence(rng, templates, names)
        rows.setdefault(row.text, row)
    return tuple(rows.values())


@cache
def _splits() -> Splits:
    rng = random.Random(SEED)
    train = _generate(rng, TRAIN_ROWS, WORDS.train_templates, WORDS.train_names)
    return Splits(train, _generate(rng, TEST_ROWS, WORDS.test_templates, WORDS.test_names))


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _no_constants(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_repeats, parse_constant=_no_constants)


def first_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that starts at the first brace of ``text``; None if no valid object starts there.

    Strict: a repeated key, NaN and Infinity, which Python's reader accepts, are not JSON here. Text before and
    after the object is ignored.

    >>> first_object('Sure: {"item": "tea", "amount": 2} Anything else?')
    {'item': 'tea', 'amount': 2}
    >>> first_object("{'item': 'tea'}") is None  # JSON has double quotes only
    True
    """
    start = text.find("{")
    if start < 0:
        return None
    try:
        value: dict[str, Any] = _DECODER.raw_decode(text, start)[0]
    except (ValueError, RecursionError):  # RecursionError: thousands of opening braces
        return None
    return value


def _same(left: Any, right: Any) -> bool:
    """Return whether two values are equal as JSON; Python also takes ``True`` and ``1.0`` for ``1``."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def field_scores(
    predictions: Sequence[str],
    rows: Sequence[Row],
    reader: Callable[[str], Mapping[str, Any] | None],
    valid: str,
) -> dict[str, float]:
    """Return ``exact_match``, ``valid`` (share of answers that ``reader`` reads) and ``field_accuracy``."""
    check_paired(predictions, rows)
    exact = read = right = 0
    for prediction, row in zip(predictions, rows, strict=True):
        answer, wanted = reader(prediction), reader(row.target)
        if answer is None or wanted is None:
            continue
        read += 1
        exact += _same(answer, wanted)
        right += sum(key in answer and _same(answer[key], value) for key, value in wanted.items())
    count = len(rows)
    return {
        "exact_match": exact / count,
        valid: read / count,
        "field_accuracy": right / (count * len(FIELDS)),
    }


class Orders(Task):
    """Write orders and bookings as JSON."""

    def load(self) -> Splits:
        return _splits()

    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Return ``exact_match``, ``valid_json`` and ``field_accuracy`` (share of fields that are right)."""
        return field_scores(predictions, rows, first_object, "valid_json")


FIGURES = {
    "fields": ", ".join(FIELDS),
    "train_patterns": len(WORDS.train_templates),
    "test_patterns": len(WORDS.test_templates),
    "train_names": len(WORDS.train_names),
    "test_names": len(WORDS.test_names),
}
_ORDERS = stated_task(Orders, "json", **FIGURES)
TASK = replace(_ORDERS, samples=tuple(map(prompt, _ORDERS.samples)))


# ----------------------------------------
# Free text to named fields, for an encoder-decoder: the same orders without braces.
#
# T5's vocabulary has neither braces nor line breaks, so it cannot write JSON. The same five fields are written as
# ``item=pizza; size=large; ...``; sentences, templates, names and their split are those of the JSON task.


def read_fields(text: str) -> dict[str, str] | None:
    """Return an answer's fields by name; None if it is not a list of ``name=value`` with every name once.

    >>> read_fields("item=tea;  quantity = 2")
    {'item': 'tea', 'quantity': '2'}
    >>> read_fields("item=tea; item=cake") is None and read_fields("two cups of tea") is None
    True
    """
    pairs = [part.partition("=") for part in text.split(";")]
    items = {key.strip(): value.strip() for key, _, value in pairs}
    return items if all(mark and key.strip() for key, mark, _ in pairs) and len(items) == len(pairs) else None


def _row(row: Row) -> Row:
    sentence = row.text.partition("\n")[0]
    values = "; ".join(f"{key}={value}" for key, value in json.loads(row.target).items())
    return Row(f"{sentence} Fields:", values)


@cache
def _field_splits() -> Splits:
    splits = TASK.load()
    return Splits(tuple(map(_row, splits.train)), tuple(map(_row, splits.test)))


class Fields(Task):
    """Write orders and bookings as plain fields."""

    def load(self) -> Splits:
        return _field_splits()

    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Return ``exact_match``, ``valid_fields`` and ``field_accuracy`` (share of fields that are right)."""
        return field_scores(predictions, rows, read_fields, "valid_fields")


_FIELDS = stated_task(Fields, "fields", **FIGURES)
FIELDS_TASK = replace(_FIELDS, samples=tuple(f"{sample} Fields:" for sample in _FIELDS.samples))
