"""What a page prints of a formula is true by computation: every expression, read as arithmetic, is its term's number.

Over every combination of a method's switches and choices, on every tiny model and mixture. That the numbers are those
of the model is the contract's (test_contract.py).
"""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest

from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.models.shapes import ModelShape
from tests.methods import mixtures, tiny

# Primes that no model has for a width, so that one letter in another's place gives another number.
NUMBERS = {
    "r": 3,
    "num_virtual_tokens": 5,
    "encoder_hidden_size": 7,
    "encoder_num_layers": 3,
    "bottleneck": 11,
    "rank_pattern": "0=2",
}
TOKEN = re.compile(r"\d+|\\cdot|\\ell|[A-Za-z](?:_\{?\w+\}?)?|[-+^()]")


def computed(latex: str, letters: dict[str, int] | None = None) -> int:
    """The number that is written there. What stands side by side is multiplied; anything unknown is an error."""
    text = latex.replace(r"\,", " ")
    tokens = TOKEN.findall(text)
    assert "".join(tokens) == re.sub(r"\s", "", text), f"not all of it is read: {latex}"
    python: list[str] = []
    for token in tokens:
        if python and re.search(r"[\w)]$", python[-1]) and re.match(r"[\w\\(]", token) and token != r"\cdot":
            python.append("*")
        python.append({r"\cdot": "*", "^": "**"}.get(token, re.sub(r"[\\{}]", "", token)))
    return int(eval(" ".join(python), {}, letters or {}))


def test_it_is_read_as_it_is_printed() -> None:
    assert computed(r"2 \cdot (3 + 4) + 5") == 19
    assert (
        computed(r"n\,d_{kv} + (4h^2 + 2h) + 2\,(\ell - 1) \cdot 4h", {"n": 2, "d_kv": 3, "h": 5, "ell": 4})
        == 236
    )
    with pytest.raises(AssertionError, match="not all of"):
        computed(r"2 \times 3")


def settings_of(spec: MethodSpec, shape: ModelShape) -> list[dict[str, Any]]:
    """Every combination of switches and choices that this model takes, with the default numbers and with others."""
    offered = {
        knob.name: knob.choices or (False, True) for knob in spec.knobs if knob.choices or knob.kind == "bool"
    }
    numbers = {knob.name: NUMBERS[knob.name] for knob in spec.knobs if knob.name in NUMBERS}
    found = []
    for chosen in product(*offered.values()):
        picked = dict(zip(offered, chosen, strict=True))
        for more in ({}, numbers, numbers | stacks(spec, shape)):
            values = {**picked, **more}
            if not any(problem.level == "error" for problem in spec.problems(shape, values)):
                found.append(spec.complete(shape, values))
    return found


def stacks(spec: MethodSpec, shape: ModelShape) -> dict[str, Any]:
    names = [knob.name for knob in spec.knobs if knob.name == "target_parameters"]
    return {name: spec.options(spec.knob(name), shape) for name in names}


SHAPES = (*tiny.MODELS, *mixtures.CONFIGS)


def shape_of(name: str) -> ModelShape:
    return tiny.shape_of(name) if name in tiny.MODELS else mixtures.entry_of(name).shape


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("slug", list(all_methods()))
def test_every_expression_is_its_terms_number(slug: str) -> None:
    spec, tried = get_method(slug), 0
    for name in SHAPES:
        for values in settings_of(spec, shape_of(name)):
            formula = spec.formula(shape_of(name), values)
            for term in formula.terms:
                assert computed(term.expression) == term.each, (name, values, term)
            tried += 1
    assert tried >= len(tiny.MODELS) - len(spec.refuses) * 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("slug", ["prefix", "prompt", "ptuning"])
def test_the_symbols_with_their_numbers_are_the_sum(slug: str) -> None:
    """n virtual tokens, d and d_kv wide, L layers, an encoder h wide with an LSTM of ell layers."""
    spec = get_method(slug)
    for name in tiny.MODELS:
        shape = tiny.shape_of(name)
        for values in settings_of(spec, shape):
            letters = {
                "n": values["num_virtual_tokens"],
                "d": shape.hidden,
                "d_kv": shape.hidden if shape.kind == "seq2seq" else shape.kv_width,
                "L": shape.num_layers,
                "h": values.get("encoder_hidden_size", 0),
                "ell": values.get("encoder_num_layers", 0),
            }
            formula = spec.formula(shape, values)
            assert computed(formula.symbolic, letters) == formula.trainable, (name, values)
