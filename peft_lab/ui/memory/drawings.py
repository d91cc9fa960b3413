"""Figures of the Memory page alone. Each takes plain data and returns a Plotly figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from peft_lab import palette, units
from peft_lab.ui import theme
from peft_lab.ui.components.grown_bars import FAR

_MARGIN = {"l": 8, "r": 8, "t": 30, "b": 40}
_BAND_OPACITY = 0.2


def cost_curves(
    series: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    x: str,
    now: int,
    limit: int,
    device: str,
    colours: Mapping[str, str],
    height: int = 400,
) -> go.Figure:
    """Needed memory over a size, a line for each method: ``title: (sizes, bytes)``.

    ``now``: the size that is set, marked; ``limit``: the device's memory in bytes. Lines are straight between the
    simulated sizes, which are the marked points.
    """
    figure = go.Figure()
    for name, (xs, ys) in series.items():
        figure.add_scatter(
            x=list(xs),
            y=[size / 1e9 for size in ys],
            name=name,
            mode="lines+markers",
            line={"color": colours[name], "width": 2},
            customdata=[units.size(size) for size in ys],
            hovertemplate="%{customdata}<extra>" + name + "</extra>",
        )
    largest = max(max(ys) for _, ys in series.values())
    far = limit > FAR * largest
    if not far:
        figure.add_hline(y=limit / 1e9, line={"dash": "dash", "width": 2, "color": theme.QUIET})
    figure.add_annotation(
        x=0, xref="paper", xanchor="left",
        y=1, yref="paper", yanchor="bottom",  # above the plot, where no line crosses it
        text=("" if far else "– – ") + f"{device}: {units.size(limit)}" + (", far above" if far else ""),
        showarrow=False,
    )  # fmt: skip
    figure.add_vline(x=now, line={"dash": "dot", "width": 1, "color": theme.QUIET})
    figure.update_layout(
        margin=_MARGIN,
        height=height,
        hovermode="x unified",
        showlegend=True,
        legend={"orientation": "h", "y": -0.18, "x": 0, "yanchor": "top"},
    )
    figure.update_xaxes(title=x, rangemode="tozero", zeroline=False)
    figure.update_yaxes(title="GB the device must have", rangemode="tozero")
    return figure


def against(
    names: Sequence[str], published: Sequence[int], simulated: Sequence[int], band: float, height: int = 430
) -> go.Figure:
    """Simulated over published bytes, a point for each row, with the line of equality and a band of ±``band``%."""
    low, high = min(*published, *simulated) / 1e9 * 0.94, max(*published, *simulated) / 1e9 * 1.04
    ends = [low, high]
    figure = go.Figure()
    for factor, fill in ((1 - band / 100, None), (1 + band / 100, "tonexty")):
        figure.add_scatter(
            x=ends, y=[factor * end for end in ends], mode="lines", line={"width": 0},
            fill=fill, fillcolor=palette.faint(theme.QUIET, _BAND_OPACITY), hoverinfo="skip", name=f"within {band:g}%",
            showlegend=fill is not None,
        )  # fmt: skip
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"width": 1, "color": theme.QUIET}, hoverinfo="skip", name="equal"
    )
    figure.add_scatter(
        x=[size / 1e9 for size in published],
        y=[size / 1e9 for size in simulated],
        mode="markers",
        marker={"size": 9, "color": theme.TRAINABLE, "line": {"width": 1, "color": palette.WHITE}},
        text=list(names),
        customdata=[
            [units.size(p), units.size(s), f"{100 * (s / p - 1):+.1f}%"]
            for p, s in zip(published, simulated, strict=True)
        ],
        hovertemplate="published %{customdata[0]}<br>simulated %{customdata[1]}<br>%{customdata[2]}"
        "<extra>%{text}</extra>",
        name="one published run",
    )
    figure.update_layout(
        margin=_MARGIN, height=height, legend={"orientation": "h", "y": -0.18, "x": 0, "yanchor": "top"}
    )
    figure.update_xaxes(title="published peak, GB", range=ends, zeroline=False)
    figure.update_yaxes(title="simulated peak, GB", range=ends, zeroline=False)
    return figure


def errors(names: Sequence[str], percents: Sequence[float], band: float, height: int = 430) -> go.Figure:
    """Every row's error in percent, largest overestimate on top: a bar each, with the band of ±``band``%."""
    order = sorted(range(len(names)), key=lambda index: percents[index])
    figure = go.Figure(
        go.Bar(
            y=[names[index] for index in order],
            x=[percents[index] for index in order],
            orientation="h",
            marker={
                "color": [theme.TRAINABLE if abs(percents[i]) > band else theme.SERIES[2] for i in order]
            },
            hovertemplate="%{x:+.2f}%<extra>%{y}</extra>",
        )
    )
    for edge in (-band, band):
        figure.add_vline(x=edge, line={"dash": "dot", "width": 1, "color": theme.QUIET})
    reach = max(band, *(abs(one) for one in percents)) * 1.1
    figure.update_layout(margin=_MARGIN, height=height, showlegend=False, bargap=0.3)
    figure.update_xaxes(title="simulated against published, %", range=[-reach, reach], zeroline=True)
    figure.update_yaxes(tickfont={"size": 10}, dtick=1)
    return figure
