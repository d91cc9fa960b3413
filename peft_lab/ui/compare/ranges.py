"""What settings are worth: published runs side by side, with what re-runs moved."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import plotly.graph_objects as go

from peft_lab.published import PublishedRow
from peft_lab.ui import theme

LINE = 24  # pixels
_DEFAULT, _BEST, _OTHER, _AGAIN = (
    "called default",
    "best of its method",
    "other settings",
    "the same, run again",
)

_MARKERS = {
    _AGAIN: {"size": 9, "symbol": "x-thin", "line": {"width": 1.5, "color": theme.SERIES[1]}},
    _OTHER: {"size": 8, "symbol": "circle-open", "color": theme.QUIET, "line": {"width": 2}},
    _BEST: {"size": 10, "symbol": "circle", "color": theme.TRAINABLE},
    _DEFAULT: {"size": 10, "symbol": "diamond-open", "color": theme.SERIES[2], "line": {"width": 2}},
}


def ranges(
    lines: Mapping[str, Sequence[PublishedRow]], best: Collection[str], moved: float | None, measure: str
) -> go.Figure:
    """A line for each of ``lines``, from its worst run to its best, the first line on top.

    Args:
        lines: by what stands at each, its runs, best first.
        best: the experiments that are drawn as the best.
        moved: what a re-run usually moved, drawn at every run.
        measure: what stands at the axis.
    """
    figure = go.Figure()
    points: dict[str, list[tuple[float, str, str]]] = {name: [] for name in _MARKERS}
    for label, found in lines.items():
        figure.add_scatter(
            x=[found[-1].accuracy, found[0].accuracy], y=[label, label], mode="lines",
            line={"color": theme.QUIET, "width": 2}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        for row in found:
            points[_AGAIN] += [(value, label, row.title) for value in row.reruns]
            drawn = [_BEST] if row.experiment in best else []
            drawn += [_DEFAULT] if row.experiment.endswith("-default") else []
            for name in drawn or [_OTHER]:
                points[name].append((row.accuracy, label, row.title))
    for name, each in points.items():
        figure.add_scatter(
            x=[value for value, _, _ in each],
            y=[label for _, label, _ in each],
            mode="markers",
            name=name,
            marker=_MARKERS[name],
            error_x=None if moved is None or name == _AGAIN else _bar(moved),
            text=[title for _, _, title in each],
            hovertemplate="%{x:.1%}<extra>%{text}</extra>",
            showlegend=bool(each),
        )
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 24, "b": 110},
        height=150 + LINE * len(lines),
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "x": 0,
            "yanchor": "bottom",
            "itemclick": False,
        },
    )
    figure.update_xaxes(title=measure, tickformat=theme.PERCENT_TICKS, zeroline=False)
    figure.update_yaxes(title=None, categoryorder="array", categoryarray=list(lines)[::-1], dtick=1)
    return figure


def _bar(moved: float) -> dict[str, object]:
    return {"type": "constant", "value": moved, "thickness": 1, "width": 3}
