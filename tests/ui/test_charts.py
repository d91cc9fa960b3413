"""What the charts draw: values, order, colours by part, and axes that say their unit."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.core import palette
from peft_lab.ui import theme
from peft_lab.ui.components import charts


def plain(figure: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    made = figure.to_plotly_json()
    return made["data"], made["layout"]


# -- lines -------------------------------------------------------------------------------------------------------


def test_curves_draw_each_series_with_its_name_points_and_colour() -> None:
    data, layout = plain(
        charts.curves(
            {"LoRA": ([1, 2, 3], [3.0, 2.0, 1.0]), "IA³": ([1, 2], [4.0, 3.5])},
            "optimizer step",
            "training loss (nats)",
            colours={"IA³": "#123456"},
        )
    )
    assert [trace["name"] for trace in data] == ["LoRA", "IA³"]
    assert [(list(trace["x"]), list(trace["y"])) for trace in data] == [
        ([1, 2, 3], [3.0, 2.0, 1.0]),
        ([1, 2], [4.0, 3.5]),
    ]
    assert [trace["line"]["color"] for trace in data] == [theme.SERIES[0], "#123456"]
    assert all(trace["mode"] == "lines" for trace in data)
    assert layout["xaxis"]["title"]["text"] == "optimizer step"
    assert layout["yaxis"]["title"]["text"] == "training loss (nats)"
    assert layout["showlegend"] is True


def test_a_single_curve_has_no_legend_and_its_first_point_is_seen() -> None:
    data, layout = plain(charts.curves({"loss": ([1], [2.5])}, "step", "loss"))
    assert layout["showlegend"] is False
    assert data[0]["mode"] == "markers"


def test_more_series_than_colours_begin_again_with_the_first() -> None:
    many = {f"s{number}": ([0, 1], [0, 1]) for number in range(len(theme.SERIES) + 1)}
    data, _ = plain(charts.curves(many, "x", "y"))
    assert [trace["line"]["color"] for trace in data] == [*theme.SERIES, theme.SERIES[0]]


def test_axes_of_a_curve_keep_their_end_start_at_zero_or_are_logarithmic() -> None:
    _, live = plain(charts.curves({"a": ([1], [1])}, "x", "y", until=60))
    assert list(live["xaxis"]["range"]) == [0, 60]
    assert (live["yaxis"]["rangemode"], live["yaxis"]["type"]) == ("tozero", "linear")
    _, free = plain(charts.curves({"a": ([1], [1])}, "x", "y", log_y=True))
    assert free["xaxis"].get("range") is None
    assert (free["yaxis"]["rangemode"], free["yaxis"]["type"]) == ("normal", "log")


# -- bars --------------------------------------------------------------------------------------------------------


def test_bars_read_from_top_to_bottom_in_the_order_given() -> None:
    data, layout = plain(charts.bars(["a", "b", "c"], [3.0, 1.0, 2.0], "seconds"))
    (trace,) = data
    assert (list(trace["y"]), list(trace["x"]), trace["orientation"]) == (
        ["a", "b", "c"],
        [3.0, 1.0, 2.0],
        "h",
    )
    assert layout["yaxis"]["autorange"] == "reversed"
    assert layout["xaxis"]["title"]["text"] == "seconds"
    assert trace["marker"]["color"] == theme.TRAINABLE
    assert layout["height"] > plain(charts.bars(["a"], [1.0], "seconds"))[1]["height"]


@pytest.mark.parametrize(("number", "tick"), [(20, 1), (21, None)])
def test_columns_mark_every_number_while_there_is_room(number: int, tick: int | None) -> None:
    data, layout = plain(charts.columns(range(number), range(number), "layer", "norm"))
    assert (list(data[0]["x"]), list(data[0]["y"])) == (list(range(number)), list(range(number)))
    assert layout["xaxis"].get("dtick") == tick
    assert (layout["xaxis"]["title"]["text"], layout["yaxis"]["title"]["text"]) == ("layer", "norm")


# -- heat map ----------------------------------------------------------------------------------------------------


def test_a_diverging_map_is_symmetric_about_zero_and_grey_there() -> None:
    data, layout = plain(charts.heatmap([[1.0, -4.0], [2.0, 0.0]], "in", "out", "ΔW", diverging=True))
    (trace,) = data
    assert [list(row) for row in trace["z"]] == [[1.0, -4.0], [2.0, 0.0]]
    assert (trace["zmin"], trace["zmax"]) == (-4.0, 4.0)
    assert [colour for _, colour in trace["colorscale"]] == [
        theme.QUANTISED,
        palette.CHART_ZERO,
        theme.TRAINABLE,
    ]
    assert trace["colorscale"][1][0] == 0.5
    assert trace["colorbar"]["title"]["text"] == "ΔW"
    assert (layout["xaxis"]["title"]["text"], layout["yaxis"]["title"]["text"]) == ("in", "out")
    assert layout["yaxis"]["autorange"] == "reversed"


def test_a_map_of_shares_begins_at_zero_and_ends_where_it_is_told() -> None:
    (trace,), _ = plain(charts.heatmap([[0.1, 0.3]], "x", "y", "share", limit=1.0))
    assert (trace["zmin"], trace["zmax"]) == (0, 1.0)
    assert [colour for _, colour in trace["colorscale"]] == [palette.CHART_ZERO, theme.TRAINABLE]


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


def _course() -> list[tuple[str, int | None, dict[str, int]]]:
    rest = [("rest", None, {"weights": 1_000_000_000})] * 2
    forward = [
        ("forward", layer, {"weights": 1_000_000_000, "activations": layer * 10**8}) for layer in range(20)
    ]
    backward = [("backward", layer, {"weights": 1_000_000_000, "gradients": 10**6}) for layer in range(20)]
    return [*rest, *forward, *backward]


def test_the_timeline_stacks_parts_over_the_course_in_gigabytes() -> None:
    data, layout = plain(charts.memory_timeline(_course()))
    assert [trace["name"] for trace in data] == ["weights", "gradients", "activations"]
    assert {trace["stackgroup"] for trace in data} == {"memory"}
    assert [trace["fillcolor"] for trace in data] == [theme.MEMORY[trace["name"]] for trace in data]
    by_name = {trace["name"]: trace for trace in data}
    assert list(by_name["weights"]["y"]) == [1.0] * 42
    assert list(by_name["activations"]["y"])[2:5] == [0.0, 0.1, 0.2]
    assert list(by_name["activations"]["customdata"])[3] == "100 MB"
    assert list(by_name["weights"]["text"])[:3] == ["rest", "rest", "forward, layer 0"]
    assert list(by_name["weights"]["x"]) == list(range(42))
    assert layout["yaxis"]["title"]["text"] == "GB alive"
    assert layout["xaxis"]["title"]["text"] == "course of the step, layer by layer"


def test_phases_are_marked_where_they_begin_but_for_those_too_short_for_a_name() -> None:
    _, layout = plain(charts.memory_timeline(_course()))
    assert [(mark["text"], mark["x"]) for mark in layout["annotations"]] == [("forward", 2), ("backward", 22)]
    assert [line["x0"] for line in layout["shapes"]] == [2, 22]
    # neighbours stand in two lines by turns
    assert [mark["yshift"] for mark in layout["annotations"]] == [0, charts.LABEL_LINE]


@pytest.mark.parametrize(("xs", "step"), [([1, 2, 8], 1), ([100, 200, 300], None)])
def test_every_whole_number_is_written_where_there_is_room(xs: list[float], step: int | None) -> None:
    _, layout = plain(charts.columns(xs, [1, 2, 3], "tokens, up to", "rows"))
    assert layout["xaxis"].get("dtick") == step
