"""The picture of where the parameters are: what is trained shows, and what is not to scale says so."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.methods.counting.count import count
from peft_lab.models.meta import GroupCount
from peft_lab.ui import theme
from peft_lab.ui.components.charts import LEAST, VISIBLE, Area, areas, caption, treemap
from tests.prose import says

Q = "model.layers.{}.self_attn.q_proj"


def group(module: str, parameters: int, role: Any = "frozen", **rest: Any) -> GroupCount:
    return GroupCount(
        module, "Linear", "weight", (1,), "float32", rest.pop("count", 4), parameters, role,
        rest.pop("added", False), **rest,
    )  # fmt: skip


TREE = (
    group("model.embed_tokens", 600_000, count=1),
    group(Q, 300_000, quantised=True),
    group(f"{Q}.lora_A", 600, "method", added=True),
    group(f"{Q}.lora_B", 400, "method", added=True),
    group("model.layers.{}.input_layernorm", 99_000),
)


def drawn(found: list[Area]) -> dict[str, Any]:
    (trace,) = treemap(found).to_plotly_json()["data"]
    return {
        identity: {
            "parent": trace["parents"][at],
            "label": trace["labels"][at],
            "size": trace["values"][at],
            "colour": trace["marker"]["colors"][at],
            "told": list(trace["customdata"][at]),
        }
        for at, identity in enumerate(trace["ids"])
    }


def test_a_methods_own_parameters_are_one_orange_area_beside_their_module() -> None:
    found = {(area.place, area.label, area.state): area for area in areas(TREE)}
    assert set(found) == {
        ("", "embed_tokens", "frozen"),
        ("self_attn", "q_proj", "quantised"),
        ("self_attn", "q_proj", "trained"),
        ("norms", "input_layernorm", "frozen"),
    }
    trained = found["self_attn", "q_proj", "trained"]
    assert (trained.parameters, trained.modules) == (1_000, 4)


def test_a_small_trained_area_is_enlarged_to_what_can_be_seen_and_tells_its_true_number() -> None:
    boxes = drawn(areas(TREE))
    box = boxes["self_attn/q_proj/trained"]
    assert box["size"] == pytest.approx(VISIBLE * 1_000_000)
    assert box["colour"] == theme.TRAINABLE
    assert box["told"] == ["1,000", "0.1%", "<br>trained, drawn larger than it is"]
    assert boxes["self_attn/q_proj/quantised"]["size"] == 300_000
    assert boxes["self_attn/q_proj/quantised"]["colour"] == theme.QUANTISED
    assert boxes["/embed_tokens/frozen"]["colour"] == theme.FROZEN
    assert boxes["/embed_tokens/frozen"]["told"] == ["600,000", "60%", "<br>frozen"]
    assert (boxes["self_attn"]["told"][0], boxes["self_attn"]["parent"]) == ("301,000", "")


def test_what_contains_areas_is_as_large_as_they_are_together() -> None:
    """Plotly leaves a picture empty whose parents are smaller than what is in them."""
    boxes = drawn(areas(TREE))
    for place in ("self_attn", "norms"):
        inside = [box["size"] for box in boxes.values() if box["parent"] == place]
        assert boxes[place]["size"] == pytest.approx(sum(inside))


def test_a_large_trained_area_is_to_scale() -> None:
    full = tuple(group(one.module, one.parameters, "method") for one in TREE if not one.added)
    found = areas(full)
    assert not any(area.enlarged for area in found)
    assert "to scale" not in caption(found)
    assert "Grey" not in caption(found)


def test_many_small_trained_areas_share_the_least_that_is_seen() -> None:
    names = [f"model.layers.{{}}.mlp.m{number}" for number in range(40)]
    tree = [group(name, 100_000) for name in names] + [
        group(f"{name}.lora_A", 1, "method", added=True) for name in names
    ]
    trained = [area for area in areas(tree) if area.state == "trained"]
    assert all(area.drawn == pytest.approx(LEAST * 4_000_040) for area in trained)


def test_the_caption_says_what_is_not_to_scale() -> None:
    told = caption(areas(TREE))
    assert says(told, "not to scale", "0.1%")
    assert "**blue** is quantised" in told


@pytest.mark.parametrize(
    ("model", "method"),
    [("smollm2-135m", "lora"), ("smollm2-135m", "prompt"), ("minilm-l6", "bitfit"), ("gpt2", "ia3")],
)
def test_every_method_shows_orange_that_is_large_enough(model: str, method: str) -> None:
    report = count(model, method, {})
    boxes = drawn(areas(report.tree))
    total = sum(box["size"] for box in boxes.values() if box["parent"] == "")
    orange = [box for box in boxes.values() if box["colour"] == theme.TRAINABLE]
    assert orange
    # 0.3% of 450 × 340 pixels is a square of 21 by 21
    assert all(box["size"] >= 0.003 * total for box in orange)
    told = sum(int(box["told"][0].replace(",", "")) for box in orange)
    assert told == report.trainable + report.head
