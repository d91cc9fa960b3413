"""Every figure of a follow-up computed again, from the models' published configs alone, on every model it is about."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest

from peft_lab.interview.bank import all_questions, get_question
from peft_lab.interview.computed import Given
from peft_lab.interview.question import FollowUp, Question
from peft_lab.models.catalogue import get_model
from tests.interview.dims import Dims, dims

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


@pytest.mark.parametrize("key", AGAIN, ids=str)
def test_other_code_comes_to_the_same(key: tuple[str, int]) -> None:
    question, follow_up = CALCULATED[key]
    for model in question.models() or (None,):
        sizes = dims(model) if model else NOTHING
        assert follow_up.calculate is not None
        found = follow_up.calculate(question.case(model)).value
        assert found == pytest.approx(AGAIN[key](sizes, question.case(model).given), rel=2e-3), model


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
