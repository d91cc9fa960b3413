"""How figures are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core import units
from peft_lab.core.units import Finding, Source

# Of each function: a figure, and how it is written.
WRITTEN: dict[Callable[..., str], tuple[tuple[Any, str], ...]] = {
    units.count: ((4_587_520, "4,587,520"),),
    units.short_count: (
        (0, "0"), (9_999, "9,999"), (12_345, "12.3k"), (4_587_520, "4.59M"), (7.055e10, "70.5B"),
        (-4_587_520, "-4.59M"), (3e12, "3T"),
    ),
    units.size: (
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (1_843_200, "1.84 MB"), (9_995_000, "10.0 MB"),
        (99_949_999, "99.9 MB"), (123_456_789, "123 MB"), (999_600_000, "1.00 GB"), (70.5e9, "70.5 GB"),
        (-1500, "-1.50 kB"),
    ),
    units.percent: (
        (0, "0%"), (0.14259, "0.143%"), (100, "100%"), (99.96, "100%"), (12.34, "12.3%"), (0.0008, "0.0008%"),
        (0.000123, "0.000123%"), (0.0000999, "0.0001%"), (-0.00009289, "-0.000093%"), (0.00000312, "3.1e-06%"),
    ),
    units.seconds: (
        (1.2e-5, "12 µs"), (4.9e-4, "490 µs"), (0.0042, "4.2 ms"), (0.421, "0.42 s"), (9.9, "9.9 s"), (37.2, "37 s"),
        (90, "1 min 30 s"), (3599.4, "59 min 59 s"), (3599.6, "1 h 0 min"), (12_000, "3 h 20 min"),
        (172_740, "47 h 59 min"), (172_799, "2 days 0 h"), (4e5, "4 days 15 h"),
    ),
    units.roughly: (
        (0.2, "1 s"), (7.3, "7 s"), (59.4, "59 s"), (59.6, "60 s"), (89, "1 min 30 s"), (594, "9 min 50 s"),
        (596, "10 min"), (3247, "54 min"), (3600, "1 h 0 min"), (7500, "2 h 5 min"), (2e5, "2 days 8 h"),
    ),
    units.coarse: (
        (5, "1 min"), (3540, "59 min"), (3580, "1 h"), (84_000, "23 h"), (86_000, "1 day"), (1e6, "12 days"),
    ),
    units.in_words: ((0, "no"), (8, "eight"), (12, "twelve"), (13, "13"), (1234, "1,234")),
    units.span: (
        ((1620, 3180), "27 to 53 min"), ((4000, 7300), "1.1 to 2.0 h"), ((9000, 1.3e5), "2 to 36 h"),
        ((1.6e5, 1.8e5), "1.9 to 2.1 days"), ((43, 119), "43 to 119 s"), ((43, 121), "0.7 to 2.0 min"),
        ((1.93, 2.34), "1.9 to 2.3 s"), ((0.0942, 0.114), "94 to 114 ms"), ((2e-6, 4e-6), "2.0 to 4.0 µs"),
        ((60, 40_000), "0.02 to 11 h"), ((0, 300), "0.0 to 5.0 min"), ((7200, 7201), "2.0 h"), ((9.96, 9.97), "10 s"),
    ),
    units.spread_seconds: (((8, 0), "8.0 ± 0.0 s"),),
}  # fmt: skip


@pytest.mark.parametrize("write", WRITTEN, ids=lambda function: function.__name__)
def test_figures_are_written(write: Callable[..., str]) -> None:
    for value, text in WRITTEN[write]:
        assert write(*value if isinstance(value, tuple) else (value,)) == text


@given(st.floats(1e-6, 1e8), st.floats(1, 1e4))
def test_a_span_is_as_exact_as_it_is_written(low: float, times: float) -> None:
    """Both ends are within a twentieth of what is meant, but for an end that is small beside the other."""
    high = low * times
    *rest, last = units.span(low, high).split(" to ")
    number, unit = last.split(" ")
    each = {"µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "days": 86_400}[unit]
    assert float(number.replace(",", "")) * each == pytest.approx(high, rel=0.051)
    if rest:
        read = float(rest[0].replace(",", ""))
        assert abs(read * each - low) <= max(0.05 * high, 0.51 * each) and (read > 0)


def test_no_other_module_writes_durations() -> None:
    """Minutes or hours that are worked out in a text of their own would be rounded in a way of their own."""
    own = re.compile(r"\{[^{}\n]*/ ?(?:60|3600|86_?400|HOUR)\b[^{}\n]*\} ?(?:s|min|h|minutes|hours|days)\b")
    package = Path(units.__file__).parents[1]
    found = {file.name for file in package.rglob("*.py") if own.search(file.read_text("utf-8"))}
    assert found <= {"units.py"}


def test_a_finding_is_written_in_its_unit() -> None:
    finding = Finding(4_587_520, "parameters", Source.COUNTED, "Llama 3.2 3B")
    assert str(finding) == "4,587,520"
    assert finding.as_dict() == {
        "value": 4_587_520, "unit": "parameters", "source": "counted", "note": "Llama 3.2 3B",
    }  # fmt: skip
    assert str(Finding(0.8123, "accuracy", Source.MEASURED)) == "0.8123 accuracy"
    assert set(units.SOURCE_HELP) == set(Source)


@given(st.floats(1e-7, 1e6, allow_subnormal=False), st.floats(1e-4, 3, allow_subnormal=False))
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
