"""LoRA's own settings: ranks by module as PEFT reads them, LoRA+ as PEFT groups it, PiSSA's limit, the scale."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.counting.count import count
from peft_lab.methods.shared import targets as ranks
from peft_lab.models.catalogue import get_model
from tests.methods import tiny
from tests.prose import facts, says

SPEC = get_method("lora")
pytestmark = pytest.mark.filterwarnings("ignore")


def ranks_of(model: Any) -> dict[str, int]:
    """The rank that PEFT gave to every adapted module."""
    from peft_lab.models.meta import clean_path

    return {
        clean_path(path): int(module.r["default"])
        for path, module in model.named_modules()
        if "default" in getattr(module, "lora_A", {})
    }


@pytest.mark.parametrize(
    ("name", "targets", "text", "expected"),
    [
        ("llama", ("q_proj", "v_proj"), "v_proj=3", {"0.self_attn.q_proj": 2, "1.self_attn.v_proj": 3}),
        ("llama", ("q_proj", "v_proj"), "1=5", {"0.self_attn.v_proj": 2, "1.self_attn.q_proj": 5}),
        ("llama", ("q_proj",), "0=4, q_proj=7", {"0.self_attn.q_proj": 4, "1.self_attn.q_proj": 7}),
        ("llama", ("q_proj", "v_proj"), "layers.1.self_attn.q_proj=6, 0-9=3", {"1.self_attn.q_proj": 6}),
        ("bert", ("output.dense",), "attention.output.dense=4", {"0.attention.output.dense": 4, "r.1.output.dense": 2}),
        ("gpt2", ("c_attn", "c_proj"), "0=1", {"0.attn.c_attn": 1, "1.mlp.c_proj": 2}),
        ("t5", ("q", "v"), "0=3", {"decoder.block.0.layer.0.SelfAttention.q": 3, "1.layer.0.SelfAttention.q": 2}),
    ],
)  # fmt: skip
def test_ranks_by_module_are_those_that_peft_gives(
    name: str, targets: Any, text: str, expected: dict[str, int]
) -> None:
    values = {"r": 2, "target_modules": targets, "rank_pattern": text}
    model = tiny.apply(SPEC, name, values)
    found = ranks_of(model)
    for ending, rank in expected.items():
        assert {value for path, value in found.items() if path.endswith(ending)} == {rank}, ending
    shape = tiny.shape_of(name)
    ours = {
        path: next((rule.rank for rule in ranks.parse_ranks(text) if rule.fits(group, path, layer)), 2)
        for group in shape.match(targets).groups
        for path, layer in ranks.rank_places(group)
    }
    assert found == ours


@pytest.mark.parametrize("name", ["smollm2-135m", "gpt2", "t5-base"])
def test_counts_with_ranks_by_layer(name: str) -> None:
    last = get_model(name).shape.num_layers - 1
    report = count(name, "lora", {"rank_pattern": f"0=2, {last}=16", "use_dora": True})
    assert report.trainable == report.formula == report.stored_parameters
    assert report.trainable != count(name, "lora", {"use_dora": True}).trainable


def test_a_rank_changes_its_scale_with_it() -> None:
    model = tiny.apply(SPEC, "llama", {"r": 4, "lora_alpha": 8, "rank_pattern": "1=2"})
    scales = {
        path.split("layers.")[1][0]: module.scaling["default"]
        for path, module in model.named_modules()
        if "default" in getattr(module, "lora_A", {})
    }
    assert scales == {"0": 2.0, "1": 4.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v_proj", "written like"),
        ("v_proj:4", "written like"),
        ("v_proj=0", "from 1 to 1024"),
        ("v_proj=many", "from 1 to 1024"),
        ("q_prj=4", "no adapted matrix"),
        ("k_proj=4", "no adapted matrix"),
        ("7=4", "layers 0 to 1"),
        ("3-1=4", "Write 1-3"),
        ("q_proj=4, v_proj=2, 0-1=8", "has no effect"),
        ("v_proj)=4", "written like"),
    ],
)
def test_a_rule_that_says_nothing_is_refused(text: str, message: str) -> None:
    shape = tiny.shape_of("llama")
    with pytest.raises(BadInput, match=message) as caught:
        SPEC.require(shape, {"r": 2, "target_modules": ("q_proj", "v_proj"), "rank_pattern": text})
    assert caught.value.field == "rank_pattern"
    assert SPEC.parts(shape, SPEC.complete(shape, {"rank_pattern": text})), "a page draws it all the same"


def test_a_long_rule_is_cut_in_the_message() -> None:
    with pytest.raises(BadInput) as caught:
        ranks.parse_ranks(f"{'n' * 50}={'9' * 30}")
    assert says(str(caught.value), "1 to 1024", "9" * 20, "n" * 40)
    with pytest.raises(BadInput, match=f"'{'n' * 40}' is not"):
        ranks.parse_ranks("n" * 50)


@given(st.text(max_size=30))
def test_any_text_is_rules_or_a_reason(text: str) -> None:
    try:
        rules = ranks.parse_ranks(text)
    except BadInput as error:
        assert str(error).endswith(".")
    else:
        assert all(1 <= rule.rank <= 1024 for rule in rules)


def test_lora_plus_raises_the_rate_of_b_as_peft_does() -> None:
    import torch
    from peft.optimizers import create_loraplus_optimizer

    values = SPEC.require(tiny.shape_of("llama"), {"loraplus_lr_ratio": 16.0})
    model = tiny.apply(SPEC, "llama", values)
    theirs = create_loraplus_optimizer(model, torch.optim.AdamW, lr=0.5, loraplus_lr_ratio=16.0)
    rates = {id(p): group["lr"] for group in theirs.param_groups for p in group["params"]}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {0.5 * SPEC.rate_factor(name, values) for name in trained} == {0.5, 8.0}
    assert all(rates[id(p)] == 0.5 * SPEC.rate_factor(name, values) for name, p in trained.items())


def test_pissa_has_no_more_directions_than_the_matrix() -> None:
    values = {"r": 17, "target_modules": ("v_proj",), "init_lora_weights": "pissa"}
    with pytest.raises(BadInput, match=facts("v_proj", 16)):
        SPEC.require(tiny.shape_of("llama"), values)


def test_as_many_parameters_as_the_matrix_is_told() -> None:
    """32 x 32 hold as many as A and B at rank 16."""
    values = {"target_modules": ("q_proj",)}
    assert not SPEC.problems(tiny.shape_of("llama"), {**values, "r": 15})
    (told,) = SPEC.problems(tiny.shape_of("llama"), {**values, "r": 16})
    assert says(told.message, 16, "q_proj", "1,024")


def test_scales() -> None:
    shape = get_model("llama-3.2-3b").shape
    values = {"r": 64, "lora_alpha": 16}
    assert SPEC.scale(SPEC.require(shape, values)) == 0.25  # type: ignore[attr-defined]
    assert SPEC.scale(SPEC.require(shape, {**values, "use_rslora": True})) == 2.0  # type: ignore[attr-defined]
