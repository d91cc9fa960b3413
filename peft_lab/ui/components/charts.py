"""Plotly figures. Each takes plain data and returns a figure; colours come from the palette."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import plotly.graph_objects as go

from peft_lab import palette, units
from peft_lab.ui import theme

CONFIG = {"displayModeBar": False, "responsive": True}
LABEL_SHARE = 0.06  # of the axis, that a phase needs for its name
LABEL_LINE = 14  # pixels, the height of such a name


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    height: int = 300,
    until: float | None = None,
    colours: Mapping[str, str] | None = None,
    log_y: bool = False,
) -> go.Figure:
    """Lines over a common axis: ``name: (xs, ys)``. ``until`` fixes the axis' end, so that it does not jump live."""
    figure = go.Figure()
    for index, (name, (xs, ys)) in enumerate(series.items()):
        colour = (colours or {}).get(name, theme.SERIES[index % len(theme.SERIES)])
        figure.add_scatter(
            x=list(xs),
            y=list(ys),
            name=name,
            mode="lines" if len(xs) > 1 else "markers",
            line={"color": colour, "width": 2},
            hovertemplate=f"{x} %{{x}}<br>%{{y:.4g}}<extra>{name}</extra>",
        )  # fmt: skip
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 40},
        height=height,
        showlegend=len(series) > 1,
        # Above the curves, however many lines it takes.
        legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
        hovermode="x unified",
    )
    figure.update_xaxes(title=x, range=None if until is None else [0, until], zeroline=False)
    figure.update_yaxes(title=y, rangemode="normal" if log_y else "tozero", type="log" if log_y else "linear")
    return figure


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    x: str,
    height: int | None = None,
    colour: str = theme.TRAINABLE,
) -> go.Figure:
    """Horizontal bars with their values, first label on top."""
    figure = go.Figure(go.Bar(y=list(labels), x=list(values), orientation="h", marker={"color": colour}))
    figure.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 40}, height=height or 60 + 26 * len(labels))
    figure.update_yaxes(autorange="reversed", title=None)
    figure.update_xaxes(title=x)
    return figure


def columns(
    xs: Sequence[float], ys: Sequence[float], x: str, y: str, height: int = 320, colour: str = theme.TRAINABLE
) -> go.Figure:
    """Vertical bars over whole numbers."""
    figure = go.Figure(
        go.Bar(
            x=list(xs),
            y=list(ys),
            marker={"color": colour},
            hovertemplate=f"{x} %{{x}}<br>%{{y:.4g}}<extra></extra>",
        )
    )
    figure.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 40}, height=height, bargap=0.25)
    # further apart their numbers would lie over each other
    few = len(xs) <= 20 and max(xs, default=0) - min(xs, default=0) <= 20
    figure.update_xaxes(title=x, dtick=1 if few else None)
    figure.update_yaxes(title=y)
    return figure


def heatmap(
    matrix: Sequence[Sequence[float]], x: str, y: str, unit: str, labels_x: Sequence[str] | None = None,
    labels_y: Sequence[str] | None = None, diverging: bool = False, height: int = 320,
    limit: float | None = None,
) -> go.Figure:  # fmt: skip
    """A matrix of figures. ``diverging`` centres the colours on zero; ``limit`` is where they end, by default at the
    largest magnitude."""
    limit = limit or max((abs(value) for row in matrix for value in row), default=1.0) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=[list(row) for row in matrix],
            x=labels_x,
            y=labels_y,
            zmin=-limit if diverging else 0,
            zmax=limit,
            colorscale=[[0, theme.QUANTISED], [0.5, palette.CHART_ZERO], [1, theme.TRAINABLE]]
            if diverging
            else [[0, palette.CHART_ZERO], [1, theme.TRAINABLE]],
            colorbar={"title": {"text": unit, "side": "right"}, "thickness": 10},
            hovertemplate=f"{x} %{{x}}<br>{y} %{{y}}<br>%{{z:.4g}}<extra></extra>",
        )
    )
    figure.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 40}, height=height)
    figure.update_xaxes(title=x)
    figure.update_yaxes(title=y, autorange="reversed")
    return figure


def memory_bars(rows: Mapping[str, Mapping[str, int]]) -> go.Figure:
    """One bar per row, made of its parts in bytes."""
    figure = go.Figure()
    largest = max((sum(parts.values()) for parts in rows.values()), default=0)
    unit, scale = _unit(largest)
    for part in _parts(rows.values()):
        sizes = [parts.get(part, 0) for parts in rows.values()]
        figure.add_bar(
            y=list(rows),
            x=[size / scale for size in sizes],
            name=part,
            orientation="h",
            marker={"color": theme.MEMORY[part]},
            customdata=[units.size(size) for size in sizes],
            hovertemplate=f"{part}: %{{customdata}}<extra>%{{y}}</extra>",
        )
    figure.update_layout(
        barmode="stack",
        margin={"l": 8, "r": 8, "t": 30, "b": 40},
        height=110 + 44 * len(rows),
        legend={"orientation": "h", "y": 1.12, "x": 0, "yanchor": "bottom", "traceorder": "normal"},
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title=unit, rangemode="tozero")
    return figure


def memory_timeline(
    points: Sequence[tuple[str, int | None, Mapping[str, int]]], height: int = 340
) -> go.Figure:
    """Memory over the stretches of a step, stacked by part; the phases are marked along the top."""
    figure = go.Figure()
    unit, scale = _unit(max((sum(parts.values()) for _, _, parts in points), default=0))
    xs = list(range(len(points)))
    where = [phase if layer is None else f"{phase}, layer {layer}" for phase, layer, _ in points]
    for part in _parts(parts for _, _, parts in points):
        sizes = [parts.get(part, 0) for _, _, parts in points]
        figure.add_scatter(
            x=xs,
            y=[size / scale for size in sizes],
            name=part,
            stackgroup="memory",
            mode="lines",
            line={"width": 0, "color": theme.MEMORY[part]},
            fillcolor=theme.MEMORY[part],
            text=where,
            customdata=[units.size(size) for size in sizes],
            hovertemplate="%{customdata}<extra>" + part + "</extra>",
        )
    above = 0
    starts = [0, *(index for index in xs[1:] if points[index][0] != points[index - 1][0])]
    ends = [*starts[1:], len(xs)]
    for index, end in zip(starts, ends, strict=True):
        if end - index < len(xs) * LABEL_SHARE:
            continue  # too short a phase for its name
        figure.add_vline(x=index, line={"dash": "dot", "width": 1, "color": theme.QUIET})
        figure.add_annotation(
            x=index,
            y=1,
            yref="paper",
            text=points[index][0],
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            # In two lines by turns: on a narrow screen neighbours would run into each other.
            yshift=LABEL_LINE * above,
        )
        above = 1 - above
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 30 + LABEL_LINE, "b": 40},
        height=height,
        hovermode="x unified",
        legend={"orientation": "h", "y": -0.22, "x": 0},
    )
    figure.update_xaxes(title="course of the step, layer by layer", showticklabels=False, zeroline=False)
    figure.update_yaxes(title=f"{unit} alive", rangemode="tozero")
    return figure


def _unit(largest: int) -> tuple[str, float]:
    """The unit of an axis that reaches to ``largest`` bytes, as the tables beside it write such sizes."""
    return ("GB", 1e9) if largest >= 1e9 else ("MB", 1e6)


def _parts(rows: Iterable[Mapping[str, int]]) -> list[str]:
    """The parts that occur, in the order in which they are stacked everywhere."""
    present = {part for parts in rows for part, size in parts.items() if size}
    return [part for part in theme.MEMORY if part in present]
