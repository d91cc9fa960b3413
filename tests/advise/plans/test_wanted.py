"""What can be asked, and the one sentence for what cannot."""

from __future__ import annotations

from datetime import datetime

import pytest

from peft_lab.advise.plans import ranking
from peft_lab.advise.plans.nearest import ask
from peft_lab.advise.plans.steps import course
from peft_lab.advise.plans.wanted import TYPICAL, Wanted, read_lengths, rows_of
from peft_lab.core.errors import BadInput
from peft_lab.engine.devices import THIS_GPU, devices
from peft_lab.engine.timing.estimate import speed_named
from peft_lab.engine.timing.kernels import SHEETS
from tests.advise.plans.conftest import read


@pytest.mark.parametrize(
    ("told", "field", "message"),
    [
        ({"gpu": "gtx-1"}, "gpu", "no device called 'gtx-1'"),
        ({"gpu": "this-machine"}, "gpu", "is not a GPU, and Plan is only for GPUs"),
        ({"rows": "0"}, "rows", "from 1 to"),
        ({"deadline": "-1"}, "deadline", "has passed"),
        ({"deadline": "2020-01-01T00:00"}, "deadline", "has passed"),
        ({"deadline": "tomorrow"}, "deadline", "neither hours"),
        ({"price": "cheap"}, "price", "Price must be a number"),
        ({"price": "-2"}, "price", "above 0"),
        ({"row_tokens": "900", "seq": "512"}, "row_tokens", "512"),
        ({"objective": "magic"}, "objective", "no objective"),
        ({"model": "bert-base", "objective": "sft"}, "objective", "writes no text"),
        ({"devices": "9999"}, "devices", "from 1 to 4,096"),
        ({"link": "string"}, "link", "link"),
        ({"optimizer": "adam"}, "optimizer", "adamw"),
        ({"packed": "many"}, "packed", "whole number"),
        ({"packed": "20000"}, "packed", "cannot fill 20,000"),
        ({"packed": "100"}, "packed", "100 rows"),
        ({"packed": "9000", "model": "bert-base"}, "packed", "Only decoders"),
        ({"packed": "9000", "objective": "preference"}, "packed", "Only decoders"),
        ({"packed": "9000", "model": "bloomz-560m"}, "packed", "type 'bloom'"),
    ],
)
def test_what_cannot_be_is_said_at_its_field(told: dict[str, str], field: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        read(told)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


def test_of_what_cannot_be_read_nothing_else_is_said() -> None:
    """A limit that was not read contradicts nothing, nor does what depends on a model that is none."""
    for told in (
        {"seq": "x", "row_tokens": "5000"},
        {"row_tokens": "x", "seq": "128"},
        {"model": "lama", "row_tokens": "9000"},
        {"gpu": "gtx-1", "devices": "2"},
    ):
        wrong = ask(told).problems()
        assert len(wrong) == 1 and wrong[0].field == next(iter(told)), told


def test_a_deadline_in_hours_or_as_a_moment() -> None:
    assert Wanted(deadline="12").hours() == 12
    now = datetime(2026, 11, 26, 20)
    assert Wanted(deadline="2026-11-27T08:00").hours(now) == 12
    assert Wanted().hours() is None


def test_a_rows_length_says_where_rows_are_cut() -> None:
    assert read({"row_tokens": "300"}).seq == 512
    assert read({"row_tokens": "300", "seq": "400"}).seq == 400


@pytest.mark.parametrize("typical", TYPICAL, ids=lambda typical: typical.name)
def test_typical_questions_can_be_asked(typical: object) -> None:
    wanted = typical.wanted  # type: ignore[attr-defined]
    assert wanted.check() == wanted


def test_lengths_are_read_from_numbers_and_from_json() -> None:
    found = read_lengths('100\n{"tokens": 300}\n\n200\n')
    assert found.tokens == (100, 200, 300)
    assert found.fields() == {"rows": "3", "row_tokens": "200", "seq": "300"}
    assert sum(count for _, count in found.histogram()) == 3


def test_packed_rows_are_counted_from_lengths_and_trained_without_those_held_out() -> None:
    lengths = read_lengths("\n".join(["300"] * 60 + ["100"] * 40 + ["900"]))
    assert rows_of(lengths.tokens, 512) == 61, "what is longer is cut and fills a row alone"
    made = course(101, 2, batch=2, devices=1, accumulate=2, packed=61)
    assert (made.learned, made.held, made.packed) == (96, 5, 58)
    assert made.updates == 29 and made.looks == 15
    assert course(1, 1, 1, 1, 1).held == course(1, 1, 1, 1, 1).looks == 0
    rewarded = course(100, 1, batch=4, devices=2, accumulate=8, group=64)
    assert (rewarded.learned, rewarded.held, rewarded.updates) == (95, 5, 95)


def test_what_puts_virtual_tokens_before_a_row_is_not_packed() -> None:
    wanted = Wanted("smollm2-135m", rows=100, row_tokens=100, seq=512, also="prompt,ia3", packed=25).check()
    assert "virtual tokens" in ranking.get_refusals(wanted)["prompt"]
    assert {one.method for one in ranking.candidates(wanted)} == {"full", "lora", "qlora", "ia3"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("12\nfoo\n", "Line 2"),
        ('{"prompt": "x"}', "your tokenizer"),
        ("0", "not a length"),
        ("{broken", "not a length|no 'tokens'"),
    ],
)
def test_a_file_without_lengths_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_lengths(text)


@pytest.mark.parametrize(
    "name", [name for name, device in devices().items() if device.kind == "cuda" and name != THIS_GPU]
)
def test_a_gpu_in_any_spelling_is_the_gpu_whose_sheet_is_known(name: str) -> None:
    title = devices()[name].title
    for text in (name, name.upper(), name.replace("-", " "), title):
        assert read({"gpu": text}).gpu == name
    assert name not in SHEETS or speed_named(read({"gpu": title}).gpu)


def test_a_method_that_is_named_twice_is_ranked_once() -> None:
    wanted = Wanted("smollm2-135m", also="ia3, prompt,ia3").check()
    assert wanted.further == ("ia3", "prompt")
    tried = ranking.candidates(wanted)
    assert {"ia3", "prompt"} <= {one.method for one in tried} and len(set(tried)) == len(tried)
