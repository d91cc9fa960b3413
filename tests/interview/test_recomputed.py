"""All computed figures agree with an independent recomputation, and a wrong formula does not go unnoticed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from peft_lab.interview import computed
from peft_lab.interview.bank import all_questions, compute_answer
from peft_lab.interview.computed import Answer, Given
from peft_lab.interview.question import Question
from tests.interview.each import over
from tests.interview.independent import EXPECTED, NF4, Dims, dims, nf4_by_counting

#: The others take one product of what is given, or count by a method's formula, which is held to PEFT's own counts.
COMPUTED = [all_questions()[name] for name in EXPECTED]


def agrees(value: float, expected: float) -> bool:
    """Equal but for rounding in floating point; NF4's printed values have seven digits."""
    return abs(value - expected) <= 1e-6 * abs(expected)


def sizes(model: str | None) -> Dims:
    return dims(model or "llama-3.2-3b")  # without a model no computation looks at it


def variants(question: Question) -> list[tuple[str | None, dict[str, Given]]]:
    """Every model it can be asked about, and its own model with all whole numbers doubled."""
    doubled: dict[str, Given] = {
        name: 2 * given if isinstance(given, int) else given for name, given in question.given.items()
    }
    return [(model, {}) for model in question.models() or (None,)] + [(question.model, doubled)]


def expected(question: Question, model: str | None, given: dict[str, Given]) -> float:
    return EXPECTED[question.id](sizes(model), {**question.given, **given})


def disagreements(questions: list[Question]) -> list[str]:
    """Ids of questions whose library answer differs from the independent one, for any model or givens."""
    found = []
    for question in questions:
        for model, given in variants(question):
            answer = question.compute(model, **given)
            assert answer is not None
            if not agrees(answer.value, expected(question, model, given)):
                found.append(question.id)
                break
    return found


@over(COMPUTED)
def test_computed_answer(question: Question) -> None:
    for model, given in variants(question):
        answer = question.compute(model, **given)
        assert answer is not None
        assert agrees(answer.value, expected(question, model, given)), (model, given, answer.value)


@over(COMPUTED)
def test_a_known_slip_is_noticed(question: Question) -> None:
    """Each near miss is what a wrong formula gives; put in the formula's place it has to make the comparison fail."""
    answer = question.compute()
    assert answer is not None
    wrong_values = [miss.value for miss in answer.near_misses] or [answer.value + 1]
    for value in wrong_values:
        broken = replace(question, calculate=constant(replace(answer, value=value)))
        assert disagreements([broken]) == [question.id], value


def constant(answer: Answer) -> Callable[[Any], Answer]:
    return lambda case: answer


def test_code_book_is_the_papers() -> None:
    for values in (computed.nf4_values(), nf4_by_counting()):
        assert values == pytest.approx(NF4, abs=2e-7)


def test_known_figures() -> None:
    """Figures that were counted on the real library, so that both computations cannot be wrong together."""
    for name, value in {
        "lora-query-value": 4_587_520,
        "lora-all-linear": 24_313_856,
        "lora-dora-extra": 114_688,
        "ia3-vectors": 286_720,
        "prefix-stored": 1_146_880,
        "prompt-count": 61_440,
        "adapters-houlsby": 22_195_712,
        "ptuning-default-width": 28_382_208,
        "bitfit-count": 102_912,
    }.items():
        assert compute_answer(name).value == value
    assert compute_answer("memory-mixed-adam").value / 1e9 == pytest.approx(107.8, abs=0.05)
    assert compute_answer("adapters-reduction", "roberta-base").named["trained"] == "894,528"


def test_error_of_nf4_with_torch() -> None:
    """bitsandbytes on seeded numbers, against rounding to the printed values with other numbers."""
    import numpy as np

    answer = compute_answer("quant-nf4-error")
    weights = np.random.default_rng(1).standard_normal((4096, 64))
    largest = np.abs(weights).max(axis=1, keepdims=True)
    codes = np.array(NF4)
    restored = codes[np.abs((weights / largest)[..., None] - codes).argmin(axis=-1)] * largest
    error = 100 * np.linalg.norm(restored - weights) / np.linalg.norm(weights)
    assert answer.value == pytest.approx(error, rel=0.01)
    assert compute_answer("quant-nf4-error") == answer, "seeded"


def test_key_biases_are_inert() -> None:
    """The claim behind bitfit-inert-keys, on a real BERT with random weights."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=50
    )
    model = BertModel(config, add_pooling_layer=False).double().eval()
    model(torch.arange(12).reshape(2, 6)).last_hidden_state.pow(3).sum().backward()
    gradients = {
        name: parameter.grad.abs().max().item()
        for name, parameter in model.named_parameters()
        if name.endswith(("key.bias", "query.bias")) and parameter.grad is not None
    }
    assert len(gradients) == 4
    keys = [size for name, size in gradients.items() if "key" in name]
    queries = [size for name, size in gradients.items() if "query" in name]
    assert max(keys) < 1e-10 < min(queries)


Again = Callable[[Dims, Mapping[str, Given]], float]


def n(given: Mapping[str, Given], name: str) -> int:
    value = given[name]
    assert isinstance(value, int)
    return value


def projection(d: Dims, tokens: int, width: int) -> int:
    out = 2 * d.layers * d.kv
    return tokens * d.kv + d.kv * width + width + (width + 1) * out


def padding(lengths: tuple[int, ...]) -> float:
    short, long = sorted(lengths)[: len(lengths) // 2], sorted(lengths)[len(lengths) // 2 :]
    places = len(short) * max(short) + len(long) * max(long)
    return 100 - 100 * sum(lengths) / places


#: By question and the number of its follow-up. ``value`` of those that state several figures is none of them.
AGAIN: dict[tuple[str, int], Again] = {
    ("lora-all-linear", 1): lambda d, g: d.lora_all(n(g, "r")) // d.lora(1, "q", "v"),
    ("lora-break-even", 1): lambda d, g: min(d.d, d.kv) * (1 / d.kv + 1 / d.d),
    ("prefix-projected-share", 2): lambda d, g: 8 * projection(d, n(g, "n"), d.kv),
    ("prefix-projected", 1): lambda d, g: projection(d, n(g, "n"), 64),
    ("ia3-vectors", 1): lambda d, g: (d.d + d.qw + d.d + d.kv) / (2 * d.kv + d.f),
    ("bitfit-count", 1): lambda d, g: 100 * d.layers * (d.d + d.f) / d.biases,
    ("qlora-base-bytes", 1): lambda d, g: 2 * (d.total - d.weights),
    ("qlora-adapter-against-base", 1): lambda d, g: 6 * d.lora_all(n(g, "r")),
    ("memory-gqa-factor", 1): lambda d, g: (
        100 - 100 * d.total / (d.total + d.layers * 2 * d.d * (d.qw - d.kv))
    ),
    ("memory-adapter-share", 1): lambda d, g: round(0.2 * d.total / (16 * d.lora(1, "q", "v"))),
    ("memory-saved-by-lora", 1): lambda d, g: 14 * d.total - 16 * d.lora(n(g, "r"), "q", "v"),
    ("train-padding", 1): lambda d, g: padding((12, 40, 25, 64, 19, 33, 28, 51)),
}
CALCULATED = {
    (question.id, number): (question, follow_up)
    for question in all_questions().values()
    for number, follow_up in enumerate(question.follow_ups, 1)
    if follow_up.calculate is not None
}
NOTHING = dims("gpt2")  # for what no model matters to


@over(AGAIN, str)
def test_other_code_comes_to_the_same(name: str, number: int) -> None:
    question, follow_up = CALCULATED[name, number]
    for model in question.models() or (None,):
        sizes = dims(model) if model else NOTHING
        assert follow_up.calculate is not None
        found = follow_up.calculate(question.case(model)).value
        assert found == pytest.approx(AGAIN[name, number](sizes, question.case(model).given), rel=2e-3), model
