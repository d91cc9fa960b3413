"""What a stored value has to be, said by a type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from peft_lab.core.content import fits, misfit, read_typed
from peft_lab.core.errors import BadInput
from tests.prose import says


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (str, ["", "a"], [None, 1, b"a"]),
        (int, [0, 10**400], [True, 1.0, "1", None]),
        (float, [0.5, 3, 10**400], [True, float("nan"), float("inf"), "0.5", None]),
        (bool, [True], [1, "true", None]),
        (dict, [{}], [[], None]),
        (list, [[1, "a"]], [{}, "ab", None]),
        (float | None, [None, 1, 0.5], ["x", False]),
        (Literal["linear", "cosine"], ["cosine"], ["step", 1, None, ["cosine"]]),
        (list[float], [[], [1, 0.5]], [[True], [None], {"0": 1}, "12"]),
        (tuple[str, ...], [[], ["a"], ("a", "b")], [[1], "ab", None]),
        (dict[str, float | None], [{"a": None, "b": 2}], [{"a": "x"}, {1: 2}, [["a", 1]]]),
        (Mapping[str, Any], [{"a": object()}], [{1: 2}, []]),
        (list[dict[str, Any]], [[{"a": 1}]], [[{}, 1], [[]]]),
    ],
)  # fmt: skip
def test_a_value_is_of_its_kind(kind: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not fits(kind, value)] == []
    assert [value for value in bad if fits(kind, value)] == []


def test_the_first_that_is_not_is_named_and_what_is_not_asked_about_is_let_be() -> None:
    kinds = {"a": int, "b": str | None, "c": float}
    assert misfit(kinds, {"a": 1, "c": 2, "other": object()}) == ""
    assert misfit(kinds, {"a": 1, "b": 2, "c": "x"}) == "b"
    assert misfit(kinds, {"a": 1}) == "c"


@dataclass(frozen=True)
class Box:
    name: str
    sizes: tuple[int, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


def test_a_dataclass_is_read_with_its_lists_as_tuples() -> None:
    assert Box(**read_typed(Box, {"name": "a", "sizes": [1, 2]}, "A box")) == Box("a", (1, 2))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], ("[]",)),
        ({"sizes": []}, ("name",)),
        ({"name": "a", "lid": 1}, ("lid",)),
        ({"name": "a", "sizes": [1.5]}, ("sizes", "[1.5]")),
        ({"name": None}, ("name", "None")),
        ({"name": "a", "notes": {"b": "x" * 99}, "sizes": "12"}, ("sizes", "12")),
    ],
)
def test_what_is_wrong_is_one_sentence(data: Any, said: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as caught:
        read_typed(Box, data, "A box")
    assert says(caught.value, "a box", *said)
