"""The one exception hierarchy and its sentences."""

from __future__ import annotations

import inspect

import pytest

from peft_lab import errors
from peft_lab.errors import BadInput, PeftLabError, UnknownName, Unsupported


def test_one_base_for_all() -> None:
    classes = [
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if value.__module__ == errors.__name__
    ]
    assert len(classes) >= 5
    assert all(issubclass(found, PeftLabError) for found in classes)
    assert all(found.__doc__ for found in classes)


def test_bad_input_names_its_field() -> None:
    error = BadInput("Rank r must be from 1 to 64.", "r")
    assert (str(error), error.field) == ("Rank r must be from 1 to 64.", "r")
    assert BadInput("something").field is None
    assert isinstance(Unsupported("no", "model"), BadInput)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("lroa", "Did you mean 'lora'?"), ("zzzz", "Known: lora, ia3."), ("", "Known: lora, ia3.")],
)
def test_unknown_names_offer_the_nearest_or_all(name: str, hint: str) -> None:
    error = UnknownName("method", name, iter(["lora", "ia3"]), "method")
    assert str(error) == f"There is no method called '{name}'. {hint}"
    assert error.field == "method"


def test_where_nothing_is_known_nothing_is_offered() -> None:
    assert str(UnknownName("sweep", "mine", [])) == "There is no sweep called 'mine'."
