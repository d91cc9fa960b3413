"""Knobs: values from controls, addresses and command lines, in their own type or refused with the range."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.core.field import is_read, read
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import Knob
from peft_lab.models.catalogue import get_model

RANK = Knob("r", "Rank", "int", 8, "help", min=1, max=64)
RATE = Knob("p", "Dropout", "float", 0.0, "help", min=0.0, max=0.9)
FLAG = Knob("flag", "Flag", "bool", False, "help")
KIND = Knob("kind", "Kind", "choice", "a", "help", choices=("a", "b"))
NAMES = Knob("names", "Names", "modules", (), "help")
TEXT = Knob("text", "Text", "text", "", "help")
ALL = [knob for spec in all_methods().values() for knob in spec.knobs]


@pytest.mark.parametrize(
    ("knob", "text", "value"),
    [
        (RANK, "8", 8),
        (RANK, " 64 ", 64),
        (RATE, "0.25", 0.25),
        (RATE, "0", 0.0),
        (RATE, "5e-1", 0.5),
        (FLAG, "true", True),
        (FLAG, "No", False),
        (FLAG, "1", True),
        (KIND, "b", "b"),
        (NAMES, "q_proj, v_proj,,q_proj", ("q_proj", "v_proj")),
        (NAMES, "", ()),
        (TEXT, "any text", "any text"),
    ],
)
def test_parse(knob: Knob, text: str, value: Any) -> None:
    parsed = knob.parse(text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("knob", "value", "message"),
    [
        (RANK, 0, "1 to 64"),
        (RANK, 65, "1 to 64"),
        (RANK, 8.5, "whole number"),
        (RANK, True, "whole number"),
        (RANK, "8", "whole number"),
        (RANK, 10**400, "must be from"),
        (RATE, 1.0, "0 to 0.9"),
        (RATE, float("nan"), "be a number"),
        (RATE, float("inf"), "be a number"),
        (RATE, None, "be a number"),
        (FLAG, 1, "true or false"),
        (KIND, "c", "of a, b"),
        (KIND, ["a"], "of a, b"),
        (NAMES, 3, "list of names"),
        (NAMES, None, "list of names"),
        (TEXT, 3, "be text"),
    ],
)
def test_wrong_values_name_the_rule(knob: Knob, value: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        knob.check(value)
    assert caught.value.field == knob.name


@pytest.mark.parametrize("text", ["", "eight", "1.5", "nan", "9" * 5000, "0x10"])
def test_texts_that_are_no_number(text: str) -> None:
    with pytest.raises(BadInput, match="Rank"):
        RANK.parse(text)


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(BadInput) as caught:
        KIND.check("x" * 1000)
    assert len(str(caught.value)) < 120


@given(text=st.text(max_size=30), knob=st.sampled_from(ALL))
def test_any_text_parses_or_is_refused(text: str, knob: Knob) -> None:
    try:
        value = knob.parse(text)
    except BadInput as error:
        assert error.field == knob.name
    else:
        assert knob.check(value) == value


@given(knob=st.sampled_from([knob for knob in ALL if knob.kind in ("int", "float")]), data=st.data())
def test_every_number_in_range_survives_text(knob: Knob, data: st.DataObject) -> None:
    assert knob.min is not None and knob.max is not None
    numbers: Any = st.integers if knob.kind == "int" else st.floats
    low, high = (int(knob.min), int(knob.max)) if knob.kind == "int" else (knob.min, knob.max)
    value = data.draw(numbers(low, high))
    assert knob.parse(str(value)) == value


@pytest.mark.parametrize("knob", ALL, ids=lambda knob: knob.name)
def test_stops_are_in_range(knob: Knob) -> None:
    for stop in knob.stops:
        assert knob.check(int(stop) if knob.kind == "int" else stop) == stop
    assert knob.help in knob.full_help and knob.paper in knob.full_help


@pytest.mark.parametrize("slug", list(all_methods()))
def test_what_decides_whether_a_knob_is_read_stands_before_it(slug: str) -> None:
    knobs = get_method(slug).knobs
    drawn = [knob.name for knob in sorted(knobs, key=lambda knob: knob.advanced)]
    for knob in knobs:
        if knob.read_when is not None:
            name, wanted = knob.read_when
            assert drawn.index(name) < drawn.index(knob.name)
            assert all(get_method(slug).knob(name).check(value) == value for value in wanted)


@pytest.mark.parametrize("slug", list(all_methods()))
@pytest.mark.parametrize("model", ["smollm2-135m", "bert-base"])
def test_a_knob_that_is_not_read_changes_nothing(slug: str, model: str) -> None:
    """Neither the count nor PEFT's config, but for the setting itself."""
    spec, shape = get_method(slug), get_model(model).shape
    for knob in spec.knobs:
        if knob.read_when is None or knob.kind == "text":
            continue
        decides = spec.knob(knob.read_when[0])
        others = decides.choices or (True, False)
        for other in set(others) - set(knob.read_when[1]):
            values = spec.complete(shape, {decides.name: other})
            assert not is_read(knob, spec.knobs, values)
            moved = values | {knob.name: moved_from(knob, values[knob.name])}
            if any(problem.level == "error" for problem in spec.problems(shape, values)):
                continue
            assert spec.formula(shape, moved).trainable == spec.formula(shape, values).trainable
            assert spec.quantization(moved) == spec.quantization(values)


def moved_from(knob: Knob, value: Any) -> Any:
    if knob.kind == "choice":
        return next(other for other in knob.choices if other != value)
    if knob.kind == "bool":
        return not value
    return knob.max if value != knob.max else knob.min


def test_settings_that_agree_in_what_is_read_are_the_same() -> None:
    knobs = get_method("qlora").knobs
    values = {"r": 8, "load_in_8bit": True, "bnb_4bit_quant_type": "nf4"}
    assert (
        read(knobs, values)
        == read(knobs, values | {"bnb_4bit_quant_type": "fp4"})
        == {"r": 8, "load_in_8bit": True}
    )
    four = values | {"load_in_8bit": False}
    assert read(knobs, four) != read(knobs, four | {"bnb_4bit_quant_type": "fp4"})


def test_a_knob_rests_where_the_one_that_decides_rests_itself() -> None:
    knobs = get_method("ptuning").knobs
    dropout = get_method("ptuning").knob("encoder_dropout")
    lstm = {"encoder_reparameterization_type": "LSTM"}
    assert is_read(dropout, knobs, {"version": "v1", **lstm})
    assert not is_read(dropout, knobs, {"version": "v1", "encoder_reparameterization_type": "MLP"})
    assert not is_read(dropout, knobs, {"version": "v2", **lstm})
