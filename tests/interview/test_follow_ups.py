"""Chains and doubts: everything that is asked has an answer with its sources, and every wrong turn its explanation."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from peft_lab.core import references
from peft_lab.interview.answers import judge
from peft_lab.interview.bank import all_questions, get_question
from peft_lab.interview.chains import LONGEST, chains
from peft_lab.interview.doubts import all_challenges
from peft_lab.interview.question import Challenge, FollowUp, Question, followed, placeholders, then
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
doubted = pytest.mark.parametrize("challenge", all_challenges().values(), ids=lambda each: each.question)
PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}, (sections?|appendix|algorithm|figure|abstract)\b")


def whole(text: str) -> bool:
    """No placeholder is left, formulas and code are closed, a sentence ends."""
    bare = re.sub(r"\$[^$]*\$", "", text)
    return not placeholders(bare) and text.count("$") % 2 == text.count("`") % 2 == 0 and text[-1] in ".?!"


#: A paper as references.py names it, without a place.
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
    found = chains()
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
    links = chains()["lora-why-b-zero"]
    assert [link.asks.id if link.asks else None for link in links] == [
        "lora-why-b-zero",
        None,
        None,
        None,
        None,
    ]
    opens = links[-1].follow_up and links[-1].follow_up.opens
    assert opens and (opens.page, opens.values["tab"]) == ("lora", "look inside")
    through = [link.asks.id for link in chains()["lora-one-map"] if link.asks]
    assert through == ["lora-one-map", "lora-break-even"]


def test_follow_ups_in_a_file_of_their_own_find_their_question() -> None:
    question = replace(get_question("lora-scale"), follow_ups=())
    assert followed((question,), {"lora-scale": (then("Why?", "So.", "x"),)})[0].follow_ups[0].answer == "So."
    for wrong in ({"lora-scales": ()}, {"lora-rslora": ()}):
        with pytest.raises(ValueError, match="no place"):
            followed((question, get_question("lora-rslora")), wrong)


# -- doubts ------------------------------------------------------------------------------------------------------------


@doubted
def test_a_doubt_is_whole_and_has_its_reason(challenge: Challenge) -> None:
    question = get_question(challenge.question)
    assert stated_places(challenge.sources), challenge.sources
    assert len(challenge.because) > 80, "a reason, not a remark"
    for model in question.models() or (None,):
        texts = question.fill_in(
            (challenge.said, challenge.doubt, challenge.because), challenge.calculate, model
        )
        assert all(whole(text) for text in texts), texts


def test_doubts_are_spread_and_some_are_right() -> None:
    found = all_challenges().values()
    assert len(found) >= 60
    by_topic = Counter((get_question(each.question).topic, each.holds) for each in found)
    for topic in {get_question(each.question).topic for each in found}:
        assert by_topic[topic, True] >= 2 and by_topic[topic, False] >= 2, topic
    assert {topic for topic, _ in by_topic} >= WITH_DOUBTS


# -- wrong turns -------------------------------------------------------------------------------------------------------

CHOICES = [question for question in all_questions().values() if question.kind == "choice"]


@pytest.mark.parametrize("question", CHOICES, ids=lambda question: question.id)
def test_every_wrong_option_says_what_was_thought(question: Question) -> None:
    assert len(question.because) == len(question.options)
    for model in question.models() or (None,):
        answer = question.compute(model)
        right = question.right_option(answer)
        assert all(why for index, why in enumerate(question.because) if index != right)
        assert len(question.thoughts(answer, model)) == len(question.options) - 1
        wrong = next(index for index in range(len(question.options)) if index != right)
        said = judge(question, answer, str(wrong + 1), model).message
        assert question.because[wrong][1:] in said
    texts = [why for why in question.because if why]
    assert len(set(texts)) == len(texts)
    assert all(why[0].isupper() and why[-1] == "." for why in texts)


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
