"""What a page prints and draws of a method: formulas that are true by computation, parts where the settings say.

Every expression, read as arithmetic, is its term's number, over every combination of a method's switches and choices,
on every tiny model and mixture. That the numbers are those of the model is the contract's (test_contract.py).
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

pytestmark = pytest.mark.filterwarnings("ignore")

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


LAYER = "model.layers.{}."
Q, K, V, OUT = (f"{LAYER}self_attn.{name}_proj" for name in "qkvo")
GATE, UP, DOWN = (f"{LAYER}mlp.{name}_proj" for name in ("gate", "up", "down"))
NARROW = {"num_virtual_tokens": 5, "encoder_hidden_size": 7}
PREFIX = {"tokens": 5, "width": 16, "layers": 2}
CELLS = ("cells", "tokens", "P", {"tokens": 5, "width": 32})
COLUMNS = [("columns", K, "P_k", PREFIX), ("columns", V, "P_v", PREFIX)]
ADAPTER = {"width": 8, "hidden": 32, "parallel": 0}
NF4, INT8 = {"bits": 4, "double": 1, "block": 64}, {"bits": 8, "double": 0}
# Of a Llama with 32 features, keys and values of 16, and 48 in the feed-forward part.
LLAMA: list[tuple[str, dict[str, Any], list[tuple[str, str, str, dict[str, int]]]]] = [
    ("lora", {"r": 3}, [("low_rank", at, "A B", {"rank": 3, "least": 3, "magnitude": 0}) for at in (Q, V)]),
    (
        "lora",
        {"r": 3, "use_dora": True, "rank_pattern": "v_proj=5, 0=2"},
        [
            ("low_rank", Q, "A B", {"rank": 3, "least": 2, "magnitude": 1}),
            ("low_rank", V, "A B", {"rank": 5, "least": 5, "magnitude": 1}),
        ],
    ),
    (
        "qlora",
        {"r": 3, "target_modules": ("q_proj",)},
        [
            *(("quantised", at, "NF4", NF4) for at in (Q, K, V, OUT, GATE, UP, DOWN)),
            ("low_rank", Q, "A B", {"rank": 3, "least": 3, "magnitude": 0}),
        ],
    ),
    (
        "qlora",
        {"r": 3, "target_modules": ("q_proj",), "load_in_8bit": True},
        [
            *(("quantised", at, "INT8", INT8) for at in (Q, K, V, OUT, GATE, UP, DOWN)),
            ("low_rank", Q, "A B", {"rank": 3, "least": 3, "magnitude": 0}),
        ],
    ),
    ("prefix", NARROW, COLUMNS),
    (
        "prefix",
        {**NARROW, "prefix_projection": True},
        [*COLUMNS, ("encoder", "attention", "MLP", {"width": 7, "layers": 2})],
    ),
    ("prompt", {"num_virtual_tokens": 5}, [CELLS]),
    ("ptuning", NARROW, [CELLS, ("encoder", "tokens", "MLP", {"width": 7, "layers": 3})]),
    (
        "ptuning",
        {**NARROW, "encoder_reparameterization_type": "LSTM", "encoder_num_layers": 4},
        [CELLS, ("encoder", "tokens", "LSTM", {"width": 7, "layers": 4})],
    ),
    ("ptuning", {**NARROW, "version": "v2"}, COLUMNS),
    ("adapters", {"bottleneck": 8}, [("bottleneck", at, "gelu", ADAPTER) for at in (OUT, DOWN)]),
    (
        "adapters",
        {"bottleneck": 8, "placement": "pfeiffer", "nonlinearity": "relu"},
        [("bottleneck", DOWN, "relu", ADAPTER)],
    ),
    (
        "adapters",
        {"bottleneck": 8, "placement": "parallel"},
        [("bottleneck", "ffn", "gelu", ADAPTER | {"parallel": 1})],
    ),
    (
        "ia3",
        {},
        [
            ("gate", K, "l_k", {"size": 16, "on_input": 0}),
            ("gate", V, "l_v", {"size": 16, "on_input": 0}),
            ("gate", DOWN, "l_ff", {"size": 48, "on_input": 1}),
        ],
    ),
    (
        "ia3",
        {"target_modules": ("q_proj", "gate_proj"), "feedforward_modules": ()},
        [
            ("gate", Q, "l_q", {"size": 32, "on_input": 0}),
            ("gate", GATE, "l", {"size": 48, "on_input": 0}),
        ],
    ),
]


@pytest.mark.parametrize(("slug", "values", "expected"), LLAMA, ids=lambda value: str(value)[:60])
def test_parts_of_a_llama(slug: str, values: dict[str, Any], expected: list[Any]) -> None:
    spec, shape = get_method(slug), tiny.shape_of("llama")
    parts = spec.parts(shape, spec.require(shape, values))
    assert [(part.kind, part.at, part.label, dict(part.size)) for part in parts] == expected


def test_biases_and_everything() -> None:
    """BitFit's two subsets and LoRA's biases on BERT; full fine-tuning has a part for every group."""
    shape = tiny.shape_of("bert")
    query, up = "encoder.layer.{}.attention.self.query", "encoder.layer.{}.intermediate.dense"

    def of(slug: str, **values: Any) -> list[tuple[str, str, dict[str, int]]]:
        spec = get_method(slug)
        parts = spec.parts(shape, spec.require(shape, values))
        return [(part.kind, part.at, dict(part.size)) for part in parts]

    assert of("bitfit", subset="query_mlp") == [("bias", query, {"size": 32}), ("bias", up, {"size": 64})]
    assert of("bitfit") == [
        ("bias", group.path, {"size": group.parameters["bias"][0]}) for group, _ in shape.biases
    ]
    adapted = of("lora", target_modules=("query",), r=2, bias="lora_only")
    assert adapted == [
        ("low_rank", query, {"rank": 2, "least": 2, "magnitude": 0}),
        ("bias", query, {"size": 32}),
    ]
    assert len(of("lora", target_modules=("query",), bias="all")) == 1 + len(shape.biases)
    assert of("full") == [("trainable", group.path, {"parameters": group.each}) for group in shape.groups]
