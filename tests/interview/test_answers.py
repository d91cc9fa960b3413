"""Numbers as people type them, and their verdicts; a near miss says what was forgotten."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from peft_lab.interview.answers import judge, judge_number, read_number
from peft_lab.interview.bank import all_questions, get_question
from peft_lab.interview.computed import Answer
from peft_lab.interview.question import Question
from peft_lab.models.catalogue import resolve
from tests.interview.each import over

COMPUTED = [q for q in all_questions().values() if q.computed and q.needs == "shape" and q.kind == "numeric"]


ANSWERS = yaml.safe_load(Path(__file__).with_name("answers.yaml").read_text("utf-8"))


def grade(name: str, text: str) -> str:
    question = get_question(name)
    return judge(question, question.compute(), text).grade


@pytest.mark.parametrize("name", ANSWERS["grades"])
def test_grades(name: str) -> None:
    for expected, texts in ANSWERS["grades"][name].items():
        for text in texts:
            assert grade(name, text) == expected, text


@pytest.mark.parametrize(("name", "text", "forgot"), ANSWERS["forgot"])
def test_a_near_miss_says_what_was_forgotten(name: str, text: str, forgot: str) -> None:
    question = get_question(name)
    verdict = judge(question, question.compute(), text)
    assert verdict.grade == "near_miss" and forgot in verdict.forgot
    assert verdict.forgot in verdict.message and 0 < verdict.points < 1


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


@pytest.mark.parametrize(
    ("name", "times", "words"),
    [
        ("memory-weights", 32 * 32, None),
        ("memory-weights", 32, "times 32, the number of layers: that factor counts once too often"),
        ("memory-weights", 1 / 32, "divided by 32, the number of layers: that factor is missing"),
        ("memory-weights", 1 / 4, "a quarter of the answer: count the bytes of each number again"),
        ("quant-width-bytes", 7, "times 7, a number that the question gives"),
        ("lora-one-map", 2, "already covers A and B: you counted both twice"),
    ],
)
def test_a_factor_that_is_missing_or_used_twice_is_named(name: str, times: float, words: str | None) -> None:
    question = get_question(name)
    answer = question.compute()
    assert answer is not None
    verdict = judge(question, answer, written(answer, times * answer.value))
    assert verdict.grade == ("near_miss" if words else "wrong") and (words or "") in verdict.message, verdict


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


def test_free_questions_are_not_judged() -> None:
    question = get_question("lora-why-b-zero")
    with pytest.raises(ValueError, match="no computed answer"):
        judge(question, question.compute(), "because")


@given(st.floats(1e-3, 1e12), st.integers(2, 12))
def test_correct_rounding_is_right(value: float, digits: int) -> None:
    assume(value != round(value))  # a small whole number is not rounded
    text = f"{value:.{digits - 1}e}"
    assert judge_number(Answer(value, "bytes", ("",)), f"{text} bytes").grade == "right"


@given(st.text(max_size=40))
def test_no_text_breaks_a_verdict(text: str) -> None:
    for name in ("lora-query-value", "memory-weights", "prompt-share", "choose-mergeable"):
        question = get_question(name)
        assert judge(question, question.compute(), text).message


def test_values_and_units() -> None:
    units = {
        **ANSWERS["units"],
        "": {text: value for value, texts in ANSWERS["values"].items() for text in texts},
    }
    for dimension, values in units.items():
        for text, value in values.items():
            reading = read_number(text)
            assert reading is not None, text
            assert reading.value == pytest.approx(value, rel=1e-12) and reading.dimension == dimension, text


def test_b_is_bytes_only_where_bytes_are_expected() -> None:
    for text, expects, other in (("114,688 B", 114_688, 114_688e9), ("13.5G", 13.5e9, 13.5e9)):
        in_bytes, elsewhere = read_number(text, expects_bytes=True), read_number(text)
        assert in_bytes and in_bytes.value == pytest.approx(expects) and in_bytes.dimension == "bytes"
        assert elsewhere and elsewhere.value == pytest.approx(other) and elsewhere.dimension == ""


@pytest.mark.parametrize("text", [*ANSWERS["no number"], "9" * 200])
def test_what_is_no_number(text: str) -> None:
    assert read_number(text) is None


@pytest.mark.parametrize(("text", "digits", "step"), ANSWERS["precision"])
def test_precision(text: str, digits: int, step: float) -> None:
    reading = read_number(text)
    assert reading and reading.digits == digits and reading.step == pytest.approx(step)


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


@given(st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    reading = read_number(text)
    assert reading is None or math.isfinite(reading.value)
