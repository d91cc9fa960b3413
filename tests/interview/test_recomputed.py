"""All computed answers agree with an independent recomputation, and a wrong formula does not go unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from peft_lab.interview import computed
from peft_lab.interview.bank import all_questions, compute_answer
from peft_lab.interview.computed import Answer, Given
from peft_lab.interview.formulas import Formulas
from peft_lab.interview.question import Question
from peft_lab.methods import get_method
from peft_lab.methods.base import Formula
from tests.interview.dims import Dims, dims
from tests.interview.expected import EXPECTED
from tests.interview.independent import NF4, nf4_by_counting

COMPUTED = [
    question for question in all_questions().values() if question.computed and question.needs == "shape"
]


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


def test_nothing_is_left_out() -> None:
    assert {question.id for question in COMPUTED} == set(EXPECTED)
    assert len(COMPUTED) >= 60


@pytest.mark.parametrize("question", COMPUTED, ids=lambda question: question.id)
def test_computed_answer(question: Question) -> None:
    for model, given in variants(question):
        answer = question.compute(model, **given)
        assert answer is not None
        assert agrees(answer.value, expected(question, model, given)), (model, given, answer.value)


@pytest.mark.parametrize("question", COMPUTED, ids=lambda question: question.id)
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


def without_b(formula: Formula) -> Formula:
    """LoRA's count as if there were no B."""
    terms = tuple(replace(term, each=term.each // 2) for term in formula.terms)
    return replace(formula, terms=terms)


@pytest.mark.parametrize(
    ("slug", "must_notice"),
    [
        ("lora", {"lora-query-value", "lora-all-linear", "memory-adapter-moments", "serve-adapter-file"}),
        ("prompt", {"prompt-count", "prompt-share"}),
        ("ptuning", {"ptuning-mlp", "ptuning-lstm"}),
        ("prefix", {"prefix-projected", "prefix-projected-share"}),
        (
            "adapters",
            {"adapters-houlsby", "adapters-pfeiffer-share"},
        ),
        ("ia3", {"ia3-vectors", "ia3-share"}),
        ("bitfit", {"bitfit-share", "bitfit-count"}),
    ],
)
def test_a_wrong_method_formula_fails(
    slug: str, must_notice: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = type(get_method(slug))
    right = spec.formula
    monkeypatch.setattr(spec, "formula", lambda self, shape, values: without_b(right(self, shape, values)))
    noticed = set(disagreements([question for question in COMPUTED if question.id in must_notice]))
    assert noticed == must_notice


def test_a_wrong_number_format_fails() -> None:
    question = next(question for question in COMPUTED if question.id == "quant-double-level")
    assert isinstance(question.calculate, Formulas)
    half = replace(question.calculate, where={**question.calculate.where, "CONSTANT_BITS": "16"})
    assert disagreements([question]) == []
    assert disagreements([replace(question, calculate=half)]) == ["quant-double-level"]


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


def test_a_table_that_is_only_looked_up_does_no_arithmetic() -> None:
    """Llama 3.1 8B has an input embedding of its own; Llama 3.2 3B multiplies with its only table in the output."""
    question = next(each for each in COMPUTED if each.id == "plan-utilisation")
    whole = {"llama-3.1-8b": 8_030_261_248 - 128_256 * 4_096, "llama-3.2-3b": 3_212_749_824}
    for model, weights in whole.items():
        answer = question.compute(model)
        assert answer is not None
        assert answer.value == pytest.approx(100 * 4 * weights * 4_000 / 312e12)
        assert f"{weights:,} weights" in question.explain(answer, model)


def test_shares_of_a_loss_are_told_apart_from_shares_of_its_tokens() -> None:
    question = next(each for each in COMPUTED if each.id == "data-mixed-loss")
    said = question.explain(question.compute())
    assert "9.09% of the tokens and 3.85% of the summed loss" in said  # 30 / 330, and 24 / 624


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("merge-dare-spread", "is kept with probability 0.2 and otherwise set to zero"),
        ("plan-measured", "2 epochs of 24,000,000 tokens each"),
        ("data-accumulated", "mean losses per token are 2, 1"),
        ("server-slots", "each with room for one adapter"),
        ("server-slot-padding", "slots of one size"),
    ],
)
def test_a_question_says_what_its_numbers_are(name: str, says: str) -> None:
    assert says in all_questions()[name].ask()


def test_a_rank_is_no_unit() -> None:
    for question in COMPUTED:
        answer = question.compute()
        assert answer is not None and answer.unit != "rank", question.id


def test_a_follow_up_says_once_as_many_without_a_factor() -> None:
    vectors = all_questions()["ia3-vectors"]
    for model in vectors.models():
        assert " 1 times" not in vectors.explain_follow_up(vectors.follow_ups[0], model)[1]
    qlora = all_questions()["qlora-ingredients"]
    assert "another 0.37 bits" in qlora.explain_follow_up(qlora.follow_ups[0])[1]
