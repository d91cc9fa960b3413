"""The gate: no leaf, claim, question, method or recipe says what another denies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import pytest

from peft_lab.core.references import FIRST, RATE, ROWS, RUNS, SEEDS, Fact, contradiction, fact
from peft_lab.interview.bank import all_questions
from peft_lab.interview.claims import all_claims
from tests.advise.stated import stated


def contradictions(said: Mapping[str, Iterable[Fact]]) -> list[str]:
    """A sentence for every pair of facts that contradict each other, by the name of the text that states them."""
    facts = [(name, each) for name, every in said.items() for each in every]
    return [
        f"{first} ({one}) against {second} ({other})"
        for (first, one), (second, other) in combinations(facts, 2)
        if contradiction(one, other)
    ]


def test_nothing_that_is_said_contradicts_another() -> None:
    assert contradictions(stated()) == []


def test_whatever_advises_or_judges_a_choice_states_its_facts() -> None:
    """Every leaf and method, and every claim and question that names a choice, a rate or what can be served."""
    facts = stated()
    assert all(said for name, said in facts.items() if name.startswith(("leaf", "method", "recipe")))
    for name in ("leaf-many-tasks", "leaf-few-shot", "leaf-no-overhead", "prefix-seq2seq", "prefix-anywhere",
                 "bitfit-classification", "full-always-best", "prompt-large-scale"):  # fmt: skip
        assert all_claims()[name].facts, name
    for name in ("choose-few-shot", "choose-when-full", "train-learning-rate", "prefix-on-encoders",
                 "serve-which-merge", "serve-heterogeneous", "prompt-learning-rate", "bitfit-rate"):  # fmt: skip
        assert all_questions()[name].facts, name


#: What was said before: who against whom.
BEFORE = {
    "leaf-many-tasks": (
        fact("adapters", FIRST, tasks="many", latency="relaxed", storage="roomy", base="sixteen"),
        "claim leaf-many-tasks",
    ),
    "prefix-seq2seq": (
        fact(
            "prefix", FIRST, tasks="one", output="generation", kind="seq2seq", rows="some", latency="relaxed"
        ),
        "claim prefix-seq2seq",
    ),
    "train-learning-rate": (fact("prompt", RATE, (1e-3, 1e-1)), "question prompt-learning-rate"),
    "prefix-anywhere": (fact("prefix", RUNS, "encoder", "never"), "question prefix-on-encoders"),
    "few rows": (fact("ia3", FIRST, tasks="one", kind="causal-lm", rows="few"), "claim leaf-few-shot"),
    "live rates for all models": (fact("lora", RATE, 2e-3, kind="causal-lm"), "question train-learning-rate"),
}


@pytest.mark.parametrize("name", BEFORE)
def test_it_finds_what_was_said_before(name: str) -> None:
    old, against = BEFORE[name]
    found = contradictions({"before": (old,), against: stated()[against]})
    assert found and against in found[0]


def test_it_finds_when_full_fine_tuning_was_worth_it() -> None:
    """The question said millions of examples, the tree took a hundred thousand rows."""
    question, leaf = fact("full", ROWS, (1e6, float("inf"))), fact("full", ROWS, 1e5)
    assert contradiction(question, leaf)
    tree = fact("full", FIRST, tasks="one", kind="causal-lm", rows="many", full="yes", objective="sft")
    assert contradictions({"before": (tree,), "now": stated()["question choose-when-full"]})


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (fact("lora", FIRST, rows="few"), fact("ia3", FIRST, rows="few"), False),
        (fact("lora", FIRST, rows="few"), fact("ia3", FIRST, rows="many"), True),
        (fact("lora", FIRST, rows="few"), fact("qlora", FIRST, rows="few"), True),
        (fact(("lora", "ia3"), FIRST, rows="few"), fact("lora", FIRST, rows="few"), True),
        (fact("lora", FIRST, base="none"), fact("none", FIRST, base="none"), False),
        (fact("lora", FIRST, "", "sometimes", rows="few"), fact("lora", FIRST), False),
        (fact("lora", FIRST, "", "sometimes"), fact("lora", FIRST, rows="few"), True),
        (fact("lora", FIRST, "", "never"), fact("lora", FIRST, rows="few"), False),
        (fact("lora", RATE, (1e-4, 1e-3)), fact("lora", RATE, 1e-3), True),
        (fact("lora", RATE, (1e-4, 1e-3)), fact("lora", RATE, 2e-3), False),
        (fact("lora", RATE, (1e-4, 1e-3)), fact("full", RATE, 1e-5), True),
        (fact("lora", SEEDS, (3, 5)), fact("lora", RATE, 1e-5), True),
    ],
)  # fmt: skip
def test_what_can_both_be_so(one: Fact, other: Fact, both: bool) -> None:
    assert contradiction(one, other) is contradiction(other, one) is not both
