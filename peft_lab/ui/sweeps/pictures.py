"""Figures of the Sweeps page alone. Each takes plain data and returns a Plotly figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

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
MOST_NAMED = 8  # values that are written along an axis of the parallel coordinates


def coloured(places: Sequence[Place], x: Across, y: Across, figure: str, title: str) -> go.Figure:
    """A point for each place, coloured by its mean; the best of those with the most seeds is a star."""
    most = max(place.seeds for place in places)
    sure = [place for place in places if place.seeds == most]
    best = (max if figure == METRIC else min)(sure, key=lambda place: place.mean)
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

    Drawn as plain lines: Plotly's own parallel coordinates need WebGL, which not every machine has.
    """
    done = [each for each in settings if each.mean(figure) is not None]
    means = [mean for each in done if (mean := each.mean(figure)) is not None]
    axes = [*(_axis(done, name) for name in names), _result(means, figure, title)]
    drawn = go.Figure()
    for number, line in enumerate(axes):
        drawn.add_scatter(x=[number, number], y=[0, 1], mode="lines", line={"color": theme.QUIET, "width": 1},
                          hoverinfo="skip", showlegend=False)  # fmt: skip
        for at, text in line.ticks:
            last = number == len(axes) - 1
            drawn.add_annotation(
                x=number,
                y=at,
                text=text,
                showarrow=False,
                xanchor="left" if last else "right",
                xshift=5 if last else -5,
                yshift=_beside(at) if number > 0 and not last else 0,  # lines cross there
            )
    good = _shares(means, reverse=figure != METRIC)
    # The best is drawn last, over the others.
    for number in sorted(range(len(done)), key=good.__getitem__):
        text = f"{picture.told(done[number].values)}<br>{told(means[number], kind_of(figure))}"
        drawn.add_scatter(
            x=list(range(len(axes))),
            y=[line.at[number] for line in axes],
            mode="lines+markers",
            line={"color": _mixed(good[number]), "width": 3 if good[number] == max(good) else 1.5},
            marker={"color": _mixed(good[number]), "size": 5},
            hovertext=text,
            hoverinfo="text",
            showlegend=False,
        )
    drawn.update_layout(margin={**_MARGIN, "l": 48, "r": 48, "t": 16}, height=380)
    drawn.update_xaxes(tickvals=list(range(len(axes))), ticktext=[line.title for line in axes],
                       range=[-0.15, len(axes) - 0.85], showgrid=False, zeroline=False)  # fmt: skip
    drawn.update_yaxes(visible=False, range=[-0.08, 1.08])
    return drawn


@dataclass(frozen=True)
class _Line:
    """An axis: where each setting crosses it, from 0 to 1, and what is written along it."""

    title: str
    at: list[float]
    ticks: list[tuple[float, str]]


def _axis(settings: Sequence[Setting], name: str) -> _Line:
    """Of what was varied: numbers where they are, on a logarithm where that is how they spread; words one above the
    other, and so what a method lacks."""
    values = picture.values(settings, name)
    lacking = any(each.values[name] is None for each in settings)
    if lacking or not picture.axes(settings, [name]):
        order = [*values, *([None] if lacking else [])]
        places = {str(value): share for value, share in zip(order, _shares(range(len(order))), strict=True)}
        ticks = [(places[str(value)], "–" if value is None else written(value)) for value in order]
        return _Line(picture.title(name), [places[str(each.values[name])] for each in settings], ticks)
    placed = [math.log10(value) if picture.logarithmic(settings, name) else value for value in values]
    shares = dict(zip(values, _shares(placed), strict=True))
    shown = values if len(values) <= MOST_NAMED else [values[0], values[len(values) // 2], values[-1]]
    return _Line(
        picture.title(name),
        [shares[each.values[name]] for each in settings],
        [(shares[value], written(value)) for value in shown],
    )


def _result(means: Sequence[float], figure: str, title: str) -> _Line:
    shares = _shares(means)
    ends = {shares[means.index(value)]: told(value, kind_of(figure)) for value in (min(means), max(means))}
    return _Line(title.partition(",")[0], shares, list(ends.items()))


def _beside(at: float) -> int:
    """Pixels by which a value is written above its place on an axis; below it in the lower half."""
    return 9 if at >= 0.5 else -9


def _shares(values: Sequence[float], reverse: bool = False) -> list[float]:
    """Where values lie between the lowest and the highest; in the middle where all are the same."""
    low, high = min(values), max(values)
    found = [(value - low) / (high - low) if high > low else 0.5 for value in values]
    return [1 - share for share in found] if reverse else found


def _mixed(share: float) -> str:
    """The colour of the scale at a share of it."""
    return str(sample_colorscale([list(stop) for stop in SCALE], [share])[0])
