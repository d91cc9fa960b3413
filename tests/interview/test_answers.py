"""Numbers as people type them, and their verdicts; a near miss says what was forgotten."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peft_lab.interview.answers import judge, judge_number, read_number, shown_near_misses
from peft_lab.interview.bank import all_questions, get_question
from peft_lab.interview.computed import Answer, NearMiss, show
from peft_lab.interview.question import Question
from peft_lab.models.catalogue import resolve
from tests.interview.each import over

COMPUTED = [q for q in all_questions().values() if q.computed and q.needs == "shape" and q.kind == "numeric"]


def grade(name: str, text: str) -> str:
    question = get_question(name)
    return judge(question, question.compute(), text).grade


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("lora-query-value", "4587520", "right"),
        ("lora-query-value", "4,587,520", "right"),
        ("lora-query-value", "4.6M", "right"),
        ("lora-query-value", "4.59 million", "right"),
        ("lora-query-value", "5M", "close"),
        ("lora-query-value", "4.5M", "close"),
        ("lora-query-value", "5.5M", "near_miss"),
        ("lora-query-value", "163,840", "near_miss"),
        ("lora-query-value", "9M", "wrong"),
        ("lora-query-value", "4.6 GB", "wrong"),
        ("lora-query-value", "many", "unreadable"),
        ("lora-query-value", "0.14%", "right"),
        ("lora-query-value", "0.143%", "right"),
        ("lora-query-value", "0.1426%", "right"),
        ("lora-query-value", "about 0.14 percent", "right"),
        ("lora-query-value", "0.1%", "close"),
        ("lora-query-value", "0.15%", "near_miss"),
        ("lora-query-value", "0.1428%", "near_miss"),
        ("lora-query-value", "0.14", "wrong"),
        ("lora-query-value", "0.147%", "near_miss"),
        ("lora-query-value", "0.145%", "wrong"),
        ("lora-query-value", "14%", "wrong"),
        ("lora-query-value", "5%", "wrong"),
        ("lora-query-value", "4718592", "near_miss"),
        ("lora-one-map", "1.04%", "right"),
        ("lora-one-map", "0.0031%", "right"),
        ("prefix-projected", "1.83%", "right"),
        ("prefix-projected", "0.036%", "near_miss"),
        ("prompt-count", "0.0019%", "right"),
        ("bitfit-count", "0.094%", "right"),
        ("bitfit-none", "0%", "right"),
        ("bitfit-none", "0.08%", "wrong"),
        ("prompt-share", "0.0049%", "right"),
        ("prompt-share", "0.0049", "right"),
        ("prompt-share", "0.000049", "right"),
        ("prompt-share", "0.49%", "near_miss"),
        ("memory-weights", "13.5 GB", "right"),
        ("memory-weights", "12.6 GiB", "right"),
        ("memory-weights", "13476831232", "right"),
        ("memory-weights", "108 Gbit", "right"),
        ("memory-weights", "12.6 GB", "near_miss"),
        ("memory-weights", "13.5", "near_miss"),
        ("memory-weights", "27 GB", "near_miss"),
        ("lora-scale", "1/4", "right"),
        ("lora-scale", "25%", "right"),
        ("lora-scale", "2", "near_miss"),
        ("lora-break-even", "768", "right"),
        ("lora-break-even", "770", "close"),
        ("lora-break-even", "1536", "near_miss"),
        ("quant-double-level", "4.13", "right"),
        ("quant-double-level", "4.5", "near_miss"),
        ("quant-double-level", "4", "near_miss"),
        ("bitfit-none", "0", "right"),
        ("bitfit-none", "none", "right"),
        ("bitfit-none", "5", "wrong"),
        ("lora-rate-tenfold", "2e-4", "right"),
        ("lora-rate-tenfold", "0.0002", "right"),
        ("lora-rate-tenfold", "2e-5", "near_miss"),
        ("lora-first-step", "0.0443", "right"),
        ("lora-first-step", "0", "wrong"),
        ("merge-ties-entry", "0.45", "right"),
        ("plan-full-work", "1.16e18", "right"),
        ("plan-full-work", "1.16 exaFLOP", "right"),
        ("plan-full-work", "1160 petaFLOPs", "right"),
        ("plan-full-work", "771 petaFLOP", "near_miss"),
        ("plan-full-work", "1.16 GB", "wrong"),
        ("preference-dpo-start", "ln 2", "right"),
        ("preference-dpo-start", "log(2) ≈ 0.693", "right"),
        ("debug-first-loss", "log(5)", "right"),
        ("preference-advantage", "√3", "right"),
        ("lora-capacity-rank", "r = 17", "right"),
        ("lora-capacity-rank", "at least 17", "right"),
        ("lora-query-value", "28·163,840 = 4,587,520", "right"),
        ("lora-query-value", "4.6 million (0.14%)", "right"),
        ("lora-query-value", "0.143% of all parameters", "right"),
        ("lora-query-value", "4.59 mil", "right"),
        ("plan-money", "$120", "right"),
        ("safety-mean-change", "minus 3", "right"),
        ("safety-mean-change", "3", "near_miss"),
        ("safety-mean-change", "-3%", "right"),
        ("bitfit-none", "no biases", "right"),
        ("bitfit-none", "no idea", "unreadable"),
        ("lora-compression", "factor of 192", "right"),
        ("lora-compression", "it depends", "unreadable"),
        ("choose-mergeable", "IA³", "right"),
        ("choose-mergeable", "c", "right"),
        ("choose-mergeable", "3", "right"),
        ("choose-mergeable", "a)", "wrong"),
        ("choose-mergeable", "z", "unreadable"),
        ("choose-mergeable", "", "unreadable"),
        ("ia3-start", "b", "right"),
    ],
)
def test_grades(name: str, text: str, expected: str) -> None:
    assert grade(name, text) == expected


@pytest.mark.parametrize(
    ("name", "text", "forgot"),
    [
        ("lora-query-value", "5505024", "grouped-query attention"),
        ("lora-query-value", "4718592", "grouped-query attention"),
        ("lora-query-value", "4718592", "24 is the number of heads, the number of layers is 28"),
        ("lora-query-value", "3,932,160", "24 is the number of heads"),
        ("lora-query-value", "0.171%", "grouped-query attention"),
        ("lora-query-value", "0.1428%", "in the denominator"),
        ("lora-scale", "16", "division by r"),
        ("memory-mixed-adam", "53.9 GB", "optimizer states"),
        ("memory-mixed-adam", "27 GB", "optimizer states"),
        ("quant-double-saving", "24 GB", "eight bits"),
        ("prefix-stored", "573440", "keys and values"),
        ("memory-weights", "13.5", "the unit (GB)"),
        ("memory-weights", "12.6 GB", "GiB"),
    ],
)
def test_a_near_miss_says_what_was_forgotten(name: str, text: str, forgot: str) -> None:
    question = get_question(name)
    verdict = judge(question, question.compute(), text)
    assert verdict.grade == "near_miss"
    assert forgot in verdict.forgot
    assert verdict.forgot in verdict.message
    assert 0 < verdict.points < 1


def written(answer: Answer, value: float) -> str:
    """A figure in full, as somebody types it who is asked for this answer."""
    return f"{value:.15g}{ {'percent': '%', 'bytes': ' bytes', 'bits': ' bits'}.get(answer.unit, '') }"


@over(COMPUTED)
def test_own_figures(question: Question) -> None:
    """On every model the shown answer is right, and every known slip, in full, gets the words that belong to it."""
    for model in question.models() or (None,):
        answer = question.compute(model)
        assert answer is not None
        assert judge(question, answer, answer.shown.split(" (")[0], model).grade == "right", answer.shown
        for miss in answer.near_misses:
            verdict = judge(question, answer, written(answer, miss.value), model)
            assert (verdict.grade, verdict.forgot) == ("near_miss", miss.forgot), (model, miss.value)
            assert miss.forgot in verdict.message


@pytest.mark.sampled(5)
@over(COMPUTED)
def test_twice_and_half_are_named(question: Question) -> None:
    """By the calculation's own words, a unit's or a factor's where there are such; else as what they are."""
    named = ((2, "exactly twice the answer"), (0.5, "exactly half the answer"))
    for model, (factor, words) in product(question.models() or (None,), named):
        answer = question.compute(model)
        assert answer is not None
        if not answer.value:
            continue
        verdict = judge(question, answer, written(answer, factor * answer.value), model)
        assert verdict.grade == "near_miss", (model, verdict)
        own = {miss.forgot for miss in answer.near_misses}
        assert verdict.forgot in own or verdict.forgot.startswith(words) or "number" in verdict.forgot


def test_what_was_counted_twice_is_named() -> None:
    question = get_question("lora-one-map")
    verdict = judge(question, question.compute(), "196,608")
    assert verdict.grade == "near_miss"
    assert "already covers A and B: you counted both twice" in verdict.message


@pytest.mark.parametrize(
    ("name", "times", "words"),
    [
        ("memory-weights", 32 * 32, None),
        (
            "memory-weights",
            32,
            "the answer times 32, the number of layers: that factor counts once too often",
        ),
        ("memory-weights", 1 / 32, "the answer divided by 32, the number of layers: that factor is missing"),
        ("memory-weights", 1 / 4, "a quarter of the answer: count the bytes of each number again"),
        ("quant-width-bytes", 7, "the answer times 7, a number that the question gives"),
    ],
)
def test_a_factor_that_is_missing_or_used_twice_is_named(name: str, times: float, words: str | None) -> None:
    question = get_question(name)
    answer = question.compute()
    assert answer is not None
    verdict = judge(question, answer, written(answer, times * answer.value))
    if words is None:
        assert verdict.grade == "wrong"
    else:
        assert (verdict.grade, words in verdict.message) == ("near_miss", True), verdict


def test_times_are_read_in_any_unit() -> None:
    question = get_question("serve-swap-time")
    answer = question.compute()
    assert answer is not None and answer.unit == "ms"
    for text in (f"{answer.value:.4g} ms", f"{answer.value / 1000:.4g} s", f"{answer.value:.4g}e-3 seconds"):
        assert judge(question, answer, text).grade == "right", text
    assert judge(question, answer, f"{answer.value:.4g} s").grade == "near_miss"
    assert "a plain number" in judge_number(Answer(3, "", ("",)), "3 ms").message


def test_a_share_says_what_it_is_of() -> None:
    """A percentage where a count was asked for: the verdict names both, whether it is right or not."""
    question = get_question("lora-query-value")
    answer = question.compute()
    for text, beginning in (("0.14%", "Right as a share: "), ("5%", "Wrong: the answer is ")):
        verdict = judge(question, answer, text)
        assert verdict.message == f"{beginning}4,587,520 parameters, 0.143% of all parameters."
    assert "0.143% of all parameters" in judge(question, answer, "0.15%").message
    without = Answer(1536, "parameters", ("",))
    assert "in percent. The answer is in parameters" in judge_number(without, "5%").message


COUNTS = [q for q in COMPUTED if q.model and q.compute().unit == "parameters"]  # type: ignore[union-attr]


@given(st.sampled_from(COUNTS), st.data(), st.integers(2, 6), st.floats(1.2, 1.7))
def test_every_count_can_be_given_as_a_share(
    question: Question, data: st.DataObject, digits: int, factor: float
) -> None:
    """On any model, rounded to any precision, of the model with what is added to it; a share of none of the wholes that
    the answer has is not right."""
    model = data.draw(st.sampled_from(question.models()))
    answer = question.compute(model)
    assert answer is not None
    total = resolve(model).shape.total + (0 if question.topic == "bitfit" else answer.value)
    share = 100 * answer.value / total
    text = f"{Decimal(f'{share:.{digits - 1}e}'):f}"
    if "." in text or not text.endswith("0"):  # of 10 nobody knows whether its zero was rounded
        assert judge_number(answer, f"{text}%").grade == "right"
    others = [factor * share / whole.share(answer.value) for whole in answer.wholes if answer.value]
    if others and all(abs(times - 1) > 0.02 for times in others):
        assert judge_number(answer, f"{share * factor:.12f}%").grade in ("wrong", "near_miss")


def test_small_whole_numbers_are_wanted_exactly() -> None:
    answer = Answer(1536, "", ("",))
    assert judge_number(answer, "1500").grade == "close"
    assert judge_number(answer, "1536.0").grade == "right"


def test_thousands_are_set_apart_in_any_unit() -> None:
    assert show(1156.36, "petaFLOP") == "1,156 petaFLOP" and show(999.96, "ms") == "1000 ms"


def test_free_questions_are_not_judged() -> None:
    question = get_question("lora-why-b-zero")
    with pytest.raises(ValueError, match="no computed answer"):
        judge(question, question.compute(), "because")


def test_slips_can_be_shown() -> None:
    lines = shown_near_misses(Answer(8, "bits", ("",), (NearMiss(4, "the constants"),)))
    assert lines == ("4 bits: forgets the constants",)


@given(st.floats(1e-3, 1e12), st.integers(2, 12))
def test_correct_rounding_is_right(value: float, digits: int) -> None:
    assume(value != round(value))  # a small whole number is not rounded
    text = f"{value:.{digits - 1}e}"
    assert judge_number(Answer(value, "bytes", ("",)), f"{text} bytes").grade == "right"


@given(st.floats(1e-3, 1e9), st.floats(1.2, 1.7))
def test_far_off_is_wrong(value: float, factor: float) -> None:
    assert judge_number(Answer(value, "", ("",)), repr(value * factor)).grade == "wrong"


@given(st.text(max_size=40))
def test_no_text_breaks_a_verdict(text: str) -> None:
    for name in ("lora-query-value", "memory-weights", "prompt-share", "choose-mergeable"):
        question = get_question(name)
        assert judge(question, question.compute(), text).message


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
