"""BitFit: which biases are trained, on which models there are none, and that nothing is added."""

from __future__ import annotations

import pytest

from peft_lab.core.errors import Unsupported
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue, get_model
from tests.methods import tiny

SPEC = get_method("bitfit")


@pytest.mark.parametrize(
    ("model", "percent"), [("gpt2", 0.082), ("bert-base", 0.094), ("roberta-large", 0.077)]
)
def test_shares(model: str, percent: float) -> None:
    shape = get_model(model).shape
    formula = SPEC.formula(shape, SPEC.require(shape, {}))
    assert round(100 * formula.trainable / shape.total, 3) == percent
    assert formula.added == 0 and formula.stored == formula.trainable


def test_models_without_biases_are_refused_by_name() -> None:
    without = {name for name, entry in catalogue().items() if not entry.shape.biases}
    assert without - {"llama-3.2-1b", "llama-3.1-8b", "llama-3.1-70b"} == {
        "llama-3.2-3b", "llama-2-7b", "smollm2-135m", "mistral-7b", "gemma-2-2b", "t5-base", "flan-t5-small",
    }  # fmt: skip
    for name in without:
        with pytest.raises(Unsupported, match="has no biases") as caught:
            SPEC.require(get_model(name).shape, {})
        assert get_model(name).title in str(caught.value)


def test_qwen_has_biases_in_query_key_and_value() -> None:
    shape = get_model("qwen2.5-0.5b").shape
    formula = SPEC.formula(shape, SPEC.require(shape, {}))
    assert formula.trainable == 24 * (896 + 2 * 128)
    (warning,) = SPEC.problems(shape, {"subset": "query_mlp"})
    assert warning.level == "warning" and "feed-forward" in warning.message
    subset = SPEC.formula(shape, SPEC.require(shape, {"subset": "query_mlp"}))
    assert subset.trainable == 24 * 896


def test_the_papers_subset_is_the_query_and_the_widening_map() -> None:
    model = tiny.apply(SPEC, "bert", {"subset": "query_mlp"})
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        f"encoder.layer.{layer}.{part}.bias"
        for layer in (0, 1)
        for part in ("attention.self.query", "intermediate.dense")
    }
    shape = get_model("bert-base").shape
    assert SPEC.formula(shape, SPEC.require(shape, {"subset": "query_mlp"})).trainable == 12 * (768 + 3072)


def test_a_fused_query_has_no_bias_of_its_own() -> None:
    (warning,) = SPEC.problems(get_model("gpt2").shape, {"subset": "query_mlp"})
    assert warning.level == "warning" and "query" in warning.message


@pytest.mark.parametrize("subset", ["all", "query_mlp"])
def test_trains_biases_and_the_head_of_a_classifier(subset: str) -> None:
    model = tiny.apply(SPEC, "roberta", {"subset": subset}, head=True)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    head = {name for name in trained if name.startswith("classifier.")}
    assert {"classifier.dense.weight", "classifier.out_proj.weight"} <= head
    assert all(name.endswith(".bias") and name.startswith("roberta.") for name in trained - head)
    assert set(SPEC.state(model)) == trained


def test_adds_no_modules() -> None:
    names = [name for name, _ in tiny.build("bert").named_modules()]
    assert [name for name, _ in tiny.apply(SPEC, "bert", {}).named_modules()] == names
