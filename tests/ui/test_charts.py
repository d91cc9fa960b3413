"""What charts and tables draw: values, order, colours by part, axes with units, sizes true to scale."""

from __future__ import annotations

import json
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.methods.counting.count import count
from peft_lab.models.meta import GroupCount
from peft_lab.ui import theme
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.charts import FAR, VISIBLE, Area, areas, treemap
from tests.waits import SECONDS


def plain(figure: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    made = figure.to_plotly_json()
    return made["data"], made["layout"]


# -- lines -------------------------------------------------------------------------------------------------------


# -- bars --------------------------------------------------------------------------------------------------------


# -- heat map ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix", [[], [[0.0, 0.0]]])
def test_a_map_of_nothing_still_has_a_range(matrix: list[list[float]]) -> None:
    (trace,), _ = plain(charts.heatmap(matrix, "x", "y", "share"))
    assert trace["zmax"] == 1.0


# -- memory ------------------------------------------------------------------------------------------------------
ROWS = {
    "LoRA": {"activations": 500_000_000, "weights": 2_000_000_000, "adapter": 4_000_000, "logits": 0},
    "Full": {"weights": 2_000_000_000, "gradients": 2_000_000_000},
}


def test_memory_bars_stack_the_parts_in_one_order_and_one_colour_each_in_gigabytes() -> None:
    data, layout = plain(charts.memory_bars(ROWS))
    assert [trace["name"] for trace in data] == ["weights", "adapter", "gradients", "activations"]
    assert [trace["marker"]["color"] for trace in data] == [theme.MEMORY[trace["name"]] for trace in data]
    assert [list(trace["y"]) for trace in data] == [["LoRA", "Full"]] * 4
    by_name = {trace["name"]: list(trace["x"]) for trace in data}
    assert by_name["weights"] == [2.0, 2.0]
    assert by_name["gradients"] == [0.0, 2.0]
    assert by_name["activations"] == [0.5, 0.0]
    assert list(data[0]["customdata"]) == ["2.00 GB", "2.00 GB"]
    assert layout["barmode"] == "stack"
    assert layout["xaxis"]["title"]["text"] == "GB"
    assert layout["xaxis"]["rangemode"] == "tozero"
    assert layout["yaxis"]["autorange"] == "reversed"
    assert not layout.get("shapes")
    assert layout["height"] > plain(charts.memory_bars({"LoRA": ROWS["LoRA"]}))[1]["height"]


def test_what_is_below_a_gigabyte_is_drawn_in_megabytes() -> None:
    """As the tables beside the figures write it."""
    small = {"LoRA": {"weights": 600_000_000, "activations": 399_000_000}}
    data, layout = plain(charts.memory_bars(small))
    assert [list(trace["x"]) for trace in data] == [[600.0], [399.0]]
    assert layout["xaxis"]["title"]["text"] == "MB"
    data, layout = plain(charts.memory_timeline([("rest", None, small["LoRA"])]))
    assert [list(trace["y"]) for trace in data] == [[600.0], [399.0]]
    assert layout["yaxis"]["title"]["text"] == "MB alive"


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


LONGEST_BAR = 4_000_000_000


def _page(limit: int) -> None:
    from peft_lab.core.units import Source
    from peft_lab.ui.components.charts import Bar, Limit, grown_bars

    parts = {"weights": 3_000_000_000, "optimizer": 1_000_000_000}
    rows = [Bar("LoRA", parts, Source.SIMULATED), Bar("IA³", {"weights": 2_000_000_000}, Source.SIMULATED)]
    grown_bars(rows, "bars", Limit(limit, "T4: 16 GB usable"), close=True)


def sent_bars(limit: int) -> dict[str, Any]:
    app = AppTest.from_function(_page, kwargs={"limit": limit}).run(timeout=SECONDS)
    assert not app.exception
    (component,) = app.get("bidi_component")
    found: dict[str, Any] = json.loads(component.proto.json)
    return found


@pytest.mark.parametrize(("limit", "drawn"), [(FAR * LONGEST_BAR, True), (FAR * LONGEST_BAR + 1, False)])
def test_a_limit_far_beyond_the_longest_bar_is_named_and_not_drawn(limit: int, drawn: bool) -> None:
    assert sent_bars(limit)["limit"] == {"size": limit, "text": "T4: 16 GB usable", "drawn": drawn}


NAME = "base_model.model.layers.0.self_attn.v_proj.lora_A.weight"


def test_a_long_name_is_broken_between_its_parts_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr("streamlit.html", drawn.append)
    rows = [(NAME, "0.125"), ("short.name", "2.5"), ("a sentence of many words. And another one.", "1")]
    figures.table(("tensor", "largest"), rows, numeric=(1,), fold=True)
    figures.table(("tensor", "largest"), rows, numeric=(1,))
    folded, unfolded = drawn
    assert "self_attn.<wbr>v_proj.<wbr>" in folded and folded.replace("<wbr>", "").count(NAME) == 1
    assert "short.name" in folded and "0.125" in folded and "words. And" in folded
    assert "<wbr>" not in unfolded
