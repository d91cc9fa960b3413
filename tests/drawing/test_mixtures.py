"""Blocks with experts and blocks that differ: what is drawn is there, what is there and trained is drawn or named."""

from __future__ import annotations

import re
from typing import Any

import pytest

from peft_lab.drawing.block import Drawing, Layout, draw_block
from peft_lab.drawing.placement import Placement, dims
from peft_lab.methods import all_methods, get_method
from tests.drawing.geometry import read
from tests.methods.mixtures import CONFIGS, EXPERTS, entry_of
from tests.prose import says


def drawn(name: str, slug: str = "lora", layout: Layout = "wide", **values: Any) -> Drawing:
    spec, shape = get_method(slug), entry_of(name).shape
    full = spec.complete(shape, values)
    return draw_block(shape, spec.parts(shape, full), quantized=spec.quantization(full), layout=layout)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("slug", all_methods())
def test_nothing_collides_and_only_what_is_there_is_drawn(name: str, slug: str) -> None:
    shape = entry_of(name).shape
    known = {group.path for group in (*shape.groups, *shape.bare)} | {"tokens", "attention", "ffn"}
    known |= {mixture.path for mixture in shape.mixtures}
    for layout in ("wide", "narrow"):
        svg = drawn(name, slug, layout).svg
        assert read(svg).problems() == []
        assert set(re.findall(r'data-path="([^"]+)"', svg)) <= known


@pytest.mark.parametrize("name", EXPERTS)
def test_a_mixture_shows_its_router_and_one_expert_for_all(name: str) -> None:
    shape = entry_of(name).shape
    svg = drawn(name, target_modules=(), target_parameters=("experts.gate_up_proj", "experts.down_proj")).svg
    (mixture,) = shape.mixtures
    stacks = [group for group in shape.bare if group.stacked > 1]
    assert len(stacks) == 2
    for group in stacks:
        assert f'data-path="{group.path}"' in svg and dims(group) in svg
        assert says(svg, dims(group), "frozen", "LoRA", 8)
    assert f'data-path="{mixture.router}' in svg
    assert f"router: {mixture.per_token} of 4" in svg and "one of 4 experts, ×4" in svg
    assert ("shared expert" in svg) == bool(mixture.shared)


def test_models_without_experts_show_none() -> None:
    for name in ("falcon", "falcon-new", "falcon-sequential", "mamba2"):
        picture = drawn(name, "full")
        assert "expert" not in picture.svg + picture.description and "router" not in picture.svg


def test_blocks_that_differ_are_not_called_identical() -> None:
    dense = drawn("deepseek_v3")
    assert says(dense.svg, "2 such blocks", 1)
    assert says(dense.description, "1 other block", "feed-forward")
    assert "2 blocks" in dense.description
    assert "2 identical blocks" in drawn("mixtral").svg


def test_the_form_with_most_parts_is_drawn() -> None:
    """LoRA's q and v stand in one of four layers of Qwen3-Next, adapters in all of them."""
    assert "keeps a state" not in drawn("qwen3_next").svg
    assert says(drawn("qwen3_next").svg, "only such block", 3)
    linear = drawn("qwen3_next", "adapters", placement="pfeiffer")
    assert "keeps a state" in linear.svg and "in_proj_qkvz" in linear.svg and "q_proj" not in linear.svg


def test_an_adapter_stands_after_the_mixture() -> None:
    picture = drawn("mixtral", "adapters")
    assert picture.svg.count("m=64") == 2
    assert says(picture.description, 64, "o_proj", "mixture of experts")
    assert "not drawn" not in picture.svg


def test_full_fine_tuning_colours_experts_and_router() -> None:
    svg = drawn("mixtral", "full").svg
    assert 'class="box frozen' not in svg and "not drawn" not in svg


def test_bias_dots_stand_on_experts_that_have_biases() -> None:
    picture = drawn("gpt_oss", "bitfit")
    assert "bias of 384 trainable" in picture.svg  # of 4 experts, 96 each
    assert "not drawn" not in picture.svg


def test_parts_in_a_shared_expert_are_counted_and_named() -> None:
    picture = drawn("llama4_text", "lora", target_modules=("gate_proj", "q_proj"))
    assert "feed_forward.gate_proj" not in picture.description
    assert "shared_expert.gate_proj" in picture.description


def test_latent_attention_names_what_stands_inside() -> None:
    svg = drawn("deepseek_v3").svg
    assert "q_a_proj" in svg and "+ q_b_proj" in svg and "+ kv_b_proj" in svg


def test_falcons_halves_are_side_by_side_only_where_they_are() -> None:
    remark = "run side by side"
    assert remark in drawn("falcon").svg and remark in drawn("falcon-new").svg
    assert remark not in drawn("falcon-sequential").svg


def test_a_router_is_named_after_its_module() -> None:
    from peft_lab.drawing.placement import read_anatomy as anatomy_of

    shape = entry_of("gpt_oss").shape
    anatomy = anatomy_of(shape)
    placement = Placement(shape, anatomy, (), None)
    router = anatomy.halves[-1].router
    assert router is not None and placement.name(router) == "router"
