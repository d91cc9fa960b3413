"""Figures of the Compare page alone. Each takes plain data and returns a Plotly figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from peft_lab import units
from peft_lab.compare.pareto import Axis
from peft_lab.methods import all_methods
from peft_lab.ui import theme

Row = Mapping[str, Any]
WIDE = 30  # times the smallest value, from which an axis is logarithmic
SMOOTH = 12  # a curve is averaged over this part of its steps
_MARGIN = {"l": 8, "r": 8, "t": 8, "b": 40}


def config(name: str) -> dict[str, Any]:
    """A figure that can be saved as an image by its own button, which needs no other program."""
    return {
        "displayModeBar": True,
        "displaylogo": False,
        "responsive": True,
        "modeBarButtons": [["toImage"]],
        "toImageButtonOptions": {"format": "svg", "filename": name},
    }


def colours() -> dict[str, str]:
    """Each method's colour, the same in every figure."""
    return {slug: theme.SERIES[index % len(theme.SERIES)] for index, slug in enumerate(all_methods())}


def smooth(values: Sequence[float | None], window: int) -> list[float | None]:
    """Means over the ``window`` latest values; as many as there are at the start."""
    means: list[float | None] = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - window) : end] if value is not None]
        means.append(sum(known) / len(known) if known else None)
    return means


def window_of(steps: int) -> int:
    """Steps over which a curve of that many is averaged."""
    return max(1, steps // SMOOTH)


def learning_curves(rows: Sequence[Row], height: int = 420) -> go.Figure:
    """Training loss of each method, averaged over seeds and the latest steps, in a band of one deviation."""
    figure = go.Figure()
    palette = colours()
    for row in rows:
        window = window_of(len(row["loss"]["mean"]))
        means = smooth(row["loss"]["mean"], window)
        spreads = smooth(row["loss"]["std"], window)
        steps = list(range(1, len(means) + 1))
        colour = palette[row["method"]]
        if spreads and spreads[0] is not None:
            high = [(mean or 0.0) + (spread or 0.0) for mean, spread in zip(means, spreads, strict=True)]
            low = [(mean or 0.0) - (spread or 0.0) for mean, spread in zip(means, spreads, strict=True)]
            figure.add_scatter(
                x=steps + steps[::-1],
                y=high + low[::-1],
                fill="toself",
                fillcolor=_faint(colour),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=row["method"],
            )
        figure.add_scatter(
            x=steps,
            y=means,
            name=row["title"],
            legendgroup=row["method"],
            mode="lines",
            line={"color": colour, "width": 2},
            hovertemplate="%{y:.3f}<extra>" + row["title"] + "</extra>",
        )
    figure.update_layout(
        margin=_MARGIN,
        height=height,
        hovermode="x unified",
        legend={"orientation": "h", "y": -0.2, "x": 0, "yanchor": "top"},
    )
    figure.update_xaxes(title="step", zeroline=False)
    figure.update_yaxes(title="training loss, nats")
    return figure


def _faint(colour: str) -> str:
    red, green, blue = bytes.fromhex(colour[1:])
    return f"rgba({red},{green},{blue},{theme.BAND_OPACITY})"


def scatter(
    rows: Sequence[Row],
    x: Axis,
    y: Axis,
    titles: Mapping[str, str],
    front: Sequence[str],
    palette: Mapping[str, str],
    height: int = 420,
) -> go.Figure:
    """Rows as points on two axes, spreads as bars where they are known; the front is joined by a line.

    Args:
        titles: what stands at each axis, by its name.
        palette: colours by method; points without one are grey.
    """
    figure = go.Figure()
    points = {
        row["method"]: row for row in rows if row.get(x.name) is not None and row.get(y.name) is not None
    }
    on_front = sorted((points[name] for name in front if name in points), key=lambda row: row[x.name])
    figure.add_scatter(
        x=[_scaled(row[x.name], x) for row in on_front],
        y=[_scaled(row[y.name], y) for row in on_front],
        mode="lines",
        line={"dash": "dot", "width": 1.5, "color": theme.QUIET},
        hoverinfo="skip",
        showlegend=False,
    )
    # Neighbours' names above and below their points in turn, so that they hide each other less.
    above = {
        name: place % 2 == 0
        for place, name in enumerate(sorted(points, key=lambda name: points[name][x.name]))
    }
    for name, row in points.items():
        chosen = name in front
        figure.add_scatter(
            x=[_scaled(row[x.name], x)],
            y=[_scaled(row[y.name], y)],
            error_x=_bars(row, x),
            error_y=_bars(row, y),
            mode="markers+text",
            text=[f"<b>{row['title']}</b>" if chosen else row.get("label", row["title"])],
            textposition="top center" if above[name] else "bottom center",
            marker={
                "size": 11 if chosen else 8,
                "color": palette.get(name, theme.QUIET),
                "symbol": "circle" if chosen else "circle-open",
                "line": {"width": 2},
            },
            hovertemplate=f"{titles[x.name]}: {_shown(row[x.name], x)}<br>{titles[y.name]}: "
            f"{_shown(row[y.name], y)}<extra>{row['title']}</extra>",
            showlegend=False,
            cliponaxis=False,
        )
    figure.update_layout(margin={**_MARGIN, "t": 24, "r": 24}, height=height)
    for update, axis in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
        values = [row[axis.name] for row in points.values()]
        update(title=f"{titles[axis.name]}{_unit(axis)}", zeroline=False, **_scale(values, axis))
    return figure


def _scale(values: Sequence[float], axis: Axis) -> dict[str, Any]:
    """Logarithmic where the values span far; a share as percent."""
    if values and min(values) > 0 and max(values) > WIDE * min(values):
        low, high = (math.log10(_scaled(value, axis)) for value in (min(values), max(values)))
        return {"type": "log", "range": [low - 0.4, high + 0.4], "dtick": 1}
    return {"type": "linear", "tickformat": ".0%" if axis.unit == "share" else None}


_SHOWN_UNIT = {"bytes": ("MB", 1e6), "seconds": ("s", 1.0), "nats/token": ("nats/token", 1.0)}


def _scaled(value: float, axis: Axis) -> float:
    return value / _SHOWN_UNIT.get(axis.unit, ("", 1.0))[1]


def _unit(axis: Axis) -> str:
    name = _SHOWN_UNIT.get(axis.unit, ("", 1.0))[0]
    return f", {name}" if name else ""


def _bars(row: Row, axis: Axis) -> dict[str, Any] | None:
    spread = row.get(f"{axis.name.removesuffix('_mean')}_std")
    if not spread:
        return None
    return {"type": "data", "array": [_scaled(spread, axis)], "thickness": 1, "width": 3}


def _shown(value: float, axis: Axis) -> str:
    return f"{value:.1%}" if axis.unit == "share" else units.show(value, axis.unit)
