"""Nothing overlaps, leaves the picture or runs through a label; what is drawn of experts is there."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_lab.drawing.block import Drawing, Layout, draw_block
from peft_lab.drawing.placement import dims
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import Part
from peft_lab.methods.shared import bottleneck as places
from peft_lab.models.catalogue import catalogue, get_model
from tests.drawing.geometry import read
from tests.methods.mixtures import CONFIGS, EXPERTS, entry_of
from tests.prose import says

LAYOUTS: tuple[Layout, ...] = ("wide", "narrow")
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "lora": (
        {},
        {"r": 1, "target_modules": ("all-linear",)},
        {"r": 256, "target_modules": ("all-linear",), "use_dora": True},
    ),
    "prefix": ({}, {"prefix_projection": True, "num_virtual_tokens": 100}, {"num_virtual_tokens": 1}),
    "prompt": ({}, {"num_virtual_tokens": 1}, {"num_virtual_tokens": 200}),
    "ptuning": ({}, {"encoder_reparameterization_type": "LSTM", "num_virtual_tokens": 3}),
    "adapters": (
        {"placement": "houlsby"},
        {"placement": "pfeiffer", "bottleneck": 4096},
        {"placement": "parallel"},
        {"placement": "seq_bn"},
        {"placement": "par_bn"},
    ),
}
CASES = [
    (slug, name, index)
    for slug, method in all_methods().items()
    for name, entry in catalogue().items()
    for index, settings in enumerate(VARIANTS.get(slug, ({},)))
    # The adapters library's placements are offered for the architectures on which they were compared.
    if slug != "adapters" or places.host_places(entry.shape, settings["placement"])
]


@pytest.mark.sampled(11)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("slug", "name", "index"), CASES)
def test_nothing_collides(slug: str, name: str, index: int, layout: Layout) -> None:
    method, shape = get_method(slug), get_model(name).shape
    values = method.complete(shape, VARIANTS.get(slug, ({},))[index])
    drawing = draw_block(
        shape, method.parts(shape, values), quantized=method.quantization(values), layout=layout
    )
    assert read(drawing.svg).problems() == []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", catalogue())
def test_text_is_large_enough(name: str, layout: Layout) -> None:
    method, shape = get_method("adapters"), get_model(name).shape
    drawing = draw_block(shape, method.parts(shape, method.complete(shape, {})), layout=layout)
    smallest = min(float(size) for size in re.findall(r'<text[^>]* font-size="([\d.]+)"', drawing.svg))
    assert smallest >= 11, "at the natural width, where one unit is one pixel"
    assert drawing.width <= (680 if layout == "wide" else 352)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_mixture_of_parts_is_drawn_without_collisions(data: st.DataObject) -> None:
    shape = get_model(data.draw(st.sampled_from(sorted(catalogue())))).shape
    matrices = [group for group in shape.matrices if group.role]
    chosen = data.draw(st.lists(st.sampled_from(matrices), unique_by=lambda group: group.path))
    parts: list[Part] = []
    for group in chosen:
        kind = data.draw(st.sampled_from(["low_rank", "gate", "bias", "trainable"]))
        if kind == "low_rank":
            size = {"rank": data.draw(st.integers(1, 1024)), "magnitude": data.draw(st.integers(0, 1))}
            parts.append(Part("low_rank", group.path, "A B", size))
        elif kind == "gate":
            size = {"size": group.out_features, "on_input": int(group.role == "down")}
            parts.append(Part("gate", group.path, "l_ff" if group.role == "down" else "l_k", size))
        elif kind == "bias":
            parts.append(Part("bias", group.path, "b", {"size": group.out_features}))
        else:
            parts.append(Part("trainable", group.path, "", {"parameters": group.each}))
    if data.draw(st.booleans()):
        parts.append(
            Part("cells", "tokens", "P", {"tokens": data.draw(st.integers(1, 1000)), "width": shape.hidden})
        )
    words = data.draw(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=9))
    quantized, layout = data.draw(st.booleans()), data.draw(st.sampled_from(LAYOUTS))
    texts = ["".join(ch for ch in word if ch.isprintable() and ord(ch) < 0xD800) or "x" for word in words]
    drawing = draw_block(shape, parts, quantized=quantized, tokens=texts, layout=layout)
    assert read(drawing.svg).problems() == []


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


def test_parts_in_a_shared_expert_are_counted_and_named() -> None:
    picture = drawn("llama4_text", "lora", target_modules=("gate_proj", "q_proj"))
    assert "feed_forward.gate_proj" not in picture.description
    assert "shared_expert.gate_proj" in picture.description
