"""Chains and doubts: everything that is asked has an answer with its sources, and every wrong turn its explanation."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from peft_lab.core import references
from peft_lab.interview.answers import judge
from peft_lab.interview.bank import LONGEST, all_questions, chain, get_question
from peft_lab.interview.question import Doubt, FollowUp, Question, placeholders
from peft_lab.methods import all_methods
from tests.interview.test_bank import digits_left

#: Chains that end without a picture: what they ask about is nowhere in the Lab.
LEAST_SHOWN = 130
#: Every method, and what concerns them all.
WITH_DOUBTS = {
    *(slug for slug in all_methods() if slug != "full"),
    "memory",
    "quantisation",
    "serving",
    "choosing",
    "training",
}
FOLLOW_UPS = [
    pytest.param(question, follow_up, id=f"{question.id}-{number}")
    for question in all_questions().values()
    for number, follow_up in enumerate(question.follow_ups, 1)
]
each = pytest.mark.parametrize(("question", "follow_up"), FOLLOW_UPS)
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


@each
def test_a_follow_up_is_answered_or_leads_to_a_question(question: Question, follow_up: FollowUp) -> None:
    assert bool(follow_up.answer) != bool(follow_up.leads_to), follow_up.question
    if follow_up.leads_to:
        assert follow_up.leads_to in all_questions()
        assert follow_up.leads_to != question.id
    else:
        assert stated_places(follow_up.sources), follow_up.sources


@pytest.mark.sampled(5)
@each
def test_its_texts_are_whole_for_every_model(question: Question, follow_up: FollowUp) -> None:
    for model in question.models() or (None,):
        asked, answer = question.explain_follow_up(follow_up, model)
        assert whole(asked), (model, asked)
        assert follow_up.leads_to or whole(answer), (model, answer)


@each
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


def test_a_chain_goes_on_through_the_question_it_leads_to() -> None:
    links = chain(get_question("lora-why-b-zero"))
    assert [link.asks.id if link.asks else None for link in links] == [
        "lora-why-b-zero",
        None,
        None,
        None,
        None,
    ]
    opens = links[-1].follow_up and links[-1].follow_up.opens
    assert opens and (opens.page, opens.values["tab"]) == ("lora", "inside")
    through = [link.asks.id for link in chain(get_question("lora-one-map")) if link.asks]
    assert through == ["lora-one-map", "lora-break-even"]


# -- doubts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "doubt"), DOUBTS, ids=[name for name, _ in DOUBTS])
def test_a_doubt_is_whole_and_has_its_reason(name: str, doubt: Doubt) -> None:
    question = get_question(name)
    assert stated_places(doubt.sources), doubt.sources
    assert len(doubt.because) > 80, "a reason, not a remark"
    for model in question.models() or (None,):
        texts = question.explain_doubt(doubt, model)
        assert all(whole(text) for text in texts), texts


def test_doubts_are_spread_and_some_are_right() -> None:
    assert len(DOUBTS) >= 60
    by_topic = Counter((get_question(name).topic, doubt.holds) for name, doubt in DOUBTS)
    for topic in {topic for topic, _ in by_topic}:
        assert by_topic[topic, True] >= 2 and by_topic[topic, False] >= 2, topic
    assert {topic for topic, _ in by_topic} >= WITH_DOUBTS


# -- wrong turns -------------------------------------------------------------------------------------------------------

CHOICES = [question for question in all_questions().values() if question.kind == "choice"]


@pytest.mark.parametrize("question", CHOICES, ids=lambda question: question.id)
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


@pytest.mark.parametrize("question", NUMERIC, ids=lambda question: question.id)
def test_every_typical_slip_says_what_was_forgotten(question: Question) -> None:
    """On each model; within a question no two slips have one explanation."""
    for model in question.models() or (None,):
        answer = question.compute(model)
        assert answer is not None
        texts = [miss.forgot for miss in answer.near_misses]
        assert all(len(text) >= len("the text") for text in texts)
        assert len(set(texts)) == len(texts), texts
