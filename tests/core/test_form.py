"""Forms: reading texts, errors at their fields with the nearest value, addresses, schema; and a command's options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.core.field import Field, is_read
from peft_lab.core.form import Form, choice, form_of, names, number, text, whole, yes_no
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import Knob
from peft_lab.models.catalogue import get_model

METHODS = {"lora": "LoRA", "ia3": "IA³"}


@dataclass(frozen=True)
class Job(Form):
    """A form with a field of each kind."""

    rows: int = whole(100, "Rows", "How many.", least=1, most=1_000, words={"few": 10})
    seq: int = whole(32, "Tokens", "How long.", least=1, most=64)
    price: float | None = number(None, "Price", "For an hour.", least=0, most=9.5, empty="no price")
    method: str = choice("lora", "Method", "Which.", METHODS)
    also: tuple[str, ...] = names((), "Also", "Others.", METHODS)
    packed: bool = yes_no(False, "Packed", "Or padded.")
    note: str = text("", "Note", "Anything.")

    def rules(self) -> Iterator[BadInput]:
        if self.rows * self.seq > 10_000:
            yield BadInput("Too many tokens.", "rows")


def test_texts_are_read_and_the_rest_keeps_its_default() -> None:
    job, wrong = Job.read({"rows": "1,000", "price": "", "also": "ia3,lora", "packed": "yes"})
    assert not wrong
    assert job == Job(rows=1000, also=("ia3", "lora"), packed=True)
    assert Job.read({"rows": "few"})[0].rows == 10
    assert Job.read({"seq": "8"}, job)[0].rows == 1000


@pytest.mark.parametrize(
    ("name", "written", "nearest"),
    [
        ("rows", "2000", 1000),
        ("rows", "-7", 1),
        ("rows", "many", None),
        ("rows", "2.5", None),
        ("rows", "1e400", None),
        ("price", "nan", None),
        ("price", "12", 9.5),
        ("method", "lorra", "lora"),
        ("also", "lora,ia4", "ia3"),
        ("packed", "perhaps", None),
    ],
)
def test_an_error_stands_at_its_field_with_the_nearest_value(
    name: str, written: str, nearest: object
) -> None:
    job, wrong = Job.read({name: written})
    assert job == Job()
    assert wrong[name].field == name and wrong[name].nearest == nearest
    assert Job.field(name).nearest(written) == nearest


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(UnknownName):
        Job.read({"row": "5"})


def test_problems_are_at_most_one_a_field() -> None:
    assert not Job().problems()
    assert [error.field for error in Job(rows=5000, seq=64, method="dora").problems()] == ["rows", "method"]
    with pytest.raises(BadInput) as caught:
        Job(rows=1000).check()
    assert caught.value.field == "rows"


def test_the_schema_states_types_ranges_and_options() -> None:
    found = Job.schema()["properties"]
    assert found["rows"] | {"title": "", "description": ""} == {
        "type": "integer", "title": "", "description": "", "default": 100, "minimum": 1, "maximum": 1000,
    }  # fmt: skip
    assert found["price"]["type"] == ["number", "null"]
    assert found["method"]["enum"] == ["lora", "ia3"]
    assert set(found) == set(Job.fields())


def test_a_choice_among_numbers_is_read_as_the_number_that_it_is() -> None:
    held = Field("held", "Rank", "choice", 8, "", options={4: "4", 8: "8", 0.5: "half"})
    assert [held.parse(text) for text in ("4", "8", "0.5")] == [4, 8, 0.5] and held.check(8) == 8
    for wrong in ("16", 16, None):
        with pytest.raises(BadInput):
            held.check(wrong)


def test_a_form_of_fields_reads_checks_and_says_them() -> None:
    rank = Field("r", "Rank r", "int", 8, "", min=1, max=64)
    form = form_of("knobs", [rank, Field("dora", "DoRA", "bool", False, "")], r=4)
    read, wrong = form.read({"r": "16", "dora": "maybe"})
    assert read.by_name() == {"r": 16, "dora": False} and set(wrong) == {"dora"}
    assert form().address() == {"r": (4, 4), "dora": (False, False)}


# -- Knobs: values from controls, addresses and command lines, in their own type or refused with the range.

RANK = Knob("r", "Rank", "int", 8, "help", min=1, max=64)
RATE = Knob("p", "Dropout", "float", 0.0, "help", min=0.0, max=0.9)
FLAG = Knob("flag", "Flag", "bool", False, "help")
KIND = Knob("kind", "Kind", "choice", "a", "help", choices=("a", "b"))
NAMES = Knob("names", "Names", "modules", (), "help")
ALL = [knob for spec in all_methods().values() for knob in spec.knobs]


@pytest.mark.parametrize(
    ("knob", "text", "value"),
    [
        (RANK, " 64 ", 64),
        (RATE, "0.25", 0.25),
        (RATE, "5e-1", 0.5),
        (FLAG, "true", True),
        (FLAG, "No", False),
        (KIND, "b", "b"),
        (NAMES, "q_proj, v_proj,,q_proj", ("q_proj", "v_proj")),
        (NAMES, "", ()),
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
        (RANK, "8", "whole number"),
        (RANK, 10**400, "must be from"),
        (RATE, 1.0, "0 to 0.9"),
        (RATE, float("nan"), "be a number"),
        (FLAG, 1, "true or false"),
        (KIND, "c", "of a, b"),
        (KIND, ["a"], "of a, b"),
        (NAMES, None, "list of names"),
    ],
)
def test_wrong_values_name_the_rule(knob: Knob, value: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        knob.check(value)
    assert caught.value.field == knob.name


@given(text=some.text(max_size=30), knob=some.sampled_from(ALL))
def test_any_text_parses_or_is_refused(text: str, knob: Knob) -> None:
    try:
        value = knob.parse(text)
    except BadInput as error:
        assert error.field == knob.name
    else:
        assert knob.check(value) == value


@given(knob=some.sampled_from([knob for knob in ALL if knob.kind in ("int", "float")]), data=some.data())
def test_every_number_in_range_survives_text(knob: Knob, data: some.DataObject) -> None:
    assert knob.min is not None and knob.max is not None
    numbers: Any = some.integers if knob.kind == "int" else some.floats
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


def test_a_knob_rests_where_the_one_that_decides_rests_itself() -> None:
    knobs = get_method("ptuning").knobs
    dropout = get_method("ptuning").knob("encoder_dropout")
    lstm = {"encoder_reparameterization_type": "LSTM"}
    assert is_read(dropout, knobs, {"version": "v1", **lstm})
    assert not is_read(dropout, knobs, {"version": "v1", "encoder_reparameterization_type": "MLP"})
    assert not is_read(dropout, knobs, {"version": "v2", **lstm})
