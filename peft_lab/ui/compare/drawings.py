"""Figures of the Compare page alone. Each takes plain data and returns a Plotly figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from peft_lab import units
from peft_lab.compare.pareto import Axis
from peft_lab.methods import all_methods
from peft_lab.palette import faint
from peft_lab.ui import theme

Row = Mapping[str, Any]
GIGA = 1e10  # bytes, from which an axis is in GB
WIDE = 8  # times the smallest value, from which an axis is logarithmic
CLOSE = 0.1  # a span of shares, below which whole percents would repeat along an axis
FEW = 3  # bands that lie over each other at full strength; more are paler
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
                mode="lines",  # short curves would get a marker at every step of the band's edge
                fill="toself",
                fillcolor=faint(colour, theme.BAND_OPACITY * min(1.0, FEW / len(rows))),
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
    longest = max((len(row["loss"]["mean"]) for row in rows), default=0)
    figure.update_xaxes(title="step", zeroline=False, dtick=1 if longest <= SMOOTH else None)
    figure.update_yaxes(title="training loss, nats")
    return figure


@dataclass(frozen=True)
class _Side:
    """One axis of a scatter plot: what stands at it, the unit it is drawn in, and the size of that."""

    axis: Axis
    title: str
    unit: str
    size: float

    @classmethod
    def of(cls, axis: Axis, title: str, points: Iterable[Row]) -> _Side:
        return cls(axis, title, *_drawn_in([row[axis.name] for row in points], axis))

    def at(self, row: Row) -> float:
        return float(row[self.axis.name] / self.size)

    def bars(self, row: Row) -> dict[str, Any] | None:
        spread = row.get(f"{self.axis.name.removesuffix('_mean')}_std")
        if not spread:
            return None
        return {"type": "data", "array": [spread / self.size], "thickness": 1, "width": 3}

    def shown(self, row: Row) -> str:
        value = row[self.axis.name]
        figure = f"{value:.1%}" if self.axis.unit == "share" else units.show(value, self.axis.unit)
        return f"{self.title}: {figure}"

    def layout(self, points: Iterable[Row]) -> dict[str, Any]:
        title = f"{self.title}, {self.unit}" if self.unit else self.title
        return {"title": title, "zeroline": False, **_scale([self.at(row) for row in points], self.axis)}


def scatter(
    rows: Sequence[Row],
    x: Axis,
    y: Axis,
    titles: Mapping[str, str],
    front: Sequence[str],
    palette: Mapping[str, str],
    named: Sequence[str],
) -> go.Figure:
    """Rows as points on two axes, spreads as bars where they are known; the front is joined by a line.

    Args:
        titles: what stands at each axis, by its name.
        palette: colours by method; points without one are grey, and only coloured ones are in the legend.
        named: methods whose names stand at their points.
    """
    figure = go.Figure()
    points = {
        row["method"]: row for row in rows if row.get(x.name) is not None and row.get(y.name) is not None
    }
    across, up = (_Side.of(axis, titles[axis.name], points.values()) for axis in (x, y))
    on_front = sorted((points[name] for name in front if name in points), key=across.at)
    figure.add_scatter(
        x=[across.at(row) for row in on_front],
        y=[up.at(row) for row in on_front],
        mode="lines",
        line={"dash": "dot", "width": 1.5, "color": theme.QUIET},
        hoverinfo="skip",
        showlegend=False,
    )
    beside = _places([row["method"] for row in on_front if row["method"] in named], on_front, y)
    for name, row in points.items():
        size, symbol = (11, "circle") if name in front else (8, "circle-open")
        colour = palette.get(name, theme.QUIET)
        figure.add_scatter(
            x=[across.at(row)],
            y=[up.at(row)],
            error_x=across.bars(row),
            error_y=up.bars(row),
            mode="markers+text",
            text=[f"<b>{row['title']}</b>" if name in named else ""],
            textposition=beside.get(name, "top center"),
            marker={"size": size, "color": colour, "symbol": symbol, "line": {"width": 2}},
            hovertemplate=f"{across.shown(row)}<br>{up.shown(row)}<extra>{row['title']}</extra>",
            name=row["title"],
            showlegend=name in palette,
            cliponaxis=False,
        )
    figure.update_layout(
        margin={**_MARGIN, "t": 24, "r": 24},
        height=440,
        legend={"orientation": "h", "y": -0.2, "x": 0, "yanchor": "top", "itemclick": False},
    )
    figure.update_xaxes(**across.layout(points.values()))
    figure.update_yaxes(**up.layout(points.values()))
    return figure


def _places(names: Sequence[str], front: Sequence[Row], y: Axis) -> dict[str, str]:
    """Where each name stands at its point: on the side that the line of the front does not take, and inside the plot
    at its ends."""
    rises = len(front) < 2 or front[-1][y.name] >= front[0][y.name]
    places = dict.fromkeys(names, "top left" if rises else "top right")
    end = 0 if rises else -1
    if names and names[end] == front[end]["method"]:
        places[names[end]] = "middle right" if rises else "bottom center"
    return places


def _scale(values: Sequence[float], axis: Axis) -> dict[str, Any]:
    """Logarithmic where the values span far; a share as percent. ``values`` as they are drawn."""
    if axis.unit != "share" and values and min(values) > 0 and max(values) > WIDE * min(values):
        low, high = math.log10(min(values)), math.log10(max(values))
        room = (high - low) / 10
        return {
            "type": "log",
            "range": [low - room, high + room],
            "dtick": 1 if high - low > 2 else theme.FINE_TICKS,
        }
    if axis.unit == "share":
        close = max(values, default=0.0) - min(values, default=0.0) < CLOSE
        ticks = theme.FINE_PERCENT_TICKS if close else theme.PERCENT_TICKS
        whole = (
            {"clipmax": 1} if max(values, default=0.0) <= 1 else {}
        )  # equal scores were given room up to 140%
        return {
            "type": "linear",
            "tickformat": ticks,
            "rangemode": "nonnegative",
            "autorangeoptions": whole,
        }
    return {"type": "linear"}


def _drawn_in(values: Sequence[float], axis: Axis) -> tuple[str, float]:
    """The unit that an axis is drawn in, and its size."""
    if axis.unit == "bytes":
        large = max(values, default=0.0) >= GIGA
        return ("GB", 1e9) if large else ("MB", 1e6)
    return {"seconds": ("s", 1.0), "nats/token": ("nats/token", 1.0)}.get(axis.unit, ("", 1.0))
