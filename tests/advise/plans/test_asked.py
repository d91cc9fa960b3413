"""What is meant by a question that cannot be, in whatever field and by however many of them."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.advise.plans.nearest import PlanRequest, Unread, Way, as_typed, ask, mend
from peft_lab.advise.plans.wanted import KEYS, Wanted

#: One value of each field that cannot be.
BROKEN = {
    "model": "lama-3.1-8b", "objective": "magic", "rows": "ten", "row_tokens": "many", "seq": "-1", "gpu": "gtx-1",
    "devices": "0", "link": "string", "price": "free", "deadline": "2020-01-01", "also": "dora", "optimizer": "adam",
    "packed": "some", "precision": "half", "adapter_dtype": "int8",
}  # fmt: skip


def test_no_field_is_without_a_broken_value() -> None:
    assert set(BROKEN) == set(KEYS)


@pytest.mark.parametrize("name", KEYS)
def test_one_broken_field_is_mended_and_the_others_are_kept(name: str) -> None:
    told = {
        "model": "smollm2-135m",
        "rows": "500",
        "row_tokens": "100",
        "seq": "256",
        "gpu": "t4",
        "price": "0.5",
    }
    found = mend(ask({**told, name: BROKEN[name]}))
    ((error, instead),) = found.each
    assert error.field == name and instead is not None and found.several == [instead]
    assert not found.asked.problems()
    whole = ask(told).wanted
    for other in KEYS:
        if other not in instead.changes:
            assert getattr(found.asked.wanted, other) == getattr(whole, other), other


def test_all_broken_at_once_is_one_question() -> None:
    found = mend(ask(BROKEN))
    assert {error.field for error, _ in found.each} == set(BROKEN)
    assert all(instead is not None for _, instead in found.each), found.each
    assert found.several and found.asked.wanted.check() == found.asked.wanted


@pytest.mark.parametrize(
    ("told", "changes"),
    [
        ({"model": "bert-base", "seq": "600", "row_tokens": "100"}, {"seq": 512}),
        ({"model": "bert-base", "row_tokens": "600", "seq": "512"}, {"row_tokens": 512, "seq": 512}),
        ({"model": "bert-bse", "row_tokens": "9000"}, {"model": "bert-base", "row_tokens": 512, "seq": 512}),
        ({"gpu": "cpu", "devices": "2"}, {"gpu": "rtx-4090"}),
        ({"seq": "x", "row_tokens": "5000"}, {"seq": 8_192}),
    ],
)
def test_what_one_fields_mending_breaks_is_mended_too(told: dict[str, str], changes: dict[str, Any]) -> None:
    found = mend(ask(told))
    assert found.several is not None
    assert {name: value for one in found.several for name, value in one.changes.items()} == changes
    assert not found.asked.problems()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rows", "-5", -5), ("rows", "10,000", 10_000), ("rows", "ten", None), ("rows", "2.5", None),
        ("rows", "9" * 30, None), ("price", "-2", -2.0), ("price", "nan", None), ("price", "1e300", None),
        ("price", "free", None), ("gpu", " gtx-1 ", "gtx-1"), ("deadline", "tomorrow", "tomorrow"),
        ("link", "string", "string"), ("model", "lama", None), ("packed", "some", None), ("gpu", "x" * 500, "x" * 80),
    ],
)  # fmt: skip
def test_a_control_shows_what_it_can_hold(name: str, text: str, value: Any) -> None:
    assert as_typed(name, text) == value


def test_what_is_put_right_is_no_longer_unread() -> None:
    asked = ask({"rows": "ten", "price": "free"})
    assert isinstance(asked.unread["rows"], Unread) and asked.text("rows") == "ten"
    mended = asked.put({"rows": 7})
    assert mended.wanted.rows == 7 and set(mended.unread) == {"price"}
    assert [error.field for error in mended.problems()] == ["price"]
    assert PlanRequest(Wanted(rows=0)).text("rows") == "0"


def test_options_say_what_is_left_out() -> None:
    assert (
        Way("", "", {"price": None, "rows": 7, "deadline": ""}).options == "no --price --rows 7 no --deadline"
    )
