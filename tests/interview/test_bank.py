"""The bank holds together: sizes, topics, sources, chains, doubts, and no figure typed where code computes one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from peft_lab.core import references
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.interview import bank
from peft_lab.interview.answers import judge
from peft_lab.interview.bank import LONGEST, all_questions, chain, get_question, select
from peft_lab.interview.computed import NO_GQA, Answer
from peft_lab.interview.question import LEVELS, Doubt, FollowUp, Question, placeholders
from peft_lab.models.catalogue import resolve
from tests.interview.each import over

QUESTIONS = list(all_questions().values())
COMPUTED = [question for question in QUESTIONS if question.computed]
each = over(QUESTIONS)
each_computed = over(COMPUTED)

# Names that hold digits and are no result: number formats, models, symbols and coefficients of formulas.
_ALLOWED = re.compile(
    r"""\b\d+-bit\b|\bN?F[P]?\d+\b|\b(?:b?float|int)\d+\b|\bLLM\.int8|\bL(?:lama)?\s?\d(?:\.\d)?\b|GPT-2|\{\{\w+\}\}
    |\bstep\s0\b|W_0|_\{?\w+\}?|\b2md\b|\b(?:8|4|16|32)\s?bits?\b|weight\sof\s1\b|\bIA³""",
    re.VERBOSE,
)


def digits_left(text: str) -> list[str]:
    return re.findall(r"\S*\d\S*", _ALLOWED.sub("", text))


def answer_of(question: Question, model: str | None = None) -> Answer | None:
    return question.compute(model) if question.needs == "shape" else None


@each
def test_question_is_complete(question: Question) -> None:
    assert question.level in LEVELS
    assert question.question.strip()
    assert question.answer.strip()
    for texts in (question.listen_for, question.wrong, question.sources):
        assert texts, question.id
        assert all(isinstance(text, str) and len(text) > 1 and text == text.strip() for text in texts)
    assert (question.kind == "free") == (not question.computed and not question.options)
    if question.kind == "free":
        assert len(question.listen_for) >= 2
        assert len(question.answer) > 120, "a model answer, not a remark"
    if question.kind == "choice":
        assert 2 <= len(question.options) == len(set(question.options))
    assert question.model is None or question.model in question.models()


@each
def test_sources_say_where(question: Question) -> None:
    """Papers with their number and a place in them, or whole (tests/test_places.py: no place is a guess)."""
    whole = {text for name, text in vars(references).items() if name.isupper() and isinstance(text, str)}
    for source in question.sources:
        if "arXiv" in source and source not in whole and " cites it)" not in source:
            assert re.search(
                r"arXiv:\d{4}\.\d{4,5}, (sections?|appendix|algorithm|figures?|tables?|abstract)\b", source
            ), source


@pytest.mark.sampled(5)
@each
def test_texts_are_whole_for_every_model(question: Question) -> None:
    """No placeholder is left, none is missing, formulas and code are closed."""
    for model in question.models() or (None,):
        answer = answer_of(question, model)
        texts = [question.ask(model), *question.choices(model)]
        if answer is not None or not question.computed:
            texts.append(question.explain(answer, model))
        for text in [*texts, *(answer.working if answer else ())]:
            assert not placeholders(re.sub(r"\$[^$]*\$", "", text)), text
            assert text.count("$") % 2 == 0, text
            assert text.count("`") % 2 == 0, text
            for formula in re.findall(r"\$([^$]+)\$", text):
                assert formula.count("{") == formula.count("}"), formula
                assert not re.search(r"\d,\d|nan|None", formula), f"KaTeX spaces a bare comma: {formula}"


@each_computed
def test_figures_come_from_code(question: Question) -> None:
    assert not digits_left(question.answer), digits_left(question.answer)
    assert "{{value}}" in question.answer


def test_the_lint_sees_a_typed_figure() -> None:
    assert digits_left("{{value}}, that is 4,587,520 in all.") == ["4,587,520"]
    assert digits_left("about 0.14% of it") == ["0.14%"]
    assert digits_left("{{value}} in float32, stored in NF4 with 4 bits") == []


@each_computed
def test_answers_are_usable(question: Question) -> None:
    answer = answer_of(question)
    if answer is None:
        return
    assert answer.working
    assert not set(answer.named) & ({"model", "value"} | set(question.given)), "a name would be hidden"
    slips = [miss.value for miss in answer.near_misses]
    assert len(set(slips)) == len(slips)
    assert answer.value not in slips
    if question.kind == "numeric":
        assert slips, "no known slip"
        for miss in answer.near_misses:
            assert miss.forgot[0].islower() or miss.forgot[:2] in ("A:", "B:"), miss.forgot
            assert not miss.forgot.endswith(".")
    else:
        assert 0 <= answer.value < len(question.options)


def test_models_can_be_changed_where_it_makes_sense() -> None:
    changeable = [question for question in QUESTIONS if len(question.models()) > 1]
    assert len(changeable) >= 50
    question = get_question("lora-query-value")
    assert question.compute("llama-2-7b") != question.compute("mistral-7b")
    assert "Mistral" in question.ask("mistral-7b")
    with pytest.raises(BadInput, match="does not apply to GPT-2"):
        question.ask("gpt2")
    with pytest.raises(BadInput, match="no setting 'rank'"):
        question.compute(rank=4)
    assert question.compute(r=32).value == 2 * question.compute().value  # type: ignore[union-attr]


def test_select() -> None:
    assert {question.topic for question in select(["ia3", "memory"])} == {"ia3", "memory"}
    assert {question.level for question in select(level=["hard"])} == {"hard"}
    about = select(model="gpt2")
    assert about
    assert all("gpt2" in question.models() for question in about)
    with pytest.raises(UnknownName, match="Did you mean 'memory'"):
        select(["memori"])
    with pytest.raises(UnknownName):
        select(level=["impossible"])
    with pytest.raises(UnknownName, match="lora-scale"):
        get_question("lora-scales")
    with pytest.raises(BadInput, match="nothing can be computed"):
        bank.compute_answer("lora-why-b-zero")


def test_nothing_heavy_is_imported() -> None:
    """A page that asks a question must not pay for torch."""
    code = (
        "import sys; from peft_lab.interview import answers, mock as anki, mock, predictions\n"
        "from peft_lab.interview.learners import schedule, schedule as transfer\n"
        "from peft_lab.interview.bank import all_questions\n"
        "[q.explain(q.compute()) for q in all_questions().values() if q.needs == 'shape']\n"
        "heavy = {'torch', 'transformers', 'peft', 'bitsandbytes', 'streamlit'} & set(sys.modules)\n"
        "print(heavy); sys.exit(len(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


#: Chains that end without a picture: what they ask about is nowhere in the Lab.
LEAST_SHOWN = 130
FOLLOW_UPS = [(question, follow_up) for question in QUESTIONS for follow_up in question.follow_ups]
each_follow_up = over(FOLLOW_UPS, lambda entry: entry[1].question)
DOUBTS = [(name, question.doubt) for name, question in all_questions().items() if question.doubt]
PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}, (sections?|appendix|algorithm|figure|abstract)\b")


def whole(text: str) -> bool:
    """No placeholder is left, formulas and code are closed, a sentence ends."""
    bare = re.sub(r"\$[^$]*\$", "", text)
    return not placeholders(bare) and text.count("$") % 2 == text.count("`") % 2 == 0 and text[-1] in ".?!"


#: A paper as references.yaml names it, without a place.
WHOLE = frozenset(text for name, text in vars(references).items() if name.isupper() and isinstance(text, str))


def stated_places(sources: tuple[str, ...]) -> bool:
    """Each paper with the place in it, or whole: tests/test_places.py sees to it that no place is a guess."""
    papers = [source for source in sources if "arXiv" in source]
    return bool(sources) and all(PAPER.search(source) or source in WHOLE for source in papers)


@each_follow_up
def test_a_follow_up_is_answered_or_leads_to_a_question(question: Question, follow_up: FollowUp) -> None:
    assert bool(follow_up.answer) != bool(follow_up.leads_to), follow_up.question
    if follow_up.leads_to:
        assert follow_up.leads_to in all_questions()
        assert follow_up.leads_to != question.id
    else:
        assert stated_places(follow_up.sources), follow_up.sources


@pytest.mark.sampled(5)
@each_follow_up
def test_its_texts_are_whole_for_every_model(question: Question, follow_up: FollowUp) -> None:
    for model in question.models() or (None,):
        asked, answer = question.explain_follow_up(follow_up, model)
        assert whole(asked), (model, asked)
        assert follow_up.leads_to or whole(answer), (model, answer)


@each_follow_up
def test_figures_that_code_computes_are_not_typed(question: Question, follow_up: FollowUp) -> None:
    if follow_up.calculate is not None:
        assert placeholders(follow_up.question + follow_up.answer)
        assert digits_left(follow_up.answer.replace("24 GB", "").replace("60 examples", "")) == []


def test_every_question_begins_a_chain_of_three_to_five() -> None:
    found = {name: chain(question) for name, question in all_questions().items()}
    assert {len(links) for links in found.values()} <= {3, 4, LONGEST}
    for name, links in found.items():
        met = [link.asks.id for link in links if link.asks is not None]
        assert met[0] == name
        assert len(set(met)) == len(met), "nothing is asked twice"
    shown = [
        links for links in found.values() if any(link.follow_up and link.follow_up.opens for link in links)
    ]
    assert len(shown) >= LEAST_SHOWN


# -- doubts ------------------------------------------------------------------------------------------------------------


@over(DOUBTS, lambda entry: entry[0])
def test_a_doubt_is_whole_and_has_its_reason(name: str, doubt: Doubt) -> None:
    question = get_question(name)
    assert stated_places(doubt.sources), doubt.sources
    assert len(doubt.because) > 80, "a reason, not a remark"
    for model in question.models() or (None,):
        texts = question.explain_doubt(doubt, model)
        assert all(whole(text) for text in texts), texts


# -- wrong turns -------------------------------------------------------------------------------------------------------

CHOICES = [question for question in all_questions().values() if question.kind == "choice"]


@over(CHOICES)
def test_every_wrong_option_says_what_was_thought(question: Question) -> None:
    thoughts = [option.thought for option in question.options]
    for model in question.models() or (None,):
        answer = question.compute(model)
        right = question.right_option(answer)
        assert all(thought for index, thought in enumerate(thoughts) if index != right)
        assert len(question.thoughts(answer, model)) == len(thoughts) - 1
        wrong = next(index for index in range(len(thoughts)) if index != right)
        assert thoughts[wrong][1:] in judge(question, answer, str(wrong + 1), model).message
    texts = [thought for thought in thoughts if thought]
    assert len(set(texts)) == len(texts)
    assert all(thought[0].isupper() and thought[-1] == "." for thought in texts)


NUMERIC = [q for q in all_questions().values() if q.kind == "numeric" and q.needs == "shape"]


@over(NUMERIC)
def test_every_typical_slip_says_what_was_forgotten(question: Question) -> None:
    """On each_follow_up model; within a question no two slips have one explanation."""
    for model in question.models() or (None,):
        answer = question.compute(model)
        assert answer is not None
        texts = [miss.forgot for miss in answer.near_misses]
        assert all(len(text) >= len("the text") for text in texts)
        assert len(set(texts)) == len(texts), texts


def test_what_interviews_ask_is_asked() -> None:
    asked = yaml.safe_load(Path(__file__).with_name("asked.yaml").read_text("utf-8"))
    assert len(asked) >= 70 and {name for names in asked.values() for name in names} <= set(all_questions())


SHAPED = [q for q in all_questions().values() if q.computed and q.needs == "shape"]
each_shaped = over(SHAPED)

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
@each_shaped
def test_no_wrong_line_is_right(question: Question) -> None:
    right = [
        (model, line, answer.shown)
        for model, answer in answers(question)
        for line in question.wrong
        if claims_the_right_answer(question, answer, line, model)
    ]
    assert not right


@pytest.mark.sampled(5)
@each_shaped
def test_no_text_has_an_exponent(question: Question) -> None:
    for model, answer in answers(question):
        for text in (question.ask(model), question.explain(answer, model), answer.shown, *answer.working):
            assert not re.search(r"\de[+-]\d", text), (model, text)
            assert not re.search(r"\d,\d{3},?\d* (?:MB|kB)", text), (
                model,
                f"a larger unit is wanted: {text}",
            )


@each_shaped
def test_texts_fit_into_the_positions(question: Question) -> None:
    lengths = [question.given[name] for name in ("tokens", "length", "n") if name in question.given]
    for model in question.models():
        positions = resolve(model).shape.max_positions
        assert positions is None or sum(n for n in lengths if isinstance(n, int)) <= positions, model


@pytest.mark.parametrize("model", ["mixtral-8x7b", "qwen3-0.6b"])
def test_what_a_further_model_is_asked_can_be_computed(model: str) -> None:
    """Of a mixture nothing is asked that needs its block's feed-forward maps."""
    accepted = [question for question in SHAPED if question.accepts(model)]
    assert accepted and ("ia3-vectors" in {one.id for one in accepted}) is not bool(
        resolve(model).shape.mixtures
    )
    for question in accepted:
        assert question.explain(question.compute(model), model)
