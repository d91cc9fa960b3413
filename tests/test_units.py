"""How figures are written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab import units
from peft_lab.units import Finding, Source


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (12_345, "12.3k"),
        (4_587_520, "4.59M"),
        (7.055e10, "70.5B"),
        (-4_587_520, "-4.59M"),
        (3e12, "3T"),
    ],
)
def test_short_count(value: float, text: str) -> None:
    assert units.short_count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (1_843_200, "1.84 MB"), (9_995_000, "10.0 MB"),
        (99_949_999, "99.9 MB"), (123_456_789, "123 MB"), (999_600_000, "1.00 GB"), (70.5e9, "70.5 GB"),
        (-1500, "-1.50 kB"),
    ],
)  # fmt: skip
def test_size(value: float, text: str) -> None:
    assert units.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0%"),
        (0.14259, "0.143%"),
        (100, "100%"),
        (99.96, "100%"),
        (12.34, "12.3%"),
        (0.0008, "0.0008%"),
        (0.000123, "0.000123%"),
        (0.00009289, "0.000093%"),
        (0.0000999, "0.0001%"),
        (-0.00009289, "-0.000093%"),
        (0.00001, "0.00001%"),
        (0.00000312, "3.1e-06%"),
    ],
)
def test_percent(value: float, text: str) -> None:
    assert units.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.2e-5, "12 µs"), (4.9e-4, "490 µs"), (0.0042, "4.2 ms"), (0.421, "0.42 s"), (9.9, "9.9 s"),
        (37.2, "37 s"), (90, "1 min 30 s"), (250, "4 min 10 s"),
    ],
)  # fmt: skip
def test_seconds(value: float, text: str) -> None:
    assert units.seconds(value) == text


def test_count() -> None:
    assert units.count(4_587_520) == "4,587,520"


def test_a_finding_is_written_in_its_unit() -> None:
    finding = Finding(4_587_520, "parameters", Source.COUNTED, "Llama 3.2 3B")
    assert str(finding) == "4,587,520"
    assert finding.as_dict() == {
        "value": 4_587_520,
        "unit": "parameters",
        "source": "counted",
        "note": "Llama 3.2 3B",
    }
    assert str(Finding(0.8123, "accuracy", Source.MEASURED)) == "0.8123 accuracy"
    assert set(units.SOURCE_HELP) == set(Source)


@given(st.floats(0, 1e15))
def test_sizes_stay_short_and_true(value: float) -> None:
    text = units.size(value)
    number, unit = text.split()
    scale = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert abs(float(number) * scale - value) <= max(0.006 * value, 0.5)
    assert len(text) <= 10 or value >= 9.995e14


def test_numbers_in_sentences() -> None:
    assert [units.in_words(number) for number in (0, 8, 12, 13, 1234)] == [
        "no",
        "eight",
        "twelve",
        "13",
        "1,234",
    ]


@given(
    mean=st.floats(min_value=1e-7, max_value=1e6, allow_subnormal=False),
    share=st.floats(min_value=1e-4, max_value=3, allow_subnormal=False),
)
def test_a_spread_of_seconds_has_one_unit_and_both_figures_can_be_read_back(
    mean: float, share: float
) -> None:
    deviation = mean * share
    text = units.spread_seconds(mean, deviation)
    found = re.fullmatch(r"([\d,.]+) ± ([\d,.]+) (µs|ms|s)", text)
    assert found, text
    scale = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}[found[3]]
    said, around = (float(found[at].replace(",", "")) * scale for at in (1, 2))
    assert around == pytest.approx(deviation, rel=0.06, abs=1e-6 * scale), text  # two digits
    assert said == pytest.approx(mean, abs=max(0.06 * deviation, 1e-6 * scale)), text
    assert len(found[1].partition(".")[2]) == len(found[2].partition(".")[2]), text


def test_a_spread_of_nothing_is_said_as_that() -> None:
    assert units.spread_seconds(8, 0) == "8.0 ± 0.0 s"
