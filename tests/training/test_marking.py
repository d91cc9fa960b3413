"""Marking an answer against the right one: pieces, missing fields and counts, for whatever a model writes."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peft_lab.training.marking import Marked, marked

RIGHT = '{"item": "salad", "size": "large", "quantity": 8, "name": "Martin", "time": "8:00 am"}'

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(), JSON, min_size=1, max_size=5)
PIECES = st.sampled_from(
    ['{"', '"', ":", ", ", "{", "}", "[", "]", "\\", "item", '"size": "large"', "8", " ", "\n"]
)
#: Any text, and text that looks like JSON.
TEXTS = st.text() | st.lists(PIECES, max_size=25).map("".join)


def _texts(found: Marked, verdict: str) -> list[str]:
    return [piece.text for piece in found.pieces if piece.verdict == verdict]


@settings(max_examples=150, deadline=None)
@given(answer=TEXTS, right=TEXTS | OBJECTS.map(json.dumps) | st.none())
@example(answer='{"a":' * 3000, right=RIGHT)
@example(answer='{"quantity": ' + "9" * 5000, right=RIGHT)
@example(answer='{"quantity": NaN}', right=RIGHT)
@example(answer='{"\\ud800": "\\ud800"}', right='{"\\ud800": "\\ud800"}')
def test_any_text_is_marked_without_losing_a_character(answer: str, right: str | None) -> None:
    found = marked(answer, right)
    assert "".join(piece.text for piece in found.pieces) == answer
    assert all(piece.text for piece in found.pieces)
    assert 0 <= found.right <= found.total
    assert found.right + len(found.missing) <= found.total


@settings(max_examples=100, deadline=None)
@given(right=OBJECTS, indent=st.sampled_from([None, 2]))
def test_the_right_object_is_right_whatever_its_spacing_and_order(
    right: dict[str, object], indent: int | None
) -> None:
    answer = json.dumps(dict(reversed(right.items())), indent=indent)
    found = marked(f"Sure: {answer} Bye", json.dumps(right))
    assert (found.right, found.total, found.missing, found.unit) == (len(right), len(right), (), "field")
    assert not _texts(found, "wrong")


@settings(max_examples=100, deadline=None)
@given(right=st.text())
def test_the_right_text_is_right_word_by_word(right: str) -> None:
    found = marked(right, right)
    assert found.right == found.total
    assert not _texts(found, "wrong")


@pytest.mark.parametrize(
    ("fields", "rest"), [(0, '{"it'), (1, ', "si'), (2, ', "quantity": '), (3, ', "name": "Mar')]
)
def test_a_cut_off_object_has_the_fields_that_are_complete(fields: int, rest: str) -> None:
    pairs = [f'"{key}": {json.dumps(value)}' for key, value in json.loads(RIGHT).items()]
    found = marked(("{" if fields else "") + ", ".join(pairs[:fields]) + rest, RIGHT)
    assert found.right == fields
    assert "".join(_texts(found, "wrong")) in ('"it', '"si', "", '"Mar')


def test_keys_and_values_are_marked_apart() -> None:
    answer = '{"name": "Martin", "time": "9:00 am", "items": "salad", "size": "large", "quantity": 8.0}'
    found = marked(answer, RIGHT)
    assert _texts(found, "right") == ['"name"', '"Martin"', '"time"', '"size"', '"large"', '"quantity"']
    assert _texts(found, "wrong") == ['"9:00 am"', '"items"', '"salad"', "8.0"]
    assert (found.right, found.total, found.missing) == (2, 5, ("item",))


def test_words_are_compared_in_order_without_case() -> None:
    found = marked("item=tea; size=LARGE; name=Ivan", "item=tea; size=large; quantity=2; name=Nora")
    assert _texts(found, "wrong") == ["Ivan"]
    assert (found.right, found.total, found.unit) == (5, 8, "word")
