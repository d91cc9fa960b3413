"""The whole bank on every model that it says it fits: what is called wrong there must not be the right answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from peft_lab.interview.answers import judge
from peft_lab.interview.bank import all_questions
from peft_lab.interview.computed import NO_GQA, Answer
from peft_lab.interview.question import Question
from peft_lab.models.catalogue import resolve
from tests.interview.each import over

COMPUTED = [q for q in all_questions().values() if q.computed and q.needs == "shape"]
each = over(COMPUTED)

_WORDS = {
    "all eight": "8", "three quarters": "75%", "a quarter": "25%", "half": "50%", "one percent": "1%",
    "a percent": "1%", "none": "0", "zero": "0", "nothing": "0", "one weight": "1",
}  # fmt: skip
_PERCENT = r"(?P<bound>[\d.]+)\s?%"
_BELOW = re.compile(rf"^(?:under|below|less than|at most) {_PERCENT}")
_ABOVE = re.compile(rf"^(?:(?:over|above|more than|at least) {_PERCENT}|(?P<or_more>[\d.]+)\s?% or more)")
_FIGURE = re.compile(r"^\d[\d,.]*(?:\s?%)?(?=$|[:,;])")
_AS_WIDE = re.compile(r"query width|all query heads|as wide as q|values are narrow|three times the hidden")


def figures_first(line: str) -> str:
    """The line without quotation marks, its first words as a figure where they are one."""
    text = line.strip().replace("'", "").casefold()
    for words, figure in _WORDS.items():
        text = re.sub(rf"^((?:under |below |over |above )?){words}\b", rf"\g<1>{figure}", text)
    return text


def claims_the_right_answer(
    question: Question, answer: Answer, line: str, model: str | None = None
) -> bool | None:
    """Whether a line under "Often said, and wrong" is right after all; ``None`` where code cannot tell."""
    text = figures_first(line)
    if question.kind == "choice":
        titles = [re.split(r"[ :,]", option.casefold())[0] for option in question.choices(model)]
        said = [index for index, title in enumerate(titles) if re.match(rf"{re.escape(title)}\b", text)]
        return question.right_option(answer) in said if said else None
    if _AS_WIDE.search(text) and "where" not in text:
        return not any(NO_GQA.split(":")[0] in miss.forgot for miss in answer.near_misses)
    below, above, figure = _BELOW.match(text), _ABOVE.match(text), _FIGURE.match(text)
    if below and answer.unit == "percent":
        return answer.value < float(below["bound"])
    if above and answer.unit == "percent":
        return answer.value >= float(above["bound"] or above["or_more"])
    return judge(question, answer, figure[0], model).grade in ("right", "close") if figure else None


def answers(question: Question) -> Iterator[tuple[str | None, Answer]]:
    """Each model that the question fits with the answer there. A test a question, not a test a pair: 1,557 pairs took
    longer to be set up than to be looked at."""
    for model in question.models() or (None,):
        answer = question.compute(model)
        assert answer is not None, model
        yield model, answer


@pytest.mark.sampled(5)
@each
def test_no_wrong_line_is_right(question: Question) -> None:
    right = [
        (model, line, answer.shown)
        for model, answer in answers(question)
        for line in question.wrong
        if claims_the_right_answer(question, answer, line, model)
    ]
    assert not right


@pytest.mark.sampled(5)
@each
def test_no_text_has_an_exponent(question: Question) -> None:
    for model, answer in answers(question):
        for text in (question.ask(model), question.explain(answer, model), answer.shown, *answer.working):
            assert not re.search(r"\de[+-]\d", text), (model, text)
            assert not re.search(r"\d,\d{3},?\d* (?:MB|kB)", text), (
                model,
                f"a larger unit is wanted: {text}",
            )


@each
def test_texts_fit_into_the_positions(question: Question) -> None:
    lengths = [question.given[name] for name in ("tokens", "length", "n") if name in question.given]
    for model in question.models():
        positions = resolve(model).shape.max_positions
        assert positions is None or sum(n for n in lengths if isinstance(n, int)) <= positions, model


@pytest.mark.parametrize("model", ["mixtral-8x7b", "qwen3-0.6b"])
def test_what_a_further_model_is_asked_can_be_computed(model: str) -> None:
    """Of a mixture nothing is asked that needs its block's feed-forward maps."""
    accepted = [question for question in COMPUTED if question.accepts(model)]
    assert accepted and ("ia3-vectors" in {one.id for one in accepted}) is not bool(
        resolve(model).shape.mixtures
    )
    for question in accepted:
        assert question.explain(question.compute(model), model)
