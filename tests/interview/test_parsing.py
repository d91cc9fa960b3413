"""Numbers as people type them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.interview.answers import read_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4587520", 4_587_520),
        ("4,587,520", 4_587_520),
        ("4.587.520", 4_587_520),
        ("4 587 520", 4_587_520),
        ("4_587_520", 4_587_520),
        ("4'587'520", 4_587_520),
        ("4.6M", 4_600_000),
        ("4.6 M", 4_600_000),
        ("4.6 million", 4_600_000),
        ("4.6 million parameters", 4_600_000),
        ("≈ 4.6m params", 4_600_000),
        ("about 3k", 3_000),
        ("3.2B", 3_200_000_000),
        ("7 bn", 7_000_000_000),
        ("1/2", 0.5),
        ("3 / 4", 0.75),
        ("2e5", 200_000),
        ("1.5E-3", 0.0015),
        ("2 x 10^5", 200_000),
        ("2 × 10^5", 200_000),
        ("2·10**5", 200_000),
        ("1,5", 1.5),
        ("0,143", 0.143),
        (".25", 0.25),
        ("-3", -3),
        ("\u22123", -3),
        ("=7", 7),
        ("92 tokens", 92),
        ("3x", 3),
        ("none", 0),
        ("2^-7", 2**-7),
        ("2**-7", 2**-7),
        ("2⁻⁷", 2**-7),
        ("2^(-7)", 2**-7),
        ("2^{\u22127}", 2**-7),
        ("2 ^ 4", 16),
        ("10^5", 100_000),
        ("10⁵ parameters", 100_000),
        ("3 x 2^10", 3072),
        ("1,024^2", 2**20),
        ("-2^3", -8),
        ("three", 3),
        ("about Twenty-four layers", 24),
        ("ten", 10),
        ("three million", 3_000_000),
        ("two hundred", 200),
        ("one dozen", 12),
        ("half", 0.5),
        ("1,234.5", 1234.5),
        ("1.234,5", 1234.5),
    ],
)
def test_values(text: str, value: float) -> None:
    reading = read_number(text)
    assert reading is not None
    assert reading.value == pytest.approx(value, rel=1e-12)
    assert reading.dimension == ""


@pytest.mark.parametrize(
    ("text", "value", "dimension"),
    [
        ("0.14%", 0.14, "percent"),
        ("0,14 %", 0.14, "percent"),
        ("16.7 percent", 16.7, "percent"),
        ("58.4 %.", 58.4, "percent"),
        ("14.6 GB", 14.6e9, "bytes"),
        ("14.6GB", 14.6e9, "bytes"),
        ("13.6 GiB", 13.6 * 2**30, "bytes"),
        ("114,688 bytes", 114_688, "bytes"),
        ("115 kB", 115_000, "bytes"),
        ("112 KiB", 112 * 1024, "bytes"),
        ("4.127 bits", 4.127, "bits"),
        ("4.5 bits per weight", 4.5, "bits"),
        ("108 Gbit", 108e9, "bits"),
        ("2 million bytes", 2e6, "bytes"),
        ("2^30 bytes", 2**30, "bytes"),
        ("14.6 gigabytes", 14.6e9, "bytes"),
        ("three kibibytes", 3072, "bytes"),
        ("8 megabits", 8e6, "bits"),
        ("3 ms", 3e-3, "seconds"),
        ("3e-3 s", 3e-3, "seconds"),
        ("0.003 seconds", 3e-3, "seconds"),
        ("3 milliseconds", 3e-3, "seconds"),
        ("250 µs", 250e-6, "seconds"),
        ("250 us", 250e-6, "seconds"),
        ("40 ns", 40e-9, "seconds"),
        ("2 min", 120, "seconds"),
        ("1.2 exaFLOP", 1.2e18, "operations"),
        ("3 TFLOPS", 3e12, "operations"),
        ("38.5 % of the peak", 38.5, "percent"),
    ],
)
def test_units(text: str, value: float, dimension: str) -> None:
    reading = read_number(text)
    assert reading is not None
    assert reading.value == pytest.approx(value, rel=1e-12) and reading.dimension == dimension


@pytest.mark.parametrize(
    ("text", "expects", "other"), [("114,688 B", 114_688, 114_688e9), ("13.5G", 13.5e9, 13.5e9)]
)
def test_b_is_bytes_only_where_bytes_are_expected(text: str, expects: float, other: float) -> None:
    in_bytes, elsewhere = read_number(text, expects_bytes=True), read_number(text)
    assert in_bytes is not None
    assert elsewhere is not None
    assert in_bytes.value == pytest.approx(expects) and in_bytes.dimension == "bytes"
    assert elsewhere.value == pytest.approx(other) and elsewhere.dimension == ""


@pytest.mark.parametrize(
    "text",
    ["", "   ", "abc", "12,34,5", "1.2.3", "1,2,3", "1,2345,678", "5 %%", "1/0", "1e400", "4,096 × 4,096", "2^",
     "2^0.5", "0^-1", "2^9999", "2^(3", "--3", "3 4/5 6", "tenable",
     "three and a half", "two hundred and fifty", "9" * 200, "%", "GB", "nan", "inf", "log 0",
     "√-1", "ln(2", "no idea", "=", "($)", "rank"],
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    assert read_number(text) is None


@pytest.mark.parametrize(
    ("text", "digits", "step"),
    [("4.6M", 2, 50_000), ("5M", 1, 500_000), ("0.143", 3, 0.0005), ("0.0049", 2, 0.00005), ("4600000", 2, 50_000),
     ("512", 3, 0.5), ("1,000", 1, 500), ("2e5", 1, 50_000), ("1/3", 15, 0)],
)  # fmt: skip
def test_precision(text: str, digits: int, step: float) -> None:
    reading = read_number(text)
    assert reading is not None
    assert reading.digits == digits and reading.step == pytest.approx(step)


@given(st.integers(0, 10**15))
def test_whole_numbers_come_back(number: int) -> None:
    for text in (str(number), f"{number:,}", f"{number:_}", f"{number:,}".replace(",", " "), f" ~{number} "):
        reading = read_number(text)
        assert reading is not None
        assert reading.value == number


@given(st.floats(1e-6, 1e9), st.integers(0, 6))
def test_decimals_come_back_with_either_sign(number: float, places: int) -> None:
    text = f"{number:.{places}f}"
    for written in (text, text.replace(".", ",") if places not in (3,) else text):
        reading = read_number(written)
        assert reading is not None
        assert reading.value == pytest.approx(float(text), rel=1e-12)
        assert abs(number - reading.value) <= reading.step * (1 + 1e-9) + math.ulp(number) * 2


@given(st.floats(0.01, 999), st.sampled_from(["kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"]))
def test_sizes_come_back(number: float, unit: str) -> None:
    power = "KMGT".index(unit[0].upper()) + 1
    reading = read_number(f"{number:.4f} {unit}")
    assert reading is not None
    assert reading.value == pytest.approx(round(number, 4) * (1024 if "i" in unit else 1000) ** power)


@given(
    st.integers(2, 60),
    st.integers(-30, 30),
    st.sampled_from(["{}^{}", "{}**{}", "{} ^ {}", "{}^({})", "{}^{{{}}}", "= {}^{}", "super"]),
)
def test_powers_come_back(base: int, power: int, form: str) -> None:
    raised = "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(each)] if each.isdigit() else "⁻" for each in str(power))
    reading = read_number(f"{base}{raised}" if form == "super" else form.format(base, power))
    assert reading is not None
    assert reading.value == pytest.approx(float(base) ** power, rel=1e-12)
    assert reading.step == 0


@given(st.integers(0, 99), st.sampled_from(["", " layers", " parameters"]), st.booleans())
def test_number_words_come_back(number: int, behind: str, large: bool) -> None:
    units = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    small = [*units.split(), "seventeen", "eighteen", "nineteen"]
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    word = small[number] if number < 20 else tens[number // 10 - 2]
    if number >= 20 and number % 10:
        word += f"-{small[number % 10]}"
    reading = read_number((word.upper() if large else word) + behind)
    assert reading is not None and reading.value == number


@given(st.floats(0.01, 999), st.sampled_from([("ms", -3), ("µs", -6), ("us", -6), ("ns", -9), ("s", 0)]))
def test_times_with_a_prefix_are_those_with_an_exponent(number: float, unit: tuple[str, int]) -> None:
    name, power = unit
    short, long = read_number(f"{number:.4f} {name}"), read_number(f"{number:.4f}e{power} s")
    assert short is not None and long is not None
    assert short.dimension == long.dimension == "seconds"
    assert short.value == pytest.approx(long.value) and short.digits == long.digits


@given(st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    reading = read_number(text)
    assert reading is None or math.isfinite(reading.value)
