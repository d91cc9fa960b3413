"""Free text to named fields, for an encoder-decoder: the orders of :mod:`peft_lab.tasks.orders` without braces.

T5's vocabulary has neither braces nor line breaks, so that no JSON can come out of it. The same five fields are written
as ``item=pizza; size=large; ...``; sentences, templates, names and their split are those of the JSON task.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

from peft_lab.tasks import orders
from peft_lab.tasks.base import Row, Splits, Task, check_paired
from peft_lab.tasks.orders import FIELDS


def prompt(sentence: str) -> str:
    """What the model reads: the sentence, then a word that asks for fields. They are never named."""
    return f"{sentence} Fields:"


def written(values: dict[str, object]) -> str:
    """
    >>> written({"item": "tea", "quantity": 2})
    'item=tea; quantity=2'
    """
    return "; ".join(f"{key}={value}" for key, value in values.items())


def read(text: str) -> dict[str, str] | None:
    """The fields of an answer by name, or None if it is not a list of fields: ``name=value``, each once.

    >>> read("item=tea;  quantity = 2")
    {'item': 'tea', 'quantity': '2'}
    >>> read("item=tea; item=cake") is None and read("two cups of tea") is None
    True
    """
    pairs = [part.partition("=") for part in text.split(";")]
    found = {key.strip(): value.strip() for key, _, value in pairs}
    return found if all(mark and key.strip() for key, mark, _ in pairs) and len(found) == len(pairs) else None


def _row(row: Row) -> Row:
    return Row(prompt(row.text.partition("\n")[0]), written(json.loads(row.target)))


@cache
def _splits() -> Splits:
    found = orders.TASK.load()
    return Splits(tuple(map(_row, found.train)), tuple(map(_row, found.test)))


class Fields(Task):
    """Orders and bookings to fields."""

    def load(self) -> Splits:
        return _splits()

    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """``exact_match``, ``valid_fields`` and ``field_accuracy`` (share of fields that are right)."""
        check_paired(predictions, rows)
        exact = valid = right = 0
        for prediction, row in zip(predictions, rows, strict=True):
            found, wanted = read(prediction), read(row.target)
            if found is None or wanted is None:
                continue
            valid += 1
            exact += found == wanted
            right += sum(found.get(key) == value for key, value in wanted.items())
        count = len(rows)
        return {
            "exact_match": exact / count,
            "valid_fields": valid / count,
            "field_accuracy": right / (count * len(FIELDS)),
        }


TASK = Fields(
    name="fields",
    title="Orders to fields",
    kind="generation",
    model_kinds=("seq2seq",),
    metric="exact_match",
    metric_help=(
        "Share of the answers with exactly the expected fields: every value, nothing missing, nothing more, no field "
        "twice. Their order does not count. 'valid_fields' is the share that can be read as fields at all, "
        "'field_accuracy' the share of single fields that are right."
    ),
    description=(
        f"An order or a booking in a sentence, to be written as one line of the fields {', '.join(FIELDS)}, each as "
        "name=value. The rows are those of the task Orders to JSON, without braces, which T5's vocabulary lacks: "
        f"{len(orders.TRAIN_TEMPLATES)} sentence patterns to train on and {len(orders.TEST_TEMPLATES)} others to test "
        "on, with other names. The prompt never says which fields are wanted: only the training rows do."
    ),
    source=orders.TASK.source,
    license=orders.TASK.license,
    max_length=128,
    max_new_tokens=56,
    samples=tuple(prompt(sample.partition("\n")[0]) for sample in orders.TASK.samples),
)
