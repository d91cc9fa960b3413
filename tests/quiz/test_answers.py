"""Judging: right, close, near misses with what was forgotten, wrong, unreadable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.quiz.answers import judge, judge_number, shown_near_misses
from peft_lab.quiz.bank import all_questions, get_question
from peft_lab.quiz.computed import Answer, NearMiss

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


@pytest.mark.parametrize("question", COMPUTED, ids=lambda question: question.id)
def test_own_figures(question) -> None:  # type: ignore[no-untyped-def]
    """The shown answer is right, and every known slip, written in full, is called a near miss."""
    answer = question.compute()
    assert judge_number(answer, answer.shown.split(" (")[0]).grade == "right", answer.shown
    unit = {"percent": "%", "bytes": " bytes", "bits": " bits"}.get(answer.unit, "")
    for miss in answer.near_misses:
        verdict = judge_number(answer, f"{miss.value:.12g}{unit}")
        assert verdict.grade == "near_miss", (miss, verdict)


def test_small_whole_numbers_are_wanted_exactly() -> None:
    answer = Answer(1536, "", ("",))
    assert judge_number(answer, "1500").grade == "close"
    assert judge_number(answer, "1536.0").grade == "right"


def test_free_questions_are_not_judged() -> None:
    question = get_question("lora-why-b-zero")
    with pytest.raises(ValueError, match="no computed answer"):
        judge(question, question.compute(), "because")


def test_slips_can_be_shown() -> None:
    lines = shown_near_misses(Answer(8, "bits", ("",), (NearMiss(4, "the constants"),)))
    assert lines == ("4 bits: forgotten was the constants",)


@given(st.floats(1e-3, 1e12), st.integers(2, 12))
def test_correct_rounding_is_right(value: float, digits: int) -> None:
    text = f"{value:.{digits - 1}e}"
    assert judge_number(Answer(value, "bytes", ("",)), f"{text} bytes").grade == "right"


@given(st.floats(1e-3, 1e9), st.floats(1.2, 1.7))
def test_far_off_is_wrong(value: float, factor: float) -> None:
    assert judge_number(Answer(value, "", ("",)), repr(value * factor)).grade == "wrong"


@given(st.text(max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    for name in ("lora-query-value", "memory-weights", "prompt-share", "choose-mergeable"):
        question = get_question(name)
        assert judge(question, question.compute(), text).message
