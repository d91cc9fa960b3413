"""The landscape's figure: a held-out figure over the learning rate, with the spread over seeds as bands."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from peft_lab.palette import faint
from peft_lab.recipes.advice import figure as written
from peft_lab.sweep.landscape import METRIC, Line, best_of, told
from peft_lab.sweep.points import FULL
from peft_lab.ui import theme


def landscape(lines: Sequence[Line], shown: str, title: str) -> go.Figure:
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
                    written(spot.rate),
                    *(told(value, shown) for value in (spot.mean, spot.low, spot.high)),
                    spot.seeds,
                )
                for spot in line.spots
            ],
            hovertemplate=_hover(line.label),
        )
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 40},
        height=440,
        legend={"orientation": "h", "y": -0.2, "x": 0, "yanchor": "top", "itemclick": False},
    )
    figure.update_xaxes(
        title="peak learning rate", type="log", dtick=1, exponentformat="power", zeroline=False
    )
    figure.update_yaxes(title=title, tickformat=theme.PERCENT_TICKS if shown == METRIC else None)
    return figure


def _hover(label: str) -> str:
    """What a point says under the pointer, from its custom data in their order."""
    rate, mean, low, high, seeds = (f"%{{customdata[{place}]}}" for place in range(5))
    return f"rate {rate}: {mean}<br>{low} to {high}, seeds: {seeds}<extra>{label}</extra>"
