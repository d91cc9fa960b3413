"""All computed figures agree with an independent recomputation, and a wrong formula does not go unnoticed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from peft_lab.advise.recipes.rules import all_rules
from peft_lab.advise.tree import ADVICE
from peft_lab.core import references as src
from peft_lab.core.references import RANK_ONE
from peft_lab.interview import claims, computed
from peft_lab.interview.bank import all_questions, compute_answer, get_question
from peft_lab.interview.computed import Answer, Given
from peft_lab.interview.formulas import Formulas
from peft_lab.interview.question import FollowUp, Question
from peft_lab.interview.since import all_discoveries
from peft_lab.methods import get_method
from peft_lab.methods.base import Formula
from peft_lab.models.catalogue import get_model
from tests.advise.stated import stated
from tests.interview.dims import Dims, dims
from tests.interview.each import over
from tests.interview.independent import NF4, nf4_by_counting
from tests.interview.independent_newer import EXPECTED

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


Again = Callable[[Dims, Mapping[str, Given]], float]


def n(given: Mapping[str, Given], name: str) -> int:
    value = given[name]
    assert isinstance(value, int)
    return value


def kv_bytes(d: Dims) -> int:
    """Key/value cache of one token in bfloat16."""
    return 2 * 2 * d.layers * d.kv


def mlp(d: Dims, tokens: int, width: int) -> int:
    """P-Tuning's three layers and the table."""
    return tokens * d.d + (d.d * width + width) + (width * width + width) + (width * d.d + d.d)


def projection(d: Dims, tokens: int, width: int) -> int:
    out = 2 * d.layers * d.kv
    return tokens * d.kv + d.kv * width + width + (width + 1) * out


def padding(lengths: tuple[int, ...]) -> float:
    short, long = sorted(lengths)[: len(lengths) // 2], sorted(lengths)[len(lengths) // 2 :]
    places = len(short) * max(short) + len(long) * max(long)
    return 100 - 100 * sum(lengths) / places


#: By question and the number of its follow-up. ``value`` of those that state several figures is none of them.
AGAIN: dict[tuple[str, int], Again] = {
    ("lora-one-map", 1): lambda d, g: n(g, "r") * (d.d + d.kv),
    ("lora-all-linear", 1): lambda d, g: d.lora_all(n(g, "r")) // d.lora(1, "q", "v"),
    ("lora-break-even", 1): lambda d, g: min(d.d, d.kv) * (1 / d.kv + 1 / d.d),
    ("lora-compression", 1): lambda d, g: 4 * d.d * d.qw / (n(g, "r") * 2 * (d.d + d.qw)),
    ("prefix-stored", 1): lambda d, g: n(g, "n") * kv_bytes(d),
    ("prefix-cache", 1): lambda d, g: 32 * kv_bytes(d),
    ("prefix-projected-share", 2): lambda d, g: 8 * projection(d, n(g, "n"), d.kv),
    ("prefix-attention", 1): lambda d, g: 100 - 100 / (n(g, "n") + 1),
    ("prefix-projected", 1): lambda d, g: projection(d, n(g, "n"), 64),
    ("prefix-batch-cache", 1): lambda d, g: n(g, "n") * kv_bytes(d),
    ("prompt-count", 1): lambda d, g: n(g, "n") * kv_bytes(d) / 2,
    ("prompt-room", 1): lambda d, g: 100 * n(g, "n") / 131_072,
    ("prompt-attention-growth", 1): lambda d, g: 1 + n(g, "n") / n(g, "length"),
    ("prompt-logits-length", 1): lambda d, g: n(g, "length"),
    ("ptuning-mlp", 1): lambda d, g: mlp(d, n(g, "n"), d.d),
    ("ptuning-default-width", 1): lambda d, g: 8 * mlp(d, n(g, "n"), d.d),
    ("adapters-one", 1): lambda d, g: 2 * d.layers,
    ("adapters-pfeiffer-share", 1): lambda d, g: (
        4 * (2 * n(g, "m") * d.d + d.d + n(g, "m")) / (2 * n(g, "m") * 2 * d.d + 2 * d.d + n(g, "m"))
    ),
    ("ia3-vectors", 1): lambda d, g: (d.d + d.qw + d.d + d.kv) / (2 * d.kv + d.f),
    ("ia3-merge-ff", 1): lambda d, g: d.d,
    ("bitfit-count", 1): lambda d, g: 100 * d.layers * (d.d + d.f) / d.biases,
    ("bitfit-norm-share", 1): lambda d, g: d.norm_biases,
    ("qlora-base-bytes", 1): lambda d, g: 2 * (d.total - d.weights),
    ("qlora-adapter-against-base", 1): lambda d, g: 6 * d.lora_all(n(g, "r")),
    ("qlora-paged", 1): lambda d, g: 8 * 40e6,
    ("memory-gqa-factor", 1): lambda d, g: (
        100 - 100 * d.total / (d.total + d.layers * 2 * d.d * (d.qw - d.kv))
    ),
    ("memory-mixed-adam", 1): lambda d, g: 8 * d.total,
    ("memory-mixed-adam", 2): lambda d, g: 2 * d.total,
    ("memory-adapter-moments", 1): lambda d, g: 6 * d.lora(n(g, "r"), "q", "v"),
    ("memory-adapter-share", 1): lambda d, g: round(0.2 * d.total / (16 * d.lora(1, "q", "v"))),
    ("memory-saved-by-lora", 1): lambda d, g: 14 * d.total - 16 * d.lora(n(g, "r"), "q", "v"),
    ("quant-single-level", 1): lambda d, g: 4 + 32 / 256,
    ("quant-double-level", 2): lambda d, g: 32 / (64 * 256),
    ("serve-many-tasks", 1): lambda d, g: 2 * d.total * n(g, "tasks"),
    ("serve-requests-lost", 1): lambda d, g: n(g, "n") * kv_bytes(d),
    ("choose-few-shot", 1): lambda d, g: round(196 * math.sqrt(0.16 / 60)),
    ("train-steps", 1): lambda d, g: 3 * math.ceil(math.ceil(10043 / 32) / 4),
    ("train-effective-batch", 1): lambda d, g: 2 * n(g, "accumulate"),
    ("train-padding", 1): lambda d, g: padding((12, 40, 25, 64, 19, 33, 28, 51)),
}
#: Those that name several figures, or models, and have no single value; what they name is held by the texts below.
NAMED: dict[tuple[str, int], tuple[str, ...]] = {
    ("qlora-ingredients", 1): ("11.5 of the 16 bits", "0.37 bits"),
    ("quant-width-bytes", 1): ("14.0 GB", "3.50 GB"),
    ("ia3-share", 1): ("Llama 3.2 3B", "Llama 3.1 70B"),
    ("bitfit-none", 1): ("BERT-base", "Qwen2.5 0.5B"),
    ("choose-smallest", 1): ("Prefix Tuning 1,146,880; LoRA 2,293,760; Adapters 22,195,712",),
}
CALCULATED = {
    (question.id, number): (question, follow_up)
    for question in all_questions().values()
    for number, follow_up in enumerate(question.follow_ups, 1)
    if follow_up.calculate is not None
}
NOTHING = dims("gpt2")  # for what no model matters to


def test_every_figure_is_computed_again() -> None:
    first = {key for key in CALCULATED if key in AGAIN or key in NAMED}
    assert first == set(AGAIN) | set(NAMED)
    assert len(first) >= 40


@over(AGAIN, str)
def test_other_code_comes_to_the_same(name: str, number: int) -> None:
    question, follow_up = CALCULATED[name, number]
    for model in question.models() or (None,):
        sizes = dims(model) if model else NOTHING
        assert follow_up.calculate is not None
        found = follow_up.calculate(question.case(model)).value
        assert found == pytest.approx(AGAIN[name, number](sizes, question.case(model).given), rel=2e-3), model


@pytest.mark.parametrize("key", NAMED, ids=str)
def test_named_figures(key: tuple[str, int]) -> None:
    question, follow_up = CALCULATED[key]
    _, answer = question.explain_follow_up(follow_up)
    for text in NAMED[key]:
        assert text in answer


def test_the_sentence_on_ia3_holds_where_it_is_said_to() -> None:
    question: Question = get_question("ia3-share")
    follow_up: FollowUp = question.follow_ups[0]
    _, answer = question.explain_follow_up(follow_up)
    for name in ("llama-3.2-3b", "llama-3.1-8b", "bert-base", "roberta-large"):
        d = dims(name)
        vectors = d.layers * (2 * d.kv + d.f)
        assert (get_model(name).title in answer) is (100 * vectors / (d.total + vectors) < 0.01), name


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
