"""Plotly figures. Each takes plain data and returns a figure; colours come from the palette."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from peft_lab.core import palette, units
from peft_lab.core.units import Source
from peft_lab.methods.counting.count import GroupCount
from peft_lab.ui import theme, web

CONFIG = {"displayModeBar": False, "responsive": True}
PLAIN = 450  # pixels that Plotly makes a figure high which says nothing
LABEL_SHARE = 0.06  # of the axis, that a phase needs for its name
LABEL_LINE = 14  # pixels, the height of such a name


def draw(figure: go.Figure, key: str, config: Mapping[str, Any] = CONFIG) -> None:
    """Draw a figure, with its height kept until the browser has the script that draws it."""
    tens = min((figure.layout.height or PLAIN) // 10, theme.MOST_TENS)
    with st.container(key=f"chart-{tens}-{key}"):
        st.plotly_chart(figure, key=key, config=dict(config))


def laid_out(
    figure: go.Figure,
    height: int,
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    top: int = 8,
    legend: Mapping[str, Any] | None = None,
    **layout: Any,
) -> go.Figure:
    """Set a figure's axes, height, top margin (pixels) and one-row legend at its ``y``; return it."""
    if legend is not None:
        layout["legend"] = {"orientation": "h", "x": 0, **legend}
    figure.update_layout(margin={"l": 8, "r": 8, "t": top, "b": 40}, height=height, **layout)
    figure.update_xaxes(**x)
    figure.update_yaxes(**y)
    return figure


def band(
    figure: go.Figure,
    xs: list[float],
    low: list[float],
    high: list[float],
    fill: str,
    group: str,
) -> None:
    """Add the area between two curves, in the legend's ``group``; the pointer does not see it."""
    figure.add_scatter(
        x=xs + xs[::-1],
        y=high + low[::-1],
        mode="lines",  # short curves would get a marker at every step of the band's edge
        fill="toself",
        fillcolor=fill,
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=group,
    )


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    height: int = 300,
    until: float | None = None,
    colours: Mapping[str, str] | None = None,
    log_y: bool = False,
    top: float | None = None,
    markers: bool = False,
) -> go.Figure:
    """Return lines over one axis: ``name: (xs, ys)``. ``until`` fixes the axis's end while data arrive, ``top`` the
    highest value that it shows."""
    figure = go.Figure()
    for index, (name, (xs, ys)) in enumerate(series.items()):
        colour = (colours or {}).get(name, theme.SERIES[index % len(theme.SERIES)])
        figure.add_scatter(
            x=list(xs),
            y=list(ys),
            name=name,
            mode="lines+markers" if markers else "lines" if len(xs) > 1 else "markers",
            line={"color": colour, "width": 2},
            hovertemplate=f"{x} %{{x}}<br>%{{y:.4g}}<extra>{name}</extra>",
        )  # fmt: skip
    across = {"title": x, "range": None if until is None else [0, until], "zeroline": False}
    up = {
        "title": y,
        "rangemode": "normal" if log_y else "tozero",
        "type": "log" if log_y else "linear",
    } | _to(top)
    above = {"y": 1.02, "yanchor": "bottom"}  # however many lines it takes
    return laid_out(
        figure, height, across, up, legend=above, showlegend=len(series) > 1, hovermode="x unified"
    )


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    x: str,
    height: int | None = None,
    colour: str = theme.TRAINABLE,
) -> go.Figure:
    """Return horizontal bars with their values, first label on top."""
    figure = go.Figure(go.Bar(y=list(labels), x=list(values), orientation="h", marker={"color": colour}))
    up = {"autorange": "reversed", "title": None}
    return laid_out(figure, height or 60 + 26 * len(labels), {"title": x}, up)


def _to(top: float | None) -> dict[str, Any]:
    """Return the range of an axis from zero to a little above ``top``; nothing for None."""
    return {} if top is None else {"range": [0, 1.05 * top or 1.0]}


def columns(
    xs: Sequence[float], ys: Sequence[float], x: str, y: str, height: int = 320, colour: str = theme.TRAINABLE,
    top: float | None = None,
) -> go.Figure:  # fmt: skip
    """Return vertical bars over whole numbers. ``top``: the highest value that the axis shows."""
    figure = go.Figure(
        go.Bar(
            x=list(xs),
            y=list(ys),
            marker={"color": colour},
            hovertemplate=f"{x} %{{x}}<br>%{{y:.4g}}<extra></extra>",
        )
    )
    # further apart their numbers would lie over each other
    few = len(xs) <= 20 and max(xs, default=0) - min(xs, default=0) <= 20
    up = {"title": y} | _to(top)
    return laid_out(figure, height, {"title": x, "dtick": 1 if few else None}, up, bargap=0.25)


def heatmap(
    matrix: Sequence[Sequence[float]], x: str, y: str, unit: str, labels_x: Sequence[str] | None = None,
    labels_y: Sequence[str] | None = None, diverging: bool = False, height: int = 320,
    limit: float | None = None,
) -> go.Figure:  # fmt: skip
    """Return a matrix of figures. ``diverging`` centres colours on zero; they end at ``limit`` or the largest value."""
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
    return laid_out(figure, height, {"title": x}, {"title": y, "autorange": "reversed"})


def memory_bars(rows: Mapping[str, Mapping[str, int]]) -> go.Figure:
    """Return one bar per row, made of its parts in bytes."""
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
    legend = {"y": 1.12, "yanchor": "bottom", "traceorder": "normal"}
    across, up = {"title": unit, "rangemode": "tozero"}, {"autorange": "reversed"}
    return laid_out(figure, 110 + 44 * len(rows), across, up, 30, legend, barmode="stack")


def memory_timeline(
    points: Sequence[tuple[str, int | None, Mapping[str, int]]], height: int = 340
) -> go.Figure:
    """Return memory over the stretches of a step, stacked by part; the phases are marked along the top."""
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
    starts = [0, *(index for index in xs[1:] if points[index][0] != points[index - 1][0])]
    ends = [*starts[1:], len(xs)]
    named = [at for at, end in zip(starts, ends, strict=True) if end - at >= len(xs) * LABEL_SHARE]
    for turn, index in enumerate(
        named
    ):  # in two lines by turns: on a narrow screen neighbours would run together
        figure.add_vline(x=index, line={"dash": "dot", "width": 1, "color": theme.QUIET})
        figure.add_annotation(
            x=index, y=1, yref="paper", text=points[index][0], showarrow=False, xanchor="left", yanchor="bottom",
            yshift=LABEL_LINE * (turn % 2),
        )  # fmt: skip
    across = {"title": "course of the step, layer by layer", "showticklabels": False, "zeroline": False}
    up = {"title": f"{unit} alive", "rangemode": "tozero"}
    return laid_out(figure, height, across, up, 30 + LABEL_LINE, {"y": -0.22}, hovermode="x unified")


def _unit(largest: int) -> tuple[str, float]:
    """Return the unit of an axis that reaches to ``largest`` bytes, and its size."""
    return ("GB", 1e9) if largest >= 1e9 else ("MB", 1e6)


def _parts(rows: Iterable[Mapping[str, int]]) -> list[str]:
    """Return the parts that occur, in the common stacking order."""
    present = {part for parts in rows for part, size in parts.items() if size}
    return [part for part in theme.MEMORY if part in present]


# ----------------------------------------
# Parameters by module as areas. What is trained can always be seen, and the caption says when it is enlarged.


VISIBLE = 0.05  # of the picture, that all trained areas together take at least
LEAST = 0.004  # of the picture, that one of them takes at least
_LAYERS = re.compile(r"^(.*?)\.?\{\}\.?(.*)$")


@dataclass
class Area:
    """One rectangle: a module's parameters of one state.

    Attributes:
        place: the part of the model that contains it, such as ``self_attn``.
        modules: the number of modules it represents.
        drawn: its size in the picture, in parameters; above ``parameters`` if trained and too small to see.
    """

    place: str
    label: str
    state: str
    parameters: int
    modules: int
    drawn: float

    @property
    def enlarged(self) -> bool:
        return self.drawn > self.parameters


def areas(tree: Sequence[GroupCount]) -> list[Area]:
    """Return an area for each module and state; a method's parameters join the module that they belong to."""
    bare = {group.module for group in tree if not group.added}
    found: dict[tuple[str, str, str], Area] = {}
    for group in tree:
        owner = _owner(group.module, bare)
        place, label = _named(owner)
        state = "trained" if group.role != "frozen" else "quantised" if group.quantised else "frozen"
        area = found.setdefault((place, label, state), Area(place, label, state, 0, group.count, 0.0))
        area.parameters += group.parameters
        area.modules = max(area.modules, group.count)
    kept = [area for area in found.values() if area.parameters]
    total, trained = sum(area.parameters for area in kept), sum(area.state == "trained" for area in kept)
    for area in kept:  # what is trained has at least the size that is seen
        least = max(LEAST, VISIBLE / trained) * total if area.state == "trained" else 0
        area.drawn = max(area.parameters, least)
    return kept


def _owner(module: str, bare: set[str]) -> str:
    """Return the model's own module that contains an added one; the added one itself if none does."""
    parts = module.split(".")
    inside = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((path for path in inside if path in bare), module)


def _named(path: str) -> tuple[str, str]:
    """Return a module's place and name: ``model.layers.{}.mlp.up_proj`` is ``up_proj`` in ``mlp``."""
    layered = _LAYERS.match(path)
    inside = (layered[2] if layered else path).split(".")
    if layered:
        return (inside[0] if len(inside) > 1 else "norms"), ".".join(inside[1:] or inside)
    return ("", inside[-1]) if len(inside) < 3 else (inside[-2], inside[-1])


def caption(all_areas: Sequence[Area]) -> str:
    """Return the meaning of areas and colours, and which are not to scale."""
    states = {area.state for area in all_areas}
    legend = ["**Grey** is frozen"] if "frozen" in states else []
    legend += ["**blue** is quantised"] if "quantised" in states else []
    legend += ["**orange** is trained"] if "trained" in states else []
    text = f"Area shows the number of parameters. {', '.join(legend)}."
    if any(area.enlarged for area in all_areas):
        trained = sum(area.parameters for area in all_areas if area.state == "trained")
        share = units.percent(100 * trained / sum(area.parameters for area in all_areas))
        text += (
            f" Orange is **not to scale**: it is {share} of the parameters, drawn large enough to be seen."
        )
    return text


def treemap(all_areas: Sequence[Area], height: int = 340) -> go.Figure:
    """Return the areas, grouped by place. Tiny areas are drawn larger; labels and figures keep the true values."""
    colours = {"trained": theme.TRAINABLE, "quantised": theme.QUANTISED, "frozen": theme.FROZEN}
    total = sum(area.parameters for area in all_areas)
    boxes: list[tuple[str, str, str, float, str, tuple[str, str, str]]] = []

    def told(parameters: int, note: str = "") -> tuple[str, str, str]:
        return f"{parameters:,}", units.percent(100 * parameters / total), note

    for place in dict.fromkeys(area.place for area in all_areas if area.place):
        inside = [area for area in all_areas if area.place == place]
        size, number = sum(area.drawn for area in inside), sum(area.parameters for area in inside)
        boxes.append((place, place, "", size, palette.CHART_AREA_PLACE, told(number)))
    for area in all_areas:
        identity = f"{area.place}/{area.label}/{area.state}"
        label = area.label + (f" ×{area.modules}" if area.modules > 1 else "")
        note = f"<br>{area.state}" + (", drawn larger than it is" if area.enlarged else "")
        what = told(area.parameters, note)
        boxes.append((identity, label, area.place, area.drawn, colours[area.state], what))
    ids, labels, parents, drawn, colour, notes = zip(*boxes, strict=True)
    figure = go.Figure(
        go.Treemap(
            ids=ids,
            labels=labels,
            parents=parents,
            values=drawn,
            customdata=notes,
            marker={"colors": colour, "line": {"width": 1, "color": palette.WHITE}},
            branchvalues="total",
            texttemplate="%{label}<br>%{customdata[0]}",
            hovertemplate=(
                "%{label}<br>%{customdata[0]} parameters<br>%{customdata[1]} of the model"
                "%{customdata[2]}<extra></extra>"
            ),
            tiling={"pad": 1},
            pathbar={"visible": False},
        )
    )
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 8}, height=height, uniformtext={"minsize": 10, "mode": "hide"}
    )
    return figure


# ----------------------------------------
# Stacked bars that grow from what they showed to what they show now: what a setting moved is seen moving.
#
# With ``prefers-reduced-motion`` they jump. The page's other charts are Plotly's; these are a few rows of HTML whose
# elements stay when figures change, which is what lets them move.


FAR = 3  # times the longest bar, beyond which a limit is not drawn to scale
_COLOURS = palette.variables(
    measured=palette.MEASURED, counted=palette.COUNTED, simulated=palette.SIMULATED, cited=palette.CITED,
    mark=palette.TRAINED,
)  # fmt: skip
_mount = st.components.v2.component(
    "peft_grown_bars",
    html='<div class="rows"></div>',
    css=web.read("grown_bars.css", COLOURS=_COLOURS, SOURCE_TINT=palette.SOURCE_TINT),
    js=web.read("grown_bars.js"),
)


@dataclass(frozen=True)
class Bar:
    """One row. ``parts``: bytes by part of the memory; empty if there is no figure, for the reason in ``note``."""

    label: str
    parts: Mapping[str, int]
    source: Source
    note: str = ""

    @property
    def total(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Limit:
    """A line across all rows: its bytes, and its label at the top."""

    size: int
    text: str


def grown_bars(bars: Sequence[Bar], key: str, limit: Limit | None = None, close: bool = False) -> None:
    """Draw the rows on one scale, with a legend of the parts in them. ``close``: draw label, bar and size side by side;
    the page names their source."""
    legend = [{"name": name, "colour": theme.MEMORY[name]} for name in _parts(bar.parts for bar in bars)]
    rows = [
        {
            "label": bar.label,
            "parts": [
                {"name": name, "size": size, "text": units.size(size)} for name, size in bar.parts.items()
            ],
            "text": units.size(bar.total) if bar.parts else "–",
            "source": str(bar.source) if bar.parts else "",
            "note": bar.note,
        }
        for bar in bars
    ]
    line = None
    if limit is not None:
        # A limit far beyond the bars would shrink them to nothing: it is named only.
        drawn = limit.size <= FAR * max((bar.total for bar in bars), default=0)
        line = {"size": limit.size, "text": limit.text, "drawn": drawn}
    _mount(key=key, data={"rows": rows, "legend": legend, "limit": line, "close": close})
