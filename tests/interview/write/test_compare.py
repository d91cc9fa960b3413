"""Results and their differences: what is equal, what is shown, and what is no result."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from peft_lab.interview.write import child, compare
from peft_lab.interview.write.compare import Other, Raised, Unreadable

MILLION = "tensor of 1,000,000 numbers"


def sent(value: Any) -> Any:
    return compare.decode(json.loads(json.dumps(child.encode(value))))


def test_a_result_comes_as_it_was_sent() -> None:
    value = {"loss": torch.tensor([[1.5, float("nan")]]), "names": ["a", ("b", None)], "n": 3, "ok": True}
    found = sent(value)
    assert found["loss"].shape == (1, 2) and np.isnan(found["loss"][0, 1])
    assert found["names"] == ["a", ["b", None]] and found["n"] == 3 and found["ok"] is True
    assert sent(torch.tensor(True)).tolist() == 1.0 and sent(torch.ones(0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (iter(()), "tuple_iterator"),
        (2**70, "int"),
        ({1: 2}, "dict"),
        (torch.ones(10**6), "tensor of 1,000,000 numbers"),
    ],
)
def test_what_no_result_may_be_is_named(value: Any, kind: str) -> None:
    assert sent(value) == Other(kind)


@pytest.mark.parametrize(
    "tree",
    [
        {"tensor": [2], "data": "AAAA"}, {"tensor": [-1], "data": ""}, {"tensor": [10**9, 10**9], "data": ""},
        {"list": [1], "more": 2}, {"raised": "ValueError"}, {"list": [{"eval": "1"}]}, [1], "x" * 1000,
        {"raised": 1, "message": "", "line": None}, {"tensor": [1], "data": "no base64!"},
    ],
)  # fmt: skip
def test_what_the_judge_does_not_write_is_refused(tree: Any) -> None:
    with pytest.raises(Unreadable):
        compare.decode(tree)


@pytest.mark.parametrize(
    ("expected", "got", "shown"),
    [
        (torch.tensor([0.2141, -0.087, 0.331]), torch.tensor([0.856, -0.348, 1.324]),
         ("+0.214 -0.087 +0.331", "+0.856 -0.348 +1.324")),
        (torch.zeros(2, 3), torch.zeros(3, 2), ("a tensor of shape (2, 3)", "a tensor of shape (3, 2)")),
        (torch.tensor(1.0), 1.0, ("a tensor of shape ()", "1.0")),
        ({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 5]}, ("b[1]: 2", "b[1]: 5")),
        (torch.tensor([1.0, 2, 3, 4, 5]), torch.tensor([1.0, 2, 3, 4, 6]), ("[4]: 5", "[4]: 6")),
        (1.0, 1.0001, ("+1.000000", "+1.000100")),
        (torch.tensor([1.0]), torch.tensor([float("nan")]), ("+1.000", "+nan")),
        (True, 1, ("True", "1")),
    ],
)  # fmt: skip
def test_the_first_difference_is_shown(expected: Any, got: Any, shown: tuple[str, str]) -> None:
    assert compare.difference(sent(expected), sent(got), 1e-5) == shown


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (torch.tensor([1, 0]), torch.tensor([True, False])), ((1, 2.0), [1, 2]), (1.0, 1.000001),
        (torch.tensor([float("nan"), float("inf")]), torch.tensor([float("nan"), float("inf")])),
    ],
)  # fmt: skip
def test_what_is_equal(expected: Any, got: Any) -> None:
    assert compare.difference(sent(expected), sent(got), 1e-5) is None


def test_a_mistake_is_recognised_by_all_its_results() -> None:
    right: compare.Results = [("a", 1.0), ("b", 2.0)]
    wrong: dict[str, compare.Results] = {
        "doubled": [("a", 2.0), ("b", 4.0)],
        "fails": [("a", Raised("E", "x"))] * 2,
    }
    assert [test.ok for test in compare.tests(right, [("a", 1.0)], 1e-5)] == [True, False]
    assert compare.recognise(right, [("a", 2.0), ("b", 4.0)], wrong, 1e-5) == "doubled"
    assert compare.recognise(right, [("a", 2.0), ("b", 2.0)], wrong, 1e-5) is None
    assert compare.recognise(right, [("a", Raised("E", "x", 3))] * 2, wrong, 1e-5) == "fails"
    assert compare.recognise(right, [("a", Raised("E", "y", 3))] * 2, wrong, 1e-5) is None


def test_the_words_of_an_exception_are_free_where_the_solution_raises_one() -> None:
    right: compare.Results = [("a", 1.0), ("b", Raised("ValueError", "no map matches"))]
    wrong: dict[str, compare.Results] = {"doubled": [("a", 2.0), ("b", Raised("ValueError", "no map"))]}
    assert (
        compare.recognise(right, [("a", 2.0), ("b", Raised("ValueError", "none"))], wrong, 1e-5) == "doubled"
    )
    assert compare.recognise(right, [("a", 2.0), ("b", Raised("KeyError", "no map"))], wrong, 1e-5) is None
