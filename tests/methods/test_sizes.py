"""Warnings about sizes begin exactly where what they say is so, and not one step before."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.methods import get_method
from peft_lab.methods.shared.virtual_tokens import ROOM
from peft_lab.models.catalogue import get_model

GPT2 = get_model("gpt2").shape


@pytest.mark.parametrize(
    ("method", "model", "knob", "last_quiet", "first_warned", "words"),
    [
        # r (768 + 768) = 768 * 768 at r = 384
        ("lora", "bert-base", "r", 383, 384, "589,824"),
        ("adapters", "bert-base", "bottleneck", 767, 768, "768"),
        (
            "prompt",
            "gpt2",
            "num_virtual_tokens",
            1024 - ROOM,
            1024 - ROOM + 1,
            f"{ROOM - 1} of the",
        ),
    ],
)
def test_a_size_is_warned_of_from_where_it_is_so(
    method: str, model: str, knob: str, last_quiet: int, first_warned: int, words: str
) -> None:
    spec, shape = get_method(method), get_model(model).shape

    def warned(value: int) -> list[Any]:
        return [problem for problem in spec.problems(shape, {knob: value}) if problem.level == "warning"]

    assert not warned(last_quiet)
    (problem,) = warned(first_warned)
    assert problem.field == knob and words in problem.message
