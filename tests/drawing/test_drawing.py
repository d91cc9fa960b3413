"""What a drawing shows and says."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from peft_lab.core.errors import Unsupported
from peft_lab.drawing.block import MOST, draw_block, strip_of
from peft_lab.methods import get_method
from peft_lab.methods.base import Part
from peft_lab.models.catalogue import catalogue, get_model
from peft_lab.models.shapes import ModelShape
from peft_lab.training.tasks import all_tasks
from tests.prose import says

NS = "{http://www.w3.org/2000/svg}"
Q_PROJ = "model.layers.{}.self_attn.q_proj"


def shape_of(name: str) -> ModelShape:
    return get_model(name).shape


def draw(slug: str, name: str, **settings: object) -> ET.Element:
    method, shape = get_method(slug), shape_of(name)
    values = method.complete(shape, settings)
    svg = draw_block(shape, method.parts(shape, values), quantized=method.quantization(values)).svg
    return ET.fromstring(svg)


def choices(root: ET.Element, ending: str) -> list[ET.Element]:
    """Choices whose path is ``ending`` or ends with it after a dot."""
    return [g for g in root.iter(NS + "g") if f".{g.get('data-path', '')}".endswith(f".{ending}")]


def rects(element: ET.Element, cls: str) -> list[ET.Element]:
    return [r for r in element.iter(NS + "rect") if set(cls.split()) <= set(r.get("class", "").split())]


def strips(root: ET.Element, ending: str) -> tuple[float, float]:
    """Thickness of A (lying) and B (standing)."""
    (choice,) = choices(root, ending)
    a, b = (rect for rect in rects(choice, "trained"))
    return float(a.attrib["height"]), float(b.attrib["width"])


@pytest.mark.parametrize("name", catalogue())
def test_every_matrix_of_the_block_is_there_with_its_shape(name: str) -> None:
    shape = shape_of(name)
    root = ET.fromstring(draw_block(shape).svg)
    for group in shape.block.values():
        (choice,) = choices(root, group.path)
        label = choice.attrib["aria-label"]
        assert label.startswith(
            f"{shape.target_name(group)}, {group.out_features}×{group.in_features}, frozen"
        )
        assert f"{group.out_features}×{group.in_features}" in [text.text for text in choice.iter(NS + "text")]
        assert choice.attrib["tabindex"] == "0" and choice.attrib["role"] == "button"


def test_grouped_keys_are_drawn_smaller_than_queries() -> None:
    root = ET.fromstring(draw_block(shape_of("llama-3.1-8b")).svg)
    heights = [
        float(rects(choices(root, f"{n}_proj")[0], "box")[0].attrib["height"]) for n in ("q", "k", "up")
    ]
    assert heights[1] < 0.8 * heights[0] < 0.8 * heights[2]


def test_strip_thickness_follows_the_rank() -> None:
    seen = [strips(draw("lora", "smollm2-135m", r=rank), "q_proj") for rank in (1, 8, 64, 256)]
    for thinner, thicker in itertools.pairwise(seen):
        assert thicker[0] >= thinner[0] + 2 and thicker[1] >= thinner[1] + 2
    assert min(seen[0]) >= 2
    big = strips(draw("lora", "llama-3.1-70b", r=8), "q_proj")
    assert big[0] < seen[1][0], "rank 8 is a smaller share of a larger matrix"


def test_moving_the_rank_moves_no_box() -> None:
    def boxes(root: ET.Element) -> list[dict[str, str]]:
        return [dict(rect.attrib) for rect in rects(root, "box")]

    few = draw("lora", "smollm2-135m", r=1)
    assert boxes(few) == boxes(draw("lora", "smollm2-135m", r=256, target_modules=("all-linear",)))


def test_quantised_matrices_are_hatched_and_have_constants() -> None:
    root = draw("qlora", "smollm2-135m", bnb_4bit_use_double_quant=True)
    (choice,) = choices(root, "down_proj")
    assert rects(choice, "box frozen quantised") and any(
        p.get("class") == "hatch" for p in choice.iter(NS + "path")
    )
    constants = rects(choice, "constant")
    assert len([c for c in constants if "hollow" not in c.attrib["class"]]) == 1 < len(constants)
    assert not rects(choices(root, "lm_head")[0], "quantised")
    single = choices(draw("qlora", "smollm2-135m", bnb_4bit_use_double_quant=False), "down_proj")[0]
    assert not rects(single, "constant hollow")


def test_prefix_columns_stand_on_keys_and_values() -> None:
    root = draw("prefix", "smollm2-135m", num_virtual_tokens=4)
    keys, values = choices(root, "k_proj"), choices(root, "v_proj")
    assert [len(rects(g, "trained cell")) for g in (keys[1], values[1])] == [4, 4]
    assert "+4 columns" in "".join(root.itertext())
    fused = choices(draw("prefix", "gpt2", num_virtual_tokens=4), "c_attn")
    assert [g.attrib["aria-label"][:2] for g in fused[1:]] == ["K:", "V:"]


@pytest.mark.parametrize(
    ("placement", "after_attention", "after_ffn"), [("houlsby", 1, 1), ("pfeiffer", 0, 1)]
)
def test_adapters_follow_their_host(placement: str, after_attention: int, after_ffn: int) -> None:
    root = draw("adapters", "smollm2-135m", placement=placement)
    assert len(choices(root, "o_proj")) == 1 + after_attention
    assert len(choices(root, "down_proj")) == 1 + after_ffn


def test_an_adapter_on_the_sum_stands_on_the_stream() -> None:
    """With a second sum of its own; on BERT it reads through the norm that follows, which is drawn once more."""
    for name, last in (("smollm2-135m", "down_proj"), ("minilm-l6", "output.dense")):
        root = draw("adapters", name, placement="seq_bn")
        assert says(choices(root, last)[1].attrib["aria-label"], "sum", 64, "trainable")
        assert sums(root) == sums(draw("adapters", name, placement="pfeiffer")) + 1
    assert len(choices(root, "encoder.layer.{}.output.LayerNorm")) == 2
    assert len(choices(draw("adapters", "minilm-l6"), "encoder.layer.{}.output.LayerNorm")) == 1


def sums(root: ET.Element) -> int:
    """Circles where two ways meet."""
    return sum(each.attrib.get("class") == "joint" for each in root.iter())


def test_gates_sit_where_the_vector_multiplies() -> None:
    root = draw("ia3", "smollm2-135m")

    def left_of(ending: str) -> bool:
        (choice,) = choices(root, ending)
        return float(rects(choice, "gate")[0].attrib["x"]) < float(rects(choice, "box")[0].attrib["x"])

    assert [left_of(name) for name in ("k_proj", "v_proj", "down_proj")] == [False, False, True]


def test_biases_are_dots_or_said_to_be_missing() -> None:
    root = draw("bitfit", "minilm-l6")
    for ending in ("query", "intermediate.dense", "output.LayerNorm"):
        for choice in choices(root, ending):
            assert len(list(choice.iter(NS + "circle"))) >= 3
    bare = get_method("bitfit"), shape_of("smollm2-135m")
    drawing = draw_block(bare[1], bare[0].parts(bare[1], {"subset": "all"}))
    assert "no biases" in drawing.svg
    assert "no biases" in drawing.description


def test_the_selected_part_is_outlined_and_pressed() -> None:
    method, shape = get_method("lora"), shape_of("smollm2-135m")
    parts = method.parts(shape, method.complete(shape, {}))
    root = ET.fromstring(draw_block(shape, parts, selected=Q_PROJ).svg)
    pressed = [g for g in root.iter(NS + "g") if g.get("aria-pressed") == "true"]
    assert [g.attrib["data-path"] for g in pressed] == [Q_PROJ] and "chosen" in pressed[0].attrib["class"]
    assert 'aria-pressed="true"' not in draw_block(shape, parts).svg


def test_same_input_same_text_and_no_ids() -> None:
    method, shape = get_method("qlora"), shape_of("bert-base")
    values = method.complete(shape, {})
    first, second = (
        draw_block(shape, method.parts(shape, values), quantized=method.quantization(values))
        for _ in range(2)
    )
    assert first == second
    assert " id=" not in first.svg, "two drawings share one page"


def test_parts_on_undrawn_modules_are_named() -> None:
    shape = shape_of("t5-base")
    at = "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias"
    svg = draw_block(shape, [Part("trainable", at, "", {"parameters": 1})]).svg
    assert "not drawn: relative_attention_bias" in svg


def test_a_model_without_known_blocks_is_refused_by_name() -> None:
    shape = shape_of("gpt2")
    bare = replace(shape, title="Mystery", groups=tuple(g for g in shape.groups if g.role is None))
    with pytest.raises(Unsupported, match="Mystery"):
        draw_block(bare)


def test_full_fine_tuning_leaves_nothing_grey() -> None:
    for name in ("smollm2-135m", "bert-base", "t5-base"):
        assert not rects(draw("full", name), "frozen"), name


def test_words_and_marks_are_cells_of_their_own() -> None:
    assert strip_of("Order for Anna: two, 7 pm.\nJSON:") == (
        *("Order", "for", "Anna", ":", "two", ",", "7", "pm", ".", "JSON", ":"),
    )  # fmt: skip
    assert strip_of("It's fine") == ("It's", "fine")
    assert len(strip_of("a " * 50)) == MOST
    assert strip_of("") == ()


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_each_tasks_first_words_are_drawn_and_nobody_elses(layout: str) -> None:
    shape = get_model("minilm-l6").shape
    for task in (task for task in all_tasks() if not task.images):
        words = strip_of(task.samples[0])
        drawing = draw_block(shape, tokens=words, layout=layout)  # type: ignore[arg-type]
        assert f">{words[0]}<" in drawing.svg
        assert ("Anna" in drawing.svg) is (task.name in ("json", "fields", "tags"))


def test_the_text_is_drawn_under_the_half_that_reads_it() -> None:
    shape = get_model("t5-base").shape
    words = ("Order", "for", "Anna")
    prefix = get_method("prefix")
    columns = prefix.parts(shape, prefix.require(shape, {}))
    assert ">Anna<" in draw_block(shape, tokens=words).svg
    assert ">Anna<" not in draw_block(shape, columns, tokens=words).svg, (
        "the decoder reads what it wrote itself"
    )
