"""Turn an order or a booking in free text into one line of JSON, or of plain fields, with five fixed fields.

The rows are generated. Every template and every customer's name belongs to one part of the split only, so a model that
scores well has learned the format and not the sentences.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

from peft_lab.training.tasks.base import Row, Splits, Task, check_paired

#: The fields in the order in which the completions write them.
FIELDS = ("item", "size", "quantity", "name", "time")
TRAIN_ROWS = 1500
TEST_ROWS = 200
SEED = 20

TRAIN_TEMPLATES = (
    "Order for {name}: {goods}, {time}.",
    "{name} would like {goods} at {time}.",
    "Please bring {goods} to {name} at {time}.",
    "{Goods} for {name}, ready by {time}.",
    "Hi, this is {name}. I need {goods} at {time}.",
    "At {time} {name} will pick up {goods}.",
    "Can I get {goods} for {time}? The name is {name}.",
    "Reserve {goods} under {name} for {time}.",
    "{name} called and asked for {goods} around {time}.",
    "For {time}, please prepare {goods}. Ask for {name}.",
    "Booking: {name}, {time}, {goods}.",
    "We have {goods} to deliver at {time}; the customer is {name}.",
    "Put {name} down for {goods} at {time}.",
    "My name is {name} and I want {goods} by {time}.",
    "{Goods} at {time}, please. Thanks, {name}",
    "{time}: {name} collects {goods}.",
    "Hello! {Goods} for {time}, in the name of {name}.",
    "Note: {goods}, {time}, for {name}.",
    "Could you set aside {goods} for {name} until {time}?",
    "{name} here, {goods} please, I will come at {time}.",
    "Make it {goods} for {name} at {time}.",
    "New request from {name}: {goods}, to be ready at {time}.",
    "I am ordering {goods} for {time}. It is for {name}.",
    "Send {goods} to {name} by {time}.",
)
TEST_TEMPLATES = (
    "{name} needs {goods} no later than {time}.",
    "By {time}, {name} wants {goods}.",
    "Good morning, {goods} for {name}. Pick-up is at {time}.",
    "It is {name} again: {goods} for {time}, thank you.",
    "Expect {name} at {time} to fetch {goods}.",
    "Kindly deliver {goods}, attention {name}, {time} sharp.",
    "Hold {goods} for me until {time}. Signed, {name}",
    "We promised {name} {goods} at {time}.",
)
TRAIN_NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jack", "Karen", "Leo", "Maria",
    "Nina", "Oscar", "Paula", "Rosa", "Sam", "Tom", "Vera", "Walter", "Yusuf", "Zoe", "Ahmed", "Bella", "Carlos",
)  # fmt: skip
TEST_NAMES = (
    "Alice", "Brian", "Diana", "Eric", "Fatima", "George", "Hannah", "Ivan", "Julia", "Kevin", "Laura", "Martin",
    "Nora", "Omar", "Peter", "Rachel", "Simon", "Tina", "Victor", "Wendy",
)  # fmt: skip
ITEMS = (
    ("pizza", "pizzas"), ("salad", "salads"), ("burger", "burgers"), ("cake", "cakes"), ("coffee", "coffees"),
    ("soup", "soups"), ("tea", "teas"), ("bouquet", "bouquets"), ("table", "tables"), ("room", "rooms"),
    ("tent", "tents"), ("bike", "bikes"), ("boat", "boats"), ("van", "vans"), ("box", "boxes"),
    ("poster", "posters"), ("candle", "candles"), ("shirt", "shirts"), ("jacket", "jackets"), ("basket", "baskets"),
)  # fmt: skip
SIZES = ("small", "medium", "large")
#: What a person may say for a quantity; digits are an option for each.
SPOKEN = {
    1: ("one", "a"),
    2: ("two", "a couple of"),
    3: ("three",),
    4: ("four",),
    5: ("five",),
    6: ("six", "half a dozen"),
    7: ("seven",),
    8: ("eight",),
    9: ("nine",),
    12: ("twelve", "a dozen"),
}
OPENING_HOURS = range(7, 22)
SHARE_ON_THE_HOUR = 0.7


def _sentence(rng: random.Random, templates: Sequence[str], names: Sequence[str]) -> Row:
    """Return one order, worded by one of ``templates``."""
    quantity = rng.choice(tuple(SPOKEN))
    spoken = rng.choice((*SPOKEN[quantity], str(quantity)))
    size, name = rng.choice(SIZES), rng.choice(names)
    singular, plural = rng.choice(ITEMS)
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
    train = _generate(rng, TRAIN_ROWS, TRAIN_TEMPLATES, TRAIN_NAMES)
    return Splits(train, _generate(rng, TEST_ROWS, TEST_TEMPLATES, TEST_NAMES))


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


class Orders(Task):
    """Write orders and bookings as JSON."""

    def load(self) -> Splits:
        return _splits()

    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Return ``exact_match``, ``valid_json`` and ``field_accuracy`` (share of fields that are right)."""
        check_paired(predictions, rows)
        exact = valid = fields = 0
        for prediction, row in zip(predictions, rows, strict=True):
            answer, wanted = first_object(prediction), json.loads(row.target)
            if answer is None:
                continue
            valid += 1
            exact += _same(answer, wanted)
            fields += sum(key in answer and _same(answer[key], value) for key, value in wanted.items())
        count = len(rows)
        return {
            "exact_match": exact / count,
            "valid_json": valid / count,
            "field_accuracy": fields / (count * len(FIELDS)),
        }


TASK = Orders(
    name="json",
    title="Orders to JSON",
    kind="generation",
    model_kinds=("causal-lm",),
    metric="exact_match",
    metric_help=(
        "Share of the answers whose first JSON object equals the expected one: every field, nothing missing, nothing "
        "more. The order of the keys and text around the object do not count; a repeated key is an error. "
        "'valid_json' is the share that can be read at all, 'field_accuracy' the share of single fields that are right."
    ),
    description=(
        f"An order or a booking in a sentence, to be written as one line of JSON with the fields {', '.join(FIELDS)}. "
        f"The {len(TRAIN_TEMPLATES)} sentence patterns and {len(TRAIN_NAMES)} names of the training rows and the "
        f"{len(TEST_TEMPLATES)} patterns and {len(TEST_NAMES)} names of the test rows have nothing in common, and the "
        "prompt never says which fields are wanted: only the training rows do."
    ),
    source="Generated by this app from templates, the same rows everywhere.",
    license="Apache-2.0",
    max_length=128,
    max_new_tokens=56,
    samples=tuple(
        prompt(sentence)
        for sentence in (
            "Order for Anna: two large pizzas, 7 pm.",
            "Would you keep half a dozen small candles for Priya? She comes at 4:30 pm.",
            "Is 9 am fine for Jonas? He rents three medium bikes.",
        )
    ),
)


# ----------------------------------------
# Free text to named fields, for an encoder-decoder: the same orders without braces.
#
# T5's vocabulary has neither braces nor line breaks, so it cannot write JSON. The same five fields are written as
# ``item=pizza; size=large; ...``; sentences, templates, names and their split are those of the JSON task.


def fields_prompt(sentence: str) -> str:
    """Return the model's input: the sentence, then a word that asks for fields. The fields are never named."""
    return f"{sentence} Fields:"


def written(values: dict[str, object]) -> str:
    """Return values as text, ``name=value`` with semicolons between.

    >>> written({"item": "tea", "quantity": 2})
    'item=tea; quantity=2'
    """
    return "; ".join(f"{key}={value}" for key, value in values.items())


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
    return Row(fields_prompt(row.text.partition("\n")[0]), written(json.loads(row.target)))


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
        check_paired(predictions, rows)
        exact = valid = right = 0
        for prediction, row in zip(predictions, rows, strict=True):
            answer, wanted = read_fields(prediction), read_fields(row.target)
            if answer is None or wanted is None:
                continue
            valid += 1
            exact += answer == wanted
            right += sum(answer.get(key) == value for key, value in wanted.items())
        count = len(rows)
        return {
            "exact_match": exact / count,
            "valid_fields": valid / count,
            "field_accuracy": right / (count * len(FIELDS)),
        }


FIELDS_TASK = Fields(
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
        f"{len(TRAIN_TEMPLATES)} sentence patterns to train on and {len(TEST_TEMPLATES)} others to test "
        "on, with other names. The prompt never says which fields are wanted: only the training rows do."
    ),
    source=TASK.source,
    license=TASK.license,
    max_length=128,
    max_new_tokens=56,
    samples=tuple(fields_prompt(sample.partition("\n")[0]) for sample in TASK.samples),
)
