from __future__ import annotations

import json

import pytest

from peft_lab.training.tasks import orders
from peft_lab.training.tasks.base import Row

TASK = orders.FIELDS_TASK


def test_the_rows_are_those_of_the_json_task_and_nothing_is_shared_between_the_parts() -> None:
    splits, others = TASK.load(), orders.TASK.load()
    assert len(splits.train) == len(others.train) and len(splits.test) == len(others.test)
    for mine, theirs in zip((*splits.train, *splits.test), (*others.train, *others.test), strict=True):
        assert mine.text == theirs.text.replace("\nJSON:", " Fields:")
        assert orders.read_fields(mine.target) == {
            key: str(value) for key, value in json.loads(theirs.target).items()
        }
    assert not {row.text for row in splits.train} & {row.text for row in splits.test}


def test_prompts_and_answers_have_no_character_that_t5_lacks() -> None:
    splits = TASK.load()
    assert not [
        row for row in (*splits.train, *splits.test) if set("{}\n<~^`\\") & set(row.text + row.target)
    ]


RIGHT = "item=tea; size=small; quantity=2; name=Ann; time=7:00 pm"


@pytest.mark.parametrize(
    ("said", "exact", "valid", "share"),
    [
        (RIGHT, 1, 1, 1.0),
        ("time=7:00 pm; item=tea; size= small;quantity =2; name=Ann", 1, 1, 1.0),
        (RIGHT.replace("Ann", "Bob"), 0, 1, 0.8),
        (RIGHT.replace("; name=Ann", ""), 0, 1, 0.8),
        (f"{RIGHT}; colour=red", 0, 1, 1.0),
        (f"{RIGHT}; item=tea", 0, 0, 0.0),
        (f"{RIGHT};", 0, 0, 0.0),
        ("=tea", 0, 0, 0.0),
        ("", 0, 0, 0.0),
        ("two cups of tea", 0, 0, 0.0),
    ],
)
def test_answers_are_judged_by_their_fields(said: str, exact: int, valid: int, share: float) -> None:
    found = TASK.score([said], [Row("x", RIGHT)])
    assert found == pytest.approx({"exact_match": exact, "valid_fields": valid, "field_accuracy": share})
