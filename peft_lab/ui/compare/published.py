"""Published results: any two figures against each other, one method's settings, and one run."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from peft_lab.core import units
from peft_lab.core.field import as_text
from peft_lab.core.form import Form, choice
from peft_lab.engine import published
from peft_lab.engine.published import BENCHMARKS, METAMATH, PublishedRow
from peft_lab.studies.compare import results, shipped
from peft_lab.ui import pages, state, theme
from peft_lab.ui.compare import results as drawings
from peft_lab.ui.compare.setup import SCOPE
from peft_lab.ui.components import figures
from peft_lab.ui.components.charts import laid_out
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import open_button
from peft_lab.ui.foreign import plain


def draw_run_card(row: PublishedRow) -> None:
    """Draw a run's settings, times and config, with buttons that open it on other pages."""
    interval = BENCHMARKS[row.benchmark].interval
    figures.table(
        ("Setting", "Value"),
        [
            ("Learning rate", f"{row.learning_rate:g}"),
            ("Optimizer", row.optimizer),
            (
                "Weight decay",
                "the optimizer's default" if row.weight_decay is None else f"{row.weight_decay:g}",
            ),
            ("Schedule", row.scheduler or "constant"),
            ("Steps", f"{units.count(row.steps)}, {row.batch} rows each"),
            ("Date", row.created),
            ("Versions", ", ".join(f"{name} {version}" for name, version in row.versions.items())),
            (
                f"Time of {interval} steps",
                units.span(min(row.intervals), max(row.intervals)),
            ),
        ],
    )
    _open(row)
    with st.expander("Adapter config and step times"):
        if row.config is None:
            st.markdown("Full fine-tuning has no adapter config.")
        else:
            st.code(json.dumps(row.config, indent=1, sort_keys=True), language="json")
        st.markdown(
            f"{figures.badge('cited')} Seconds for each {interval} steps: "
            f"{', '.join(f'{each:.1f}' for each in row.intervals)}."
        )


def _open(row: PublishedRow) -> None:
    if row.benchmark != METAMATH:
        st.markdown("PEFT Lab simulates language models only, so these image settings cannot be opened.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        memory = {"tab": "published", "row": row.experiment}
        open_button("memory", memory, "Simulate it in Will it fit", "published-open-memory")
        found = shipped.lab_page(row)
        if found is not None:
            slug, values = found
            settings = {name: as_text(value) for name, value in values.items()}
            query = {"model": published.MODEL, **settings}
            label = f"Open {pages.titles()[slug]} with these settings"
            open_button(slug, query, label, f"published-open-{slug}")


LINE = 24  # pixels
_DEFAULT, _BEST, _OTHER, _AGAIN = (
    "published as the default",
    "best of the method",
    "other settings",
    "repeated run",
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
    """Return a horizontal line for each of ``lines`` (runs by label, best first), from its worst run to its best, the
    first line on top; ``best``: experiments drawn as the best, ``moved``: the median difference of a re-run."""
    figure = go.Figure()
    bar = None if moved is None else {"type": "constant", "value": moved, "thickness": 1, "width": 3}
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
            error_x=None if name == _AGAIN else bar,
            text=[title for _, _, title in each],
            hovertemplate="%{x:.1%}<extra>%{text}</extra>",
            showlegend=bool(each),
        )
    across = {"title": measure, "tickformat": theme.PERCENT_TICKS, "zeroline": False}
    up = {"title": None, "categoryorder": "array", "categoryarray": list(lines)[::-1], "dtick": 1}
    below = {"yref": "container", "y": 0, "yanchor": "bottom", "itemclick": False}
    laid_out(figure, 150 + LINE * len(lines), across, up, 24, below)
    return figure.update_layout(margin_b=110)


FIRST = "lora"


def _axes() -> dict[str, str]:
    return {name: axis.title for name, axis in shipped.published_axes(_benchmark()).items()}


@dataclass(frozen=True)
class PublishedForm(Form):
    """The settings of a benchmark's part: two figures, a method, and one of its runs."""

    bench: str = choice(METAMATH, "Benchmark", "", lambda: {
        name: f"{each.title}: {len(published.rows(name))} runs" for name, each in BENCHMARKS.items()
    }, noun="benchmark")  # fmt: skip
    px: str = choice(shipped.DEFAULT_BENCHMARK[0], "Horizontal axis", "", _axes, noun="across")
    py: str = choice(shipped.DEFAULT_BENCHMARK[1], "Vertical axis", "", _axes, noun="up")
    family: str = choice(
        "", "Method", "", lambda: {name: name for name in shipped.families(_benchmark())}, noun="method"
    )
    run: str = choice("", "Run", "", lambda: {
        name: row.title for name, row in published.rows(_benchmark()).items()
    }, noun="run")  # fmt: skip


def _benchmark() -> str:
    return str(state.remembered(SCOPE, "bench", METAMATH))


def _usual() -> PublishedForm:
    families = shipped.families(_benchmark())
    first = FIRST if FIRST in families else next(iter(families))
    family = state.remembered(SCOPE, "family", first, _benchmark())
    return PublishedForm(family=first, run=families[family][0].experiment)


def published_controls() -> Controls[PublishedForm]:
    """Return the part's controls, not yet drawn. All but the benchmark depend on it."""
    return Controls(PublishedForm, SCOPE, _usual, lambda name: () if name == "bench" else (_benchmark(),))


def readers() -> dict[str, Callable[[str], None]]:
    """Return functions that read the choices from the URL; a run also sets its method."""
    controls = published_controls()

    def run(text: str) -> str:
        found = str(PublishedForm.field("run").parse(text))
        controls.remember("family", published.rows(_benchmark())[found].kind)
        return found

    return controls.readers(run=run)


def section() -> dict[str, tuple[Any, Any]]:
    """Draw the part; return its URL parameters."""
    st.markdown(f"### What others published {figures.badge('cited')}")
    controls = published_controls()
    benchmark = controls.draw("bench")
    about = BENCHMARKS[benchmark]
    st.markdown(
        f"[{about.source}]({about.address}): {about.trained_on}, one run per experiment. {_moved(benchmark)}"
    )
    _scatter(controls, benchmark)
    _settings(benchmark)
    with st.expander("One method, run by run"):
        titles = {row.experiment: row.title for row in _family(controls, benchmark)}
        st.markdown(f"#### A single run {figures.badge('cited')}")
        draw_run_card(published.rows(benchmark)[controls.draw("run", options=titles)])
    _all_rows(benchmark)
    return controls.address()


def _moved(benchmark: str) -> str:
    """Return how far re-runs differed, as a measure of how much to trust one run."""
    moved = published.moved(benchmark)
    forgot = [
        f"{plain(row.title)} from {again:.2f} to {row.forgetting:.2f}"
        for row in published.rows(benchmark).values()
        for again in row.forgetting_again
        if row.forgetting is not None
    ]
    more = (
        f" In repeated runs, forgetting differed more than the scores: {'; '.join(forgot)} nats."
        if forgot
        else ""
    )
    again = [(row, other) for row in published.rows(benchmark).values() for other in row.reruns]
    if moved is None:
        told = "; ".join(
            f"{plain(row.title)}, {100 * abs(row.accuracy - other):.1f} points apart" for row, other in again
        )
        return f"The noise is unknown: only one run was published twice ({told})."
    return (
        f"For {moved.rows} of these experiments, repeated runs with other library versions were published too. A "
        f"repeated run differs from the run shown here by {100 * moved.median:.1f} points (median) and by "
        f"{100 * moved.largest:.1f} points at most; {moved.lower} of {moved.runs} repeated runs scored higher. The "
        "bars in the charts show the median difference; treat smaller differences between methods as "
        f"noise.{more}"
    )


def _scatter(controls: Controls[PublishedForm], benchmark: str) -> None:
    axes = shipped.published_axes(benchmark)
    titles = {name: axis.title for name, axis in axes.items()}
    chosen = drawings.two_axes(controls, "px", "py", titles)
    if chosen is None:
        return
    x, y = chosen
    rows = shipped.published_points(benchmark)
    front = results.pareto_front(rows, axes[x], axes[y])
    lacking = [plain(row["title"]) for row in rows if row[x] is None or row[y] is None]
    missing = f" Not drawn, because a figure is missing: {', '.join(lacking)}." if lacking else ""
    st.markdown(
        f":small[Filled dots: the Pareto front, {len(front)} of {len(rows)} runs. Hover over a dot to see its "
        f"run.{missing}]"
    )
    figure = drawings.scatter(rows, axes[x], axes[y], titles, front, {}, front[-1:])
    drawings.plot(figure, "compare-cited", f"published-{x}-{y}")


def _settings(benchmark: str) -> None:
    about, moved = BENCHMARKS[benchmark], published.moved(benchmark)
    st.markdown(f"#### One method, different settings {figures.badge('cited')}")
    st.markdown(
        "The chart shows every method with more than one published run. If two methods differ by less than the "
        "length of either line, the settings may explain the difference."
    )
    spread = moved.median if moved else None
    several = shipped.several_published(benchmark)
    figure = ranges(several, {found[0].experiment for found in several.values()}, spread, about.measure)
    drawings.plot(figure, "compare-ranges", f"published-{benchmark}-settings")


def _family(controls: Controls[PublishedForm], benchmark: str) -> Sequence[PublishedRow]:
    about, moved = BENCHMARKS[benchmark], published.moved(benchmark)
    spread = moved.median if moved else None
    family: str = controls.draw("family")
    found = shipped.families(benchmark)[family]
    st.markdown(f"**{plain(family)}** {figures.badge('cited')}")
    if len(found) > 1:
        lines = {_variant(row): [row] for row in found}
        figure = ranges(lines, {found[0].experiment}, spread, about.measure)
        drawings.plot(figure, "compare-family", f"published-{benchmark}-{family}")
    figures.table(
        ("Run", "Trained", about.columns[0], "Repeated", about.columns[1], "Peak reserved", "Differences"),
        [
            (
                _variant(row),
                units.short_count(row.trainable),
                f"{row.accuracy:.1%}",
                ", ".join(f"{value:.1%}" for value in row.reruns) or "–",
                _or_dash(row.forgetting, lambda value: f"{value:.3f}"),
                units.size(row.reserved),
                shipped.published_setting(row, found),
            )
            for row in found
        ],
        numeric=(1, 2, 3, 4, 5),
        fold=True,
    )
    told = [_budget(group, moved) for group in shipped.budgets(found)]
    if told:
        st.markdown("\n".join(f"- {text}" for text in told))
    return found


def _variant(row: PublishedRow) -> str:
    return row.title.removeprefix(row.kind).removeprefix(", ") or "default"


def _budget(group: Sequence[PublishedRow], moved: published.Moved | None) -> str:
    """Return the scores of runs of similar size, and whether their differences exceed a re-run's."""
    sizes = sorted(row.trainable for row in group)
    low, high = (units.short_count(size) for size in (sizes[0], sizes[-1]))
    trained = low if low == high else f"{low} to {high}"
    runs = "; ".join(f"{plain(_variant(row))} {row.accuracy:.1%}" for row in group)
    apart = group[0].accuracy - group[-1].accuracy
    verdict = (
        f", {'no more' if apart <= moved.largest else 'more'} than repeated runs differ" if moved else ""
    )
    return (
        f"With about {trained} trainable parameters: {runs}. Best and worst are {100 * apart:.1f} points "
        f"apart{verdict}."
    )


def _all_rows(benchmark: str) -> None:
    about = BENCHMARKS[benchmark]
    rows = sorted(published.rows(benchmark).values(), key=lambda row: -row.accuracy)
    with st.expander(f"All {len(rows)} published runs"):
        st.markdown(
            f"{figures.badge('cited')} The peak is the memory that the allocator reserved during the whole run, "
            "including the evaluation, which generates text. Our peak covers the tensors of one training step, so "
            "compare the order of the methods, not the figures.\n\nTraining is the time of the steps alone. The "
            "published training time also includes the final test, the evaluations and a short remainder. Here the "
            "test and the evaluations have columns of their own. A size is missing if the adapter could not be "
            "saved. The size for full fine-tuning is the publisher's estimate."
        )
        figures.table(
            (
                "Run", "Learning rate", "Trained", about.columns[0], "Repeated", about.columns[1], "Training",
                "Tokens/s", "Final test", "Evaluations", "Peak reserved", "Stored", "PEFT", "Date",
            ),
            [_line(row) for row in rows],
            numeric=tuple(range(1, 12)),
        )  # fmt: skip


def _line(row: PublishedRow) -> tuple[str, ...]:
    return (
        row.title,
        f"{row.learning_rate:g}",
        f"{units.short_count(row.trainable)} ({units.percent(100 * row.trainable / row.total)})",
        f"{row.accuracy:.1%}",
        ", ".join(f"{value:.1%}" for value in row.reruns) or "–",
        _or_dash(row.forgetting, lambda value: f"{value:.3f}"),
        units.seconds(row.seconds),
        _or_dash(row.tokens_per_second, units.count),
        units.seconds(row.testing),
        units.seconds(row.evaluating),
        units.size(row.reserved),
        _or_dash(row.stored, units.size),
        row.versions["peft"],
        row.created,
    )


def _or_dash(value: float | None, written: Callable[[float], str]) -> str:
    return "–" if value is None else written(value)
