"""What settings are worth: every published run of a method on one line, with what re-runs moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import plotly.graph_objects as go

from peft_lab.published import PublishedRow
from peft_lab.ui import theme

LINE = 24  # pixels for each method
_DEFAULT, _BEST, _OTHER, _AGAIN = (
    "called default",
    "best of its method",
    "other settings",
    "the same, run again",
)


def ranges(families: Mapping[str, Sequence[PublishedRow]], moved: float | None, measure: str) -> go.Figure:
    """A line for each method, from its worst run to its best, best method on top.

    Args:
        families: each method's runs, best first.
        moved: what a re-run usually moved, drawn at the best and at the one called default.
        measure: what stands at the axis.
    """
    figure = go.Figure()
    for kind, found in families.items():
        ends = [found[-1].accuracy, found[0].accuracy]
        figure.add_scatter(
            x=ends, y=[kind, kind], mode="lines", line={"color": theme.QUIET, "width": 2}, hoverinfo="skip",
            showlegend=False,
        )  # fmt: skip
    runs = [(row, found[0]) for found in families.values() for row in found]
    groups = {
        _AGAIN: [(row.kind, value, row.title) for row, _ in runs for value in row.reruns],
        _OTHER: _points(row for row, best in runs if row is not best and not _plain(row)),
        _BEST: _points(row for row, best in runs if row is best),
        _DEFAULT: _points(row for row, _ in runs if _plain(row)),
    }
    for name, points in groups.items():
        figure.add_scatter(
            x=[value for _, value, _ in points],
            y=[kind for kind, _, _ in points],
            mode="markers",
            name=name,
            marker=_MARKERS[name],
            error_x=_bar(moved) if name in (_BEST, _DEFAULT) else None,
            text=[title for _, _, title in points],
            hovertemplate="%{x:.1%}<extra>%{text}</extra>",
        )
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 40},
        height=110 + LINE * len(families),
        legend={"orientation": "h", "y": 1.01, "x": 0, "yanchor": "bottom", "itemclick": False},
    )
    figure.update_xaxes(title=measure, tickformat=theme.PERCENT_TICKS, zeroline=False)
    figure.update_yaxes(title=None, categoryorder="array", categoryarray=list(families)[::-1], dtick=1)
    return figure


_MARKERS = {
    _AGAIN: {"size": 9, "symbol": "x-thin", "line": {"width": 1.5, "color": theme.SERIES[1]}},
    _OTHER: {"size": 8, "symbol": "circle-open", "color": theme.QUIET, "line": {"width": 2}},
    _BEST: {"size": 10, "symbol": "circle", "color": theme.TRAINABLE},
    _DEFAULT: {"size": 10, "symbol": "diamond-open", "color": theme.SERIES[2], "line": {"width": 2}},
}


def _plain(row: PublishedRow) -> bool:
    """Whether the comparison itself calls these settings the default ones."""
    return row.experiment.endswith("-default")


def _points(rows: Iterable[PublishedRow]) -> list[tuple[str, float, str]]:
    return [(row.kind, row.accuracy, row.title) for row in rows]


def _bar(moved: float | None) -> dict[str, object] | None:
    return None if moved is None else {"type": "constant", "value": moved, "thickness": 1, "width": 3}
