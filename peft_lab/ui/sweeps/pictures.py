"""Figures of the Sweeps page alone. Each takes plain data and returns a Plotly figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from peft_lab.recipes.advice import figure as written
from peft_lab.sweep.landscape import METRIC, told
from peft_lab.sweeping import picture
from peft_lab.sweeping.picture import Place
from peft_lab.sweeping.trials import Setting, kind_of
from peft_lab.ui import theme
from peft_lab.ui.compare.landscape_figure import Across, axis

#: From the worst to the best; both can be seen on a light ground and on a dark one.
SCALE = ([0.0, theme.QUANTISED], [0.5, theme.QUIET], [1.0, theme.TRAINABLE])
_MARGIN = {"l": 8, "r": 8, "t": 8, "b": 40}
MOST_NAMED = 10  # values of a line of the parallel coordinates that are written out


def coloured(places: Sequence[Place], x: Across, y: Across, figure: str, title: str) -> go.Figure:
    """A point for each place, coloured by its mean; the best is a star."""
    best = (max if figure == METRIC else min)(places, key=lambda place: place.mean)
    drawn = go.Figure()
    drawn.add_scatter(
        x=[place.x for place in places],
        y=[place.y for place in places],
        mode="markers",
        marker={
            "color": [place.mean for place in places],
            "colorscale": SCALE,
            "reversescale": figure != METRIC,
            "size": [20 if place is best else 14 for place in places],
            "symbol": ["star" if place is best else "circle" for place in places],
            "showscale": True,
            "colorbar": {
                "title": {"text": title, "side": "right"},
                "thickness": 10,
                "tickformat": theme.FINE_PERCENT_TICKS if figure == METRIC else None,
            },
        },
        customdata=[(picture.told(place.setting.values), told(place.mean, kind_of(figure)), place.seeds)
                    for place in places],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}, seeds: %{customdata[2]}<extra></extra>",
        showlegend=False,
    )  # fmt: skip
    drawn.update_layout(margin=_MARGIN, height=440)
    drawn.update_xaxes(**axis(x))
    drawn.update_yaxes(**axis(y))
    return drawn


def parallel(settings: Sequence[Setting], names: Sequence[str], figure: str, title: str) -> go.Figure:
    """A line for each setting with a result, through an axis for each thing that was varied, the result last.

    Raises ValueError where no setting has one.
    """
    done = [(each, mean) for each in settings if (mean := each.mean(figure)) is not None]
    means = [mean for _, mean in done]
    drawn = go.Figure(
        go.Parcoords(
            line={
                "color": means,
                "colorscale": SCALE,
                "reversescale": figure != METRIC,
                "cmin": min(means),
                "cmax": max(means),
            },
            dimensions=[
                *(_dimension([each for each, _ in done], name) for name in names),
                {"label": title, "values": means,
                 "tickformat": theme.FINE_PERCENT_TICKS if figure == METRIC else None},
            ],
            labelfont={"size": 12},
            tickfont={"size": 12},
        )
    )  # fmt: skip
    drawn.update_layout(margin={"l": 60, "r": 60, "t": 40, "b": 16}, height=380)
    return drawn


def _dimension(settings: Sequence[Setting], name: str) -> dict[str, Any]:
    """An axis: numbers where they are, on a logarithm where that is how they spread; words one above the other."""
    values = picture.values(settings, name)
    label = picture.title(name)
    lacking = any(each.values[name] is None for each in settings)
    if lacking or not picture.axes(settings, [name]):
        order = [*values, *([None] if lacking else [])]
        texts = ["–" if value is None else written(value) for value in order]
        at = [order.index(each.values[name]) for each in settings]
        return {"label": label, "values": at, "tickvals": list(range(len(order))), "ticktext": texts,
                "range": [-0.5, len(order) - 0.5]}  # fmt: skip
    place = math.log10 if picture.logarithmic(settings, name) else float
    shown = values if len(values) <= MOST_NAMED else [values[0], values[len(values) // 2], values[-1]]
    return {
        "label": label,
        "values": [place(each.values[name]) for each in settings],
        "tickvals": [place(value) for value in shown],
        "ticktext": [written(value) for value in shown],
    }
