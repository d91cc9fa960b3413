"""The landscape's figure: a figure over the learning rate or another axis, with the spread over seeds as bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from peft_lab.palette import faint
from peft_lab.recipes.advice import figure as written
from peft_lab.sweep.landscape import METRIC, Line, best_of, told
from peft_lab.sweep.points import FULL
from peft_lab.ui import theme


@dataclass(frozen=True)
class Across:
    """What lines go over: what stands at the axis, and what a value is called under the pointer."""

    title: str = "peak learning rate"
    name: str = "rate"
    logarithmic: bool = True
    ticks: tuple[float, ...] = ()  # none: Plotly's own, of a logarithmic axis its powers of ten


RATES = Across()


def landscape(lines: Sequence[Line], shown: str, title: str, across: Across = RATES) -> go.Figure:
    """A line for each configuration, full fine-tuning dashed; its best rate is filled, the best of all a star.

    Args:
        shown: ``loss`` or ``metric``. title: what stands at its axis, with its unit.
    """
    figure = go.Figure()
    best = best_of(lines, shown)
    full = [line for line in lines if line.method == FULL]
    lora = [line for line in lines if line.method != FULL]
    for line in lines:
        same = full if line.method == FULL else lora
        alone = line.method == FULL and len(full) == 1
        colour = theme.QUIET if alone else theme.SERIES[same.index(line) % len(theme.SERIES)]
        rates = [spot.rate for spot in line.spots]
        if any(spot.seeds > 1 for spot in line.spots):
            figure.add_scatter(
                x=rates + rates[::-1],
                y=[spot.high for spot in line.spots] + [spot.low for spot in line.spots][::-1],
                mode="lines",
                fill="toself",
                fillcolor=faint(colour, theme.BAND_OPACITY),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=line.label,
            )
        at = None if line.best is None else line.best.rate
        star = best is not None and line is best[0]
        figure.add_scatter(
            x=rates,
            y=[spot.mean for spot in line.spots],
            name=line.label,
            legendgroup=line.label,
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": "dash" if line.method == FULL else "solid"},
            marker={
                "color": colour,
                "size": [17 if star and rate == at else 10 if rate == at else 6 for rate in rates],
                "symbol": [
                    "star" if star and rate == at else "circle" if rate == at else "circle-open"
                    for rate in rates
                ],
            },
            customdata=[
                (
                    written(_whole(spot.rate)),
                    *(told(value, shown) for value in (spot.mean, spot.low, spot.high)),
                    spot.seeds,
                )
                for spot in line.spots
            ],
            hovertemplate=_hover(line.label, across.name),
        )
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 40},
        height=440,
        legend={"orientation": "h", "y": -0.2, "x": 0, "yanchor": "top", "itemclick": False},
    )
    figure.update_xaxes(**axis(across))
    figure.update_yaxes(title=title, tickformat=theme.PERCENT_TICKS if shown == METRIC else None)
    return figure


def axis(across: Across) -> dict[str, Any]:
    """Its settings for Plotly."""
    found: dict[str, Any] = {"title": across.title, "zeroline": False}
    if across.logarithmic:
        found |= {"type": "log", "dtick": 1, "exponentformat": "power"}
    if across.ticks:
        found |= {"tickvals": across.ticks, "ticktext": [written(_whole(tick)) for tick in across.ticks]}
    return found


def _whole(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def _hover(label: str, name: str) -> str:
    """What a point says under the pointer, from its custom data in their order."""
    rate, mean, low, high, seeds = (f"%{{customdata[{place}]}}" for place in range(5))
    return f"{name} {rate}: {mean}<br>{low} to {high}, seeds: {seeds}<extra>{label}</extra>"
