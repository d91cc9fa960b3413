"""The record that Home shows: what it says of itself is computed again from what it holds."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.drawing.trajectory import sentence
from peft_lab.drawing.trajectory.sentence import (
    ASKED,
    FILE_BYTES,
    LIKELIEST,
    SHIPPED,
    STEPS,
    from_dict,
    shipped,
)
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.training.marking import marked
from peft_lab.training.tasks import get_task
from peft_lab.training.tasks.orders import first_object

RUN = shipped()


def data() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SHIPPED.read_text("utf-8"))
    return found


def test_it_is_small_and_has_every_state_of_a_run_on_an_order_that_is_not_trained_on() -> None:
    assert SHIPPED.stat().st_size <= FILE_BYTES
    row = get_task(RUN.spec["task"]).load().test[0]
    assert (RUN.order, RUN.right) == (row.text, row.target)
    assert "".join(RUN.order_tokens) == RUN.order and "".join(RUN.right_tokens) == RUN.right
    assert len(RUN.loss) == RUN.spec["steps"] == STEPS
    assert tuple(answer.step for answer in RUN.answers) == ASKED
    layers = get_model(RUN.spec["model"]).shape.num_layers
    assert {name: {len(state) for state in states} for name, states in RUN.moved.items()} == {
        "q": {layers},
        "v": {layers},
    }


def test_its_counts_are_the_methods() -> None:
    entry, method = get_model(RUN.spec["model"]), get_method(RUN.spec["method"])
    assert RUN.spec["values"] == {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in method.complete(entry.shape, {}).items()
    }
    assert RUN.trained == method.formula(entry.shape, method.complete(entry.shape, {})).trainable
    assert RUN.total == entry.shape.total


def test_nothing_has_moved_at_first_and_every_block_has_at_the_end() -> None:
    for states in RUN.moved.values():
        assert not any(states[0])
        assert all(0 < change < 0.1 for change in states[-1])


def test_it_learns_the_form_and_every_field() -> None:
    first, last = RUN.answers[0], RUN.answers[-1]
    assert first_object(first.text) is None
    assert first_object(last.text) == json.loads(RUN.right)
    right = [marked(answer.text, RUN.right).right for answer in RUN.answers]
    assert right[0] == 0 and right[-1] == 5 and right == sorted(right)
    score = get_task(RUN.spec["task"]).score
    row = get_task(RUN.spec["task"]).load().test[0]
    assert [score([answer.text], [row])["exact_match"] for answer in RUN.answers][-1] == 1
    assert sum(RUN.loss[-5:]) < sum(RUN.loss[:5]) / 10


@pytest.mark.parametrize("answer", RUN.answers, ids=lambda answer: answer.step)
def test_the_likeliest_tokens_agree_with_the_surprise(answer: sentence.SentenceAnswer) -> None:
    for place, token in enumerate(RUN.right_tokens):
        shares = {int(word): share for word, share in answer.likeliest[place]}
        assert len(shares) == LIKELIEST and list(shares.values()) == sorted(shares.values(), reverse=True)
        assert sum(shares.values()) <= 1.001  # each has three digits
        named = {RUN.words[word]: share for word, share in shares.items()}
        likelihood = math.exp(-RUN.surprise[answer.step][place])
        if token in named:
            assert named[token] == pytest.approx(likelihood, rel=0.02, abs=0.002)
        else:
            assert likelihood <= min(named.values()) * 1.01
        first = RUN.words[RUN.first[answer.step][place]]  # one of two that bfloat16 may leave equally likely
        assert named[first] == next(iter(named.values()))


def test_another_version_and_a_lost_state_are_refused() -> None:
    with pytest.raises(BadInput):
        from_dict({**data(), "format": sentence.VERSION + 1})
    with pytest.raises(BadInput):
        from_dict({**data(), "surprise": data()["surprise"][:-1]})
    with pytest.raises(BadInput):
        from_dict({**data(), "first": [row[:-1] for row in data()["first"]]})
    with pytest.raises(BadInput):
        from_dict([])


def test_its_answers_are_drafts_for_the_same_order_alone() -> None:
    known = sentence.answers_of(sentence.MODEL, sentence.METHOD, RUN.order)
    assert set(known) == set(ASKED) and known[STEPS] == RUN.answers[-1].text
    assert not sentence.answers_of(sentence.MODEL, sentence.METHOD, RUN.order + " Thanks.")
    assert not sentence.answers_of(sentence.MODEL, "ia3", RUN.order)
