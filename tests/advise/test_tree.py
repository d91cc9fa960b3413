"""The tree itself: complete, without contradictions, every place within reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import pytest

from peft_lab.advise.recommend import decide, reach, walk
from peft_lab.advise.room import room_of
from peft_lab.advise.situation import FOLLOWING, FOUND, WORDS, Situation
from peft_lab.advise.tree import ADVICE, EXAMPLES, NODES, QUESTIONS, ROOT, ExampleModel, TreePlace, places
from peft_lab.core.references import FIRST, RATE, ROWS, RUNS, SEEDS, Fact, contradiction, fact
from peft_lab.methods import all_methods
from peft_lab.ui.choose.page import lit_places
from tests.advise.stated import stated

SOURCE_TEXT = {"qlora", "lora", "adapters", "ia3", "prompt", "bitfit"}  # Prefix Tuning is sent nobody
by_place = pytest.mark.parametrize("place", places(), ids=lambda place: place.id)


def test_every_answer_leads_somewhere_exactly_once() -> None:
    for node in NODES.values():
        values = [value for branch in node.branches for value in branch.values]
        known = QUESTIONS[node.question].answers
        assert len(values) == len(set(values))
        assert set(values) == set(known)


def test_every_node_has_one_way_to_it_and_every_advice_is_used() -> None:
    below = [branch.to for node in NODES.values() for branch in node.branches]
    questions = [target for target in below if target in NODES]
    assert sorted(questions) == sorted(set(NODES) - {ROOT})
    in_tree = {target for target in below if target in ADVICE}
    fallbacks = {name for advice in ADVICE.values() for name in (*advice.others, advice.four)} | {"no-way"}
    fallbacks.discard("")
    assert in_tree | fallbacks == set(ADVICE)
    assert {ADVICE[name].method for name in in_tree} >= SOURCE_TEXT


@pytest.mark.usefixtures("kept_simulations")
@by_place
def test_every_place_is_reached_from_the_usual_situation(place: TreePlace) -> None:
    situation = reach(Situation(), place, {})
    path, leaf = walk(situation, room_of(situation))
    assert place.id in lit_places([(step.node, step.value) for step in path])
    decided = decide(situation, room_of(situation))
    if place.leaf:
        assert leaf.id == place.target
        assert decided.advice.method == ADVICE[place.target].method, "what the leaf says can be done"


@pytest.mark.usefixtures("kept_simulations")
def test_reaching_a_place_changes_no_more_than_it_has_to() -> None:
    start = Situation(rows=500, tasks=7, latency=0.0)
    for place in places():
        if place.id == "many-biases":
            there = reach(start, place, {"base": "sixteen"})
            assert (there.rows, there.tasks, there.latency, there.model) == (500, 7, 0.0, "bert-base")


@pytest.mark.usefixtures("kept_simulations")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.model} on {example.device}")
def test_examples_are_as_they_say(example: ExampleModel) -> None:
    room = room_of(
        Situation(model=example.model, device=example.device, devices=example.devices, link=example.link)
    )
    assert room.base() == example.base
    assert room.full() == example.full


def test_what_the_lab_finds_is_not_asked_and_the_rest_has_words() -> None:
    told = {key for key, question in QUESTIONS.items() if question.by == "you"}
    assert told | set(FOUND) | set(FOLLOWING) == set(QUESTIONS)
    assert told <= set(WORDS)


def test_a_limit_that_the_lab_chose_has_no_badge() -> None:
    assert [QUESTIONS["rows"].drawn(value) for value in ("few", "some", "many")] == ["", "", "cited"]
    for question in QUESTIONS.values():
        assert set(question.own) <= set(question.answers)


def test_how_many_tasks_is_asked_before_whether_a_step_fits() -> None:
    for place in places():
        asked = list(place.conditions)
        if "base" in asked or "full" in asked:
            assert asked.index("tasks") < min(asked.index(key) for key in ("base", "full") if key in asked)


def test_every_advice_has_reasons_with_sources_and_knobs_that_exist() -> None:
    for advice in ADVICE.values():
        assert advice.reasons or advice.id == "no-way"
        assert all(reason.source for reason in advice.reasons)
        assert advice.id == "no-way" or any(reason.when is None for reason in advice.reasons)
        for question, value in filter(None, (reason.when for reason in advice.reasons)):
            assert value in QUESTIONS[question].answers
        if advice.method in all_methods():
            for name in advice.values:
                all_methods()[advice.method].knob(name)


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
