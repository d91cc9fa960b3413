"""What prose says of two numbers beside it, computed again; and what it says of rank one and of a lost adapter."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from peft_lab.advise.recipes.rules import all_rules
from peft_lab.advise.tree import ADVICE
from peft_lab.core import references as src
from peft_lab.core.references import RANK_ONE
from peft_lab.interview import claims
from peft_lab.interview.bank import all_questions, get_question
from peft_lab.interview.since import all_discoveries
from peft_lab.models.catalogue import get_model
from tests.advise.stated import stated
from tests.interview.dims import dims


@pytest.mark.parametrize("model", get_question("lora-start-covariances").models())
def test_covariances_are_so_many_times_the_model(model: str) -> None:
    """PEFT's code warns of about twice the model: lora/corda.py, preprocess_corda."""
    answer, d = get_question("lora-start-covariances").compute(model), dims(model)
    assert answer is not None
    times = float(str(answer.named["times"]))
    assert times == pytest.approx(4 * d.layers * (5 * d.d**2 + d.qw**2 + d.f**2) / (2 * d.total), rel=0.01)
    assert 1.9 < times < 3.3


def test_lora_xs_at_full_width_still_trains_half_of_lora() -> None:
    question = get_question("lora-xs-times")
    for model in question.models():
        answer, d = question.compute(model), dims(model)
        assert answer is not None
        side = min(d.d, d.qw)
        assert answer.named["full"] == f"{side:,}"
        assert float(str(answer.named["least"])) == pytest.approx((d.d + d.qw) / side, rel=0.01)
        assert float(str(answer.named["least"])) >= 2


def test_a_tenth_of_a_four_bit_base_comes_sooner_by_what_is_smaller() -> None:
    question = get_question("memory-adapter-share")
    follow_up = question.follow_ups[0]
    assert follow_up.calculate is not None
    for model in question.models():
        d = dims(model)
        sooner = float(str(follow_up.calculate(question.case(model)).named["sooner"]))
        bits = 4 + 8 / 64 + 32 / (64 * 256)
        assert sooner == pytest.approx(
            2 * d.total / (2 * (d.total - d.weights) + d.weights * bits / 8), rel=0.01
        )
        assert 1.5 < sooner < 3.7


def test_a_head_without_its_adapter_is_no_linear_probe() -> None:
    """The follow-up shows the measurement: the head was kept, the adapter switched off, and what is left is chance."""
    follow_up = next(each for each in get_question("debug-chance").follow_ups if each.opens is not None)
    assert follow_up.opens is not None
    found = claims.kept_result(str(follow_up.opens.values["claim"]))
    assert found is not None
    chance = get_question("debug-chance").compute(rows=500)
    assert chance is not None
    assert found.values["score base"] < chance.value < found.values["score unmerged"]


def test_the_smallest_lora_of_a_large_model_is_millions() -> None:
    question, d = get_question("lora-rank-one"), dims("llama-3.1-8b")
    assert question.given["large"] == get_model("llama-3.1-8b").shape.title
    assert question.given["parameters"] == f"{d.lora_all(1):,}" == "2,621,440"


def _with_sources() -> Iterator[tuple[str, str, str]]:
    """Where something is said, what, and its sources; a leaf's reasons have them together."""
    for name, question in all_questions().items():
        yield f"question {name}", question.answer, " ".join(question.sources)
        for number, each in enumerate(question.follow_ups):
            yield f"follow-up {name} {number}", each.answer, " ".join(each.sources)
    doubts = [(name, q.doubt) for name, q in all_questions().items() if q.doubt]
    for name, doubt in doubts:
        yield f"doubt {name}", doubt.said + doubt.because, " ".join(doubt.sources)
    for advice in ADVICE.values():
        sources = " ".join(reason.source for reason in advice.reasons)
        yield from ((f"leaf {advice.id}", reason.text, sources) for reason in advice.reasons)


#: Speaks of how rewards are hacked with rank one, not of how much rank they need.
ON_SOMETHING_ELSE = {"follow-up preference-kl 0"}


def test_rank_one_under_rewards_is_told_from_both_sides() -> None:
    told = {
        where: sources
        for where, text, sources in _with_sources()
        if f"{src.LORA_REGRET}, Reinforcement learning" in sources and re.search(r"[Rr]ank (1|one)\b", text)
    }
    assert {"question lora-rank-one", "doubt lora-rank-one", "leaf lora-reward", "leaf lora-tiny"} <= set(
        told
    )
    assert {where for where, sources in told.items() if src.RLVR_METHODS not in sources} == ON_SOMETHING_ELSE
    stating = [name for name, facts in stated().items() for each in facts if each.relation == RANK_ONE]
    assert set(stating) == {
        "question lora-rank-one", "since lora-since-rank-one", "since lora-since-rank-rewards",
    }  # fmt: skip
    assert {each.source for each in all_discoveries() if RANK_ONE in {f.relation for f in each.facts}} == {
        src.LORA_REGRET,
        src.RLVR_METHODS,
    }
    assert any(rule.source == src.RANK_COLLAPSE for rule in all_rules())
