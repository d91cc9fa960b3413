"""Forms: reading texts, errors at their fields with the nearest value, addresses, schema; and a command's options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as some

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.core.field import Field, as_text
from peft_lab.core.form import Form, choice, form_of, names, number, text, whole, yes_no

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


@given(
    some.builds(
        Job,
        rows=some.integers(1, 1000),
        seq=some.integers(1, 64),
        price=some.none() | some.sampled_from([0.0, 0.5, 9.5]),
        method=some.sampled_from(sorted(METHODS)),
        also=some.lists(some.sampled_from(sorted(METHODS)), unique=True).map(tuple),
        packed=some.booleans(),
        note=some.sampled_from(["", "as it is"]),
    )
)
def test_an_address_reads_back_as_the_form(job: Job) -> None:
    said = {name: as_text(value) for name, (value, usual) in job.address().items() if value != usual}
    assert Job.read(said) == (job, {})


def test_the_schema_states_types_ranges_and_options() -> None:
    found = Job.schema()["properties"]
    assert found["rows"] | {"title": "", "description": ""} == {
        "type": "integer", "title": "", "description": "", "default": 100, "minimum": 1, "maximum": 1000,
    }  # fmt: skip
    assert found["price"]["type"] == ["number", "null"]
    assert found["method"]["enum"] == ["lora", "ia3"]
    assert set(found) == set(Job.fields())


def test_titles_may_come_from_a_function() -> None:
    field = Field("model", "Model", "choice", "a", "Which.", options=lambda: {"a": "A", "b": "B"})
    assert field.check("b") == "b" and list(field.titles) == ["a", "b"]
    with pytest.raises(UnknownName):
        field.check("c")


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
