"""A comparison's results: findings, a table with the source of each figure, trade-offs, curves, and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from peft_lab.core import units
from peft_lab.core.palette import faint
from peft_lab.core.units import Source
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import model_title
from peft_lab.studies.compare import results
from peft_lab.studies.compare.results import AXES, Axis
from peft_lab.training.tasks.own import each_of, task_title
from peft_lab.ui import theme
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.charts import band, laid_out
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import error_line
from peft_lab.ui.foreign import plain

Row = Mapping[str, Any]
ABSENT = "–"
#: Fields of a row that hold no single figure or repeat others.
_NOT_IN_CSV = ("loss", "values", "runs", "metric_values", "title")


@dataclass(frozen=True)
class ResultColumn:
    """A column. ``shown`` writes a row's figure; ``needs``: without it, a dash."""

    title: str
    source: Source | None
    shown: Callable[[Row], str]
    needs: str


def table_columns(found: Mapping[str, Any]) -> list[ResultColumn]:
    """Return one document's columns; forgetting only where the model can show it."""
    measured = Source.MEASURED
    made = [
        ResultColumn("Trained", Source.COUNTED, _trained, "trainable"),
        ResultColumn(found["metric"]["title"], measured, _metric, "metric_mean"),
        ResultColumn("Training", measured, _training, "seconds"),
        ResultColumn("Peak memory", measured, lambda row: units.size(row["peak_bytes"]), "peak_bytes"),
        ResultColumn("Stored", measured, lambda row: units.size(row["stored_bytes"]), "stored_bytes"),
        ResultColumn(f"Added per {found['inference_unit']}", measured, _added, "added_seconds"),
        ResultColumn("Merges", None, results.merging, "mergeable"),
    ]
    if any(row["forgetting_change"] is not None for row in found["rows"]):
        made.append(ResultColumn("Loss on unrelated text", measured, _forgetting, "forgetting_change"))
    return made


def _trained(row: Row) -> str:
    share = "" if row["percent"] is None else f" · {units.percent(row['percent'])}"
    return f"{units.short_count(row['trainable'])}{share}"


def _metric(row: Row) -> str:
    spread = "" if row["metric_std"] is None else f" ± {100 * row['metric_std']:.1f}"
    return f"{100 * row['metric_mean']:.1f}{spread}%"


def _training(row: Row) -> str:
    mean, spread = row["seconds"], row["seconds_std"]
    return units.seconds(mean) if spread is None else units.spread_seconds(mean, spread)


def _added(row: Row) -> str:
    share, spread = row["added_seconds"] / row["base_inference_seconds"], row["added_seconds_std"]
    within = "" if spread is None else f" ± {1000 * spread:.1f}"
    return f"{1000 * row['added_seconds']:+z.1f}{within} ms · {share:+z.0%}"


def _forgetting(row: Row) -> str:
    return f"{row['forgetting_before']:.2f} → {row['forgetting_after']:.2f}"


def table_rows(found: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, ...]], list[str]]:
    """Return the heading, a row per method, those of the front with a star, and the reasons of those not done."""
    shown, front = table_columns(found), set(found["pareto"])
    rows, told = [], []
    for row in found["rows"]:
        if row["status"] != "done":
            end = f": {plain(row['why'])}" if row["why"] else "."
            told.append(f"- **{plain(row['title'])}**: {row['status'].capitalize()}{end}")
        if row["metric_mean"] is None and row["trainable"] is None:
            continue
        star = "★ " if row["method"] in front else ""
        cells = (one.shown(row) if row.get(one.needs) is not None else ABSENT for one in shown)
        rows.append((f"{star}{row['title']}", *cells))
    return ["Method", *(one.title for one in shown)], rows, told


def as_csv(found: Mapping[str, Any]) -> str:
    """Return one line per method with its figures in plain units, and a column for each seed's score."""
    plan = found["plan"]
    names = [name for name in found["rows"][0] if name not in _NOT_IN_CSV]
    seeds = [f"{found['metric']['name']}_seed_{seed}" for seed in plan["seeds"]]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["model", "task", "steps", "batch", "held_out_rows", *names, *seeds])
    for row in found["rows"]:
        scored = dict(zip(row["seeds"], row["metric_values"], strict=False))
        setting = [plan["model"], plan["task"], plan["steps"], plan["batch"], found["metric"]["rows"]]
        figures = [
            " ".join(map(str, row[name])) if isinstance(row[name], list) else row[name] for name in names
        ]
        writer.writerow([*setting, *figures, *(scored.get(seed) for seed in plan["seeds"])])
    return file.getvalue()


GIGA = 1e10  # bytes, from which an axis is in GB
WIDE = 8  # times the smallest value, from which an axis is logarithmic
CLOSE = 0.1  # a span of shares, below which whole percents would repeat along an axis
FEW = 3  # bands that lie over each other at full strength; more are paler
SMOOTH = 12  # a curve is averaged over this part of its steps
BELOW = {"y": -0.27, "yanchor": "top"}  # the legend


def plot(figure: go.Figure, key: str, name: str) -> None:
    """Draw a figure with a button that saves it as ``name`` in SVG, without any other program."""
    saves = {"modeBarButtons": [["toImage"]], "toImageButtonOptions": {"format": "svg", "filename": name}}
    charts.draw(figure, key, {"displayModeBar": True, "displaylogo": False, "responsive": True, **saves})


def method_colours() -> dict[str, str]:
    """Return each method's colour, the same in every figure."""
    return {slug: theme.SERIES[index % len(theme.SERIES)] for index, slug in enumerate(all_methods())}


def smooth(values: Sequence[float | None], window: int) -> list[float | None]:
    """Return means over the latest ``window`` values; over fewer at the start."""
    means: list[float | None] = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - window) : end] if value is not None]
        means.append(sum(known) / len(known) if known else None)
    return means


def learning_curves(rows: Sequence[Row]) -> go.Figure:
    """Return each method's training loss, averaged over seeds and the latest steps, in a band of one deviation."""
    figure = go.Figure()
    palette = method_colours()
    for row in rows:
        window = max(1, len(row["loss"]["mean"]) // SMOOTH)
        means = smooth(row["loss"]["mean"], window)
        spreads = smooth(row["loss"]["std"], window)
        steps: list[float] = list(range(1, len(means) + 1))
        colour = palette[row["method"]]
        if spreads and spreads[0] is not None:
            both = [(mean or 0.0, spread or 0.0) for mean, spread in zip(means, spreads, strict=True)]
            low, high = [mean - spread for mean, spread in both], [mean + spread for mean, spread in both]
            fill = faint(colour, theme.BAND_OPACITY * min(1.0, FEW / len(rows)))
            band(figure, steps, low, high, fill, row["method"])
        figure.add_scatter(
            x=steps,
            y=means,
            name=row["title"],
            legendgroup=row["method"],
            mode="lines",
            line={"color": colour, "width": 2},
            hovertemplate="%{y:.3f}<extra>" + row["title"] + "</extra>",
        )
    longest = max((len(row["loss"]["mean"]) for row in rows), default=0)
    across = {"title": "step", "zeroline": False, "dtick": 1 if longest <= SMOOTH else None}
    up = {"title": "training loss (nats)"}
    return laid_out(figure, 420, across, up, legend=BELOW, hovermode="x unified")


@dataclass(frozen=True)
class _Side:
    """One axis of a scatter plot: its title, the unit it is drawn in, and that unit's size."""

    axis: Axis
    title: str
    unit: str
    size: float

    @classmethod
    def of(cls, axis: Axis, title: str, points: Iterable[Row]) -> _Side:
        if axis.unit == "bytes":
            large = max((row[axis.name] for row in points), default=0.0) >= GIGA
            return cls(axis, title, "GB", 1e9) if large else cls(axis, title, "MB", 1e6)
        return cls(axis, title, {"seconds": "s", "nats/token": "nats/token"}.get(axis.unit, ""), 1.0)

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
    """Return rows as points on two axes, with spreads as bars if known; a line joins the front. ``palette``: colours by
    method, for others grey and no place in the legend; ``named``: methods whose names stand at their points."""
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
    x_axis, y_axis = (side.layout(points.values()) for side in (across, up))
    laid_out(figure, 440, x_axis, y_axis, 24, {**BELOW, "itemclick": False})
    return figure.update_layout(margin_r=24)


def _places(names: Sequence[str], front: Sequence[Row], y: Axis) -> dict[str, str]:
    """Return the position of each name at its point: off the front's line, at its ends inside the plot."""
    rises = len(front) < 2 or front[-1][y.name] >= front[0][y.name]
    places = dict.fromkeys(names, "top left" if rises else "top right")
    end = 0 if rises else -1
    if names and names[end] == front[end]["method"]:
        places[names[end]] = "middle right" if rises else "bottom center"
    return places


def _scale(values: Sequence[float], axis: Axis) -> dict[str, Any]:
    """Return an axis's scale: logarithmic if the drawn values span a wide range; percent for a share."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if axis.unit == "share":
        ticks = theme.FINE_PERCENT_TICKS if high - low < CLOSE else theme.PERCENT_TICKS
        whole = {"clipmax": 1} if high <= 1 else {}  # equal scores were given room up to 140%
        return {"type": "linear", "tickformat": ticks, "rangemode": "nonnegative", "autorangeoptions": whole}
    if low <= 0 or high <= WIDE * low:
        return {"type": "linear"}
    ends = math.log10(low), math.log10(high)
    room = (ends[1] - ends[0]) / 10
    step = 1 if ends[1] - ends[0] > 2 else theme.FINE_TICKS
    return {"type": "log", "range": [ends[0] - room, ends[1] + room], "dtick": step}


Document = Mapping[str, Any]


def show(found: Document, controls: Controls[Any]) -> None:
    """Draw the results below the progress, until a run is done only the table; ``controls`` hold the axes x and y."""
    scored = [row for row in found["rows"] if row["metric_mean"] is not None]
    with st.container(key="compare-found"):  # two columns on a wide screen
        with st.container():
            if scored:
                st.markdown(f"### Findings {figures.badge('measured')}")
                _sentences(found)
            with st.expander("Every figure of every method", expanded=not scored):
                heads, rows, told = table_rows(found)
                counted, measured = figures.badge("counted"), figures.badge("measured")
                st.markdown(f":small[Trained: {counted} All other figures: {measured}]")
                with st.container(key="compare-table"):
                    figures.table(heads, rows, numeric=range(1, len(heads)), fold=True)
                st.markdown("\n".join(told))
                if scored:
                    st.markdown(_place(found))
                    _exports(found)
        if not scored:
            return
        with st.container():
            _plots(found, controls)
            with st.expander("Learning curves"):
                window = max(1, found["plan"]["steps"] // SMOOTH)
                latest = f" and the last {window} steps" if window > 1 else ""
                st.markdown(
                    f"Training loss: the mean over seeds{latest}, with a band of one standard deviation. All methods "
                    f"see the same {each_of(found['plan']['task'])}s in the same order. {figures.badge('measured')}"
                )
                curves = learning_curves([row for row in scored if row["loss"]["mean"]])
                plot(curves, "compare-curves", f"{found['id']}-curves")


def _sentences(found: Document) -> None:
    st.markdown("\n".join(f"- {sentence}" for sentence in found["says"]))
    if not found["pairs"]:
        return
    titles = {row["method"]: row["title"] for row in found["rows"]}
    pairs = len(found["pairs"])
    with st.expander(f"All {pairs} pairs" if pairs > 1 else "The pair"):
        figures.table(
            ("Better", "Worse", "Difference (points)", "Noise (points)", "Verdict"),
            [
                (
                    titles[pair["better"]],
                    titles[pair["worse"]],
                    f"{100 * pair['difference']:.1f}",
                    f"{100 * pair['noise']:.1f}",
                    "different" if pair["apart"] else "noise",
                )
                for pair in found["pairs"]
            ],
            numeric=(2, 3),
        )
        st.markdown(
            "A difference counts only if it exceeds the noise: twice the standard deviation of the difference over "
            f"these seeds. {figures.badge('measured')}"
        )


def _place(found: Document) -> str:
    """Return where and when the figures were measured, and which methods have a star."""
    places = "; ".join(
        f"{machine['cores']} cores of {plain(machine['processor'])}, {units.size(machine['memory_bytes'])} of memory"
        for machine in found["machines"]
    )
    note = f" {plain(found['note'])}" if found.get("note") else ""
    device = plain(f"{found['device']}, {found['dtype']}")
    names = axis_titles(found)
    x, y = (names[found["pareto_axes"][name]].lower() for name in "xy")
    return (
        f"On {places or 'an unknown machine'} ({device}), {plain(found['created'])}.{note} ★: the Pareto front "
        f"of {x} and {y}. To beat one of these methods in one figure, another method has to be worse in the other."
    )


def _how(found: Document) -> str:
    versions = ", ".join(f"{name} {' and '.join(each)}" for name, each in found["packages"].items())
    python = ", ".join(dict.fromkeys(machine["python"] for machine in found["machines"]))
    head = (
        " The task's head is also trained but not counted."
        if any(row["head"] for row in found["rows"])
        else ""
    )
    missing = next((row["forgetting_why"] for row in found["rows"] if row["forgetting_why"]), "")
    known = next((row for row in found["rows"] if row["forgetting_tokens"]), None)
    before = [row["metric_before"] for row in found["rows"] if row["metric_before"] is not None]
    low, high = f"{min(before):.1%}", f"{max(before):.1%}"
    texts = each_of(found["plan"]["task"]) != "image"  # images are read whole
    read = f"; rows are cut at {found['plan']['max_length']} tokens" if texts else ""
    parts = [
        f"Trained: the trainable parameters of the adapted model {figures.badge('counted')}.{head}",
        f"All other figures: the mean over seeds, ± the sample standard deviation {figures.badge('measured')}.",
        f"{found['metric']['title']} before training: {low if low == high else f'{low} to {high}'}.",
        "Peak memory: the most bytes that tensors take at any moment of a training step. The table shows the "
        "largest value over the seeds.",
        "Stored: the size of the adapter file. Training: the time of the steps alone.",
        f"Added per {found['inference_unit']}: the extra time of a request with an unmerged adapter, compared with "
        "the base model in its own precision (median, one request at a time).",
        f"Each method uses its default learning rate{read}.",
        f"Python {python}, {versions}.",
    ]
    if missing:
        parts.insert(-2, f"Forgetting: {missing}.")
    elif known:
        parts.insert(
            -2,
            f"Loss on unrelated text: nats per token over {known['forgetting_tokens']:,} tokens of held-out "
            f"'{known['forgetting_task']}' sentences, first for the base model, then for the tuned model.",
        )
    return "\n".join(f"- {part}" for part in parts)


def _exports(found: Document) -> None:
    left, right = st.columns([1, 3], vertical_alignment="center")
    left.download_button(
        "Download the table (CSV)",
        lambda: as_csv(found),  # when it is asked for: while runs come in, each drawing would be another file
        f"{found['id']}.csv",
        "text/csv",
        icon=":material/download:",
        width="stretch",
    )
    right.markdown(":small[To save a chart as an image (SVG), press the camera in its corner.]")
    st.markdown(f"##### How the figures were measured\n\n{_how(found)}")
    st.code(found["command"], language="bash", wrap_lines=True)


def two_axes(
    controls: Controls[Any], across: str, up: str, titles: Mapping[str, str]
) -> tuple[str, str] | None:
    """Draw the choice of two figures and return them; None if they are the same one, with the error drawn."""
    x, y = (
        controls.draw(name, cell, options=titles)
        for name, cell in zip((across, up), st.columns(2), strict=True)
    )
    if x != y:
        return x, y
    error_line("Both axes show the same figure. Choose two different figures.")
    return None


def axis_titles(found: Document) -> dict[str, str]:
    """Return the axis titles, with this comparison's metric and unit."""
    return {
        name: axis.title.format(metric=found["metric"]["title"], unit=found["inference_unit"])
        for name, axis in AXES.items()
    }


def _plots(found: Document, controls: Controls[Any]) -> None:
    st.markdown("### Trade-offs")
    chosen = two_axes(controls, "x", "y", axis_titles(found))
    if chosen is None:
        return
    plan, (x, y) = found["plan"], (AXES[name] for name in chosen)
    sources = " ".join(figures.badge(source) for source in dict.fromkeys((x.source, y.source)))
    st.markdown(f"#### {plain(model_title(plan['model']))}, {plain(task_title(plan['task']))} {sources}")
    front = results.pareto_front(found["rows"], x.name, y.name)
    titles = {row["method"]: row["title"] for row in found["rows"]}
    if not front:
        st.markdown(f"No method has both figures: {_reason(found, x, y)}")
        return
    st.markdown(f":small[The Pareto front, from left to right: {', '.join(titles[name] for name in front)}.]")
    figure = scatter(found["rows"], x, y, axis_titles(found), front, method_colours(), front)
    plot(figure, "compare-pareto", f"{found['id']}-{x.name}-{y.name}")


def _reason(found: Document, x: Axis, y: Axis) -> str:
    if "forgetting_change" in (x.name, y.name):
        why = next((row["forgetting_why"] for row in found["rows"] if row["forgetting_why"]), "")
        if why:
            return f"the loss on unrelated text is {why}."
    return "no run has measured both yet."
