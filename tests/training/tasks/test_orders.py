from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.training.tasks import orders
from peft_lab.training.tasks.base import Row
from peft_lab.training.tasks.orders import FIELDS, TASK, first_object

TARGET = '{"item": "pizza", "size": "large", "quantity": 2, "name": "Anna", "time": "7:00 pm"}'
ROW = Row("Order for Anna: two large pizzas, 7 pm.\nJSON:", TARGET)


def pattern(template: str) -> re.Pattern[str]:
    """The sentences that a template can make."""
    parts = re.split(r"\{\w+\}", template)
    return re.compile(".+".join(map(re.escape, parts)))


def matching(text: str, templates: tuple[str, ...]) -> list[str]:
    sentence = text.removesuffix("\nJSON:")
    return [template for template in templates if pattern(template).fullmatch(sentence)]


def test_sizes_of_the_split() -> None:
    splits = TASK.load()
    assert (len(splits.train), len(splits.test)) == (orders.TRAIN_ROWS, orders.TEST_ROWS)
    assert len({row.text for row in (*splits.train, *splits.test)}) == TASK.rows()


def test_templates_and_names_are_held_out() -> None:
    assert not set(orders.WORDS.train_templates) & set(orders.WORDS.test_templates)
    assert not set(orders.WORDS.train_names) & set(orders.WORDS.test_names)
    splits = TASK.load()
    for row in splits.test:
        assert matching(row.text, orders.WORDS.test_templates), row.text
        assert json.loads(row.target)["name"] in orders.WORDS.test_names
    for row in splits.train:
        assert not matching(row.text, orders.WORDS.test_templates), row.text
        assert matching(row.text, orders.WORDS.train_templates), row.text
        assert json.loads(row.target)["name"] in orders.WORDS.train_names


def test_every_template_item_and_name_is_used() -> None:
    splits = TASK.load()
    used = {template for row in splits.test for template in matching(row.text, orders.WORDS.test_templates)}
    assert used == set(orders.WORDS.test_templates)
    records = [json.loads(row.target) for row in splits.train]
    assert {record["item"] for record in records} == {item for item, _ in orders.WORDS.items}
    assert {record["name"] for record in records} == set(orders.WORDS.train_names)
    assert {record["quantity"] for record in records} == set(orders.SPOKEN)
    counts = Counter(record["size"] for record in records)
    assert min(counts.values()) > 0.25 * len(records)


def test_targets_say_what_the_sentence_says() -> None:
    for row in TASK.load().test:
        record = json.loads(row.target)
        assert tuple(record) == FIELDS
        assert "\n" not in row.target
        clock, half = record["time"].split()
        hour, minute = clock.split(":")
        said = f"{hour} {half}" if minute == "00" else record["time"]
        for part in (record["name"], record["size"], record["item"], said):
            assert part in row.text
        number = [*orders.SPOKEN[record["quantity"]], str(record["quantity"])]
        assert any(f"{word} {record['size']}" in row.text.lower() for word in number)


def exact(prediction: str) -> float:
    return TASK.score([prediction], [ROW])["exact_match"]


@pytest.mark.parametrize(
    "prediction",
    [
        TARGET,
        f" {TARGET}\n\nIs there anything else?",
        f"Sure! ```json\n{TARGET}\n``` and {{more}}",
        json.dumps(dict(reversed(json.loads(TARGET).items())), indent=2),
        TARGET + TARGET,
    ],
)
def test_what_counts_as_exact(prediction: str) -> None:
    assert exact(prediction) == 1.0


@pytest.mark.parametrize(
    ("prediction", "valid"),
    [
        ("", 0),
        ("two large pizzas", 0),
        (TARGET[:-1], 0),
        (TARGET.replace('"', "'"), 0),
        ("[" + TARGET, 1),
        ("{oops " + TARGET, 0),
        (TARGET.replace('"quantity": 2', '"quantity": 2, "quantity": 2'), 0),
        (TARGET.replace('"quantity": 2', '"quantity": NaN'), 0),
        ('{"a":' * 100_000, 0),
        (TARGET.replace(": 2,", ': "2",'), 1),
        (TARGET.replace(": 2,", ": 2.0,"), 1),
        (TARGET.replace("Anna", "anna"), 1),
        (TARGET.replace("}", ', "note": ""}'), 1),
        (TARGET.replace('"size": "large", ', ""), 1),
        ('{"data": ' + TARGET + "}", 1),
    ],
)
def test_what_does_not(prediction: str, valid: int) -> None:
    scores = TASK.score([prediction], [ROW])
    assert scores["valid_json"] == valid
    assert scores["exact_match"] == float(prediction == "[" + TARGET)


def test_one_is_not_true() -> None:
    row = Row("x", TARGET.replace(": 2,", ": 1,"))
    assert TASK.score([row.target.replace(": 1,", ": true,")], [row])["exact_match"] == 0


def test_field_accuracy_counts_single_fields() -> None:
    scores = TASK.score([TARGET.replace("Anna", "Ben"), "no"], [ROW, ROW])
    assert scores == {"exact_match": 0.0, "valid_json": 0.5, "field_accuracy": pytest.approx(4 / 10)}


@given(st.text(alphabet='{}[]":,0123456789 truefalsn\\\n', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    found = first_object(text)
    assert found is None or isinstance(found, dict)


@given(
    st.dictionaries(st.text(), st.integers() | st.text() | st.none()), st.text(alphabet="abc }\n"), st.text()
)
def test_an_object_is_found_between_other_text(value: dict[str, object], before: str, after: str) -> None:
    assert first_object(before + json.dumps(value) + after) == value
