"""The shipped sweep as a landscape: the effect of the learning rate, by rank, targets, batch or method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from peft_lab.advise.recipes.replications import Replication, RuleVerdict, measured, replications
from peft_lab.advise.recipes.rules import all_rules
from peft_lab.core import units
from peft_lab.core.form import Form, choice
from peft_lab.core.palette import faint
from peft_lab.core.units import written_figure
from peft_lab.models.catalogue import get_model
from peft_lab.studies import landscape, shipped_sweep
from peft_lab.studies.landscape import BY, LOSS, METRIC, Line, Spot, best_of, told
from peft_lab.studies.shipped_sweep import FULL, SURE, Sweep, shipped_points
from peft_lab.training.tasks import get_task
from peft_lab.training.tasks.base import Task
from peft_lab.ui import pages, state, theme
from peft_lab.ui.compare import results
from peft_lab.ui.compare.setup import SCOPE
from peft_lab.ui.components import figures
from peft_lab.ui.components.charts import band, laid_out
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import open_button
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.settings import address_of_run


@dataclass(frozen=True)
class Across:
    """The horizontal axis of lines: its title, and the name of a value under the pointer."""

    title: str = "peak learning rate"
    name: str = "rate"
    logarithmic: bool = True
    ticks: tuple[float, ...] = ()  # none: Plotly's own, of a logarithmic axis its powers of ten


RATES = Across()


def landscape_figure(lines: Sequence[Line], shown: str, title: str, across: Across = RATES) -> go.Figure:
    """Return a line per configuration, its best rate filled, the best of all a star; full fine-tuning dashed."""
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
            low, high = [spot.low for spot in line.spots], [spot.high for spot in line.spots]
            band(figure, rates, low, high, faint(colour, theme.BAND_OPACITY), line.label)
        at = None if line.best is None else line.best.rate
        star = "star" if best is not None and line is best[0] else "circle"
        marks = [star if rate == at else "circle-open" for rate in rates]
        figure.add_scatter(
            x=rates,
            y=[spot.mean for spot in line.spots],
            name=line.label,
            legendgroup=line.label,
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": "dash" if line.method == FULL else "solid"},
            marker={
                "color": colour,
                "size": [{"star": 17, "circle": 10, "circle-open": 6}[mark] for mark in marks],
                "symbol": marks,
            },
            customdata=[
                (
                    written_figure(_whole(spot.rate)),
                    *(told(value, shown) for value in (spot.mean, spot.low, spot.high)),
                    spot.seeds,
                )
                for spot in line.spots
            ],
            hovertemplate=f"{across.name} %{{customdata[0]}}: %{{customdata[1]}}<br>%{{customdata[2]}} to "
            f"%{{customdata[3]}}, seeds: %{{customdata[4]}}<extra>{line.label}</extra>",
        )
    up = {"title": title, "tickformat": theme.PERCENT_TICKS if shown == METRIC else None}
    return laid_out(figure, 440, axis(across), up, legend={**results.BELOW, "itemclick": False})


def axis(across: Across) -> dict[str, Any]:
    """Return the axis's Plotly settings."""
    found: dict[str, Any] = {"title": across.title, "zeroline": False}
    if across.logarithmic:
        found |= {"type": "log", "dtick": 1, "exponentformat": "power"}
    if across.ticks:
        found |= {
            "tickvals": across.ticks,
            "ticktext": [written_figure(_whole(tick)) for tick in across.ticks],
        }
    return found


def _whole(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def verdicts_section() -> None:
    """Draw a table of the rules tested, and the reasons why others were not."""
    rules = {rule.id: rule for rule in all_rules()}
    found = replications()
    tried = {name: one for name, one in found.items() if one.value is not None}
    st.markdown(
        f"Seen: the {SURE:.0%} interval lies within the range that the rule expects. Not seen: the interval lies "
        "outside. Open: the interval crosses an edge of the range, or there is only one group. A group holds the "
        "runs with the same model, batch size and seed. The group's value is the mean of the paired differences of "
        "these runs. The interval is Student's t interval over the groups (Ibragimov & Müller). It allows for other "
        f"seeds, but not for other held-out rows. {figures.badge('measured')}"
    )
    models = list(dict.fromkeys(model for one in tried.values() for model, _ in one.models))
    alone = models if len(models) > 1 else []

    def on_each(one: Replication) -> list[str]:
        own = dict(one.models)
        return [figures.whole(measured(own[model], one.unit)) if model in own else "–" for model in alone]

    figures.table(
        (
            "Figure",
            "Verdict",
            "Expected (cited)",
            "Here (measured)",
            "Source of the rule",
            *(get_model(m).title for m in alone),
        ),
        [
            (
                one.what,
                _verdict(one),
                figures.whole(one.limits),
                figures.whole(one.measured),
                rules[name].citation,
                *on_each(one),
            )
            for name, one in tried.items()
        ],
        fold=True,
    )
    with st.expander("How each figure was computed"):
        st.markdown(
            f":small[The groups and runs from which each figure was computed.] {figures.badge('measured')}"
        )
        figures.table(
            ("Figure", "Method", "Groups", "Runs"),
            [(one.what, one.note, str(one.groups), units.count(one.runs)) for one in tried.values()],
            numeric=(2, 3),
            fold=True,
        )
    reasons: dict[str, list[str]] = {}
    for name, one in found.items():
        if name not in tried:
            reasons.setdefault(one.note, []).append(rules[name].citation)
    with st.expander(f"Rules that cannot be tested here: {sum(map(len, reasons.values()))}"):
        st.markdown(
            f":small[Each rule is a statement of one source about one setting.] {figures.badge('cited')}"
        )
        figures.table(
            ("Reason", "Source of the rules"),
            [
                (why[:1].upper() + why[1:], "; ".join(dict.fromkeys(citations)))
                for why, citations in reasons.items()
            ],
            fold=True,
        )


def _verdict(one: Replication) -> str:
    """Return the verdict in a word or two; one from a single group is open."""
    verdict = RuleVerdict.OPEN if one.verdict is RuleVerdict.NOT_TESTABLE else one.verdict
    return verdict.partition(":")[0]


#: What is held at one value.
HELD = ("rank", "targets", "batch")


def _model() -> str:
    return str(state.remembered(SCOPE, "landscape", landscape.models(shipped_points())[0]))


def _held(name: str) -> dict[Any, str]:
    """Return the values at which a setting can be held on the chosen model, with titles."""
    sweep, model = shipped_points(), _model()
    return {value: landscape.named(sweep, model, name, value) if name == "targets" else str(value)
            for value in sweep.values(model, name)}  # fmt: skip


@dataclass(frozen=True)
class LandscapeForm(Form):
    """The landscape's settings: a model's trainings, the meaning of the lines, and what is held fixed."""

    landscape: str = choice("", "Model", "", lambda: {
        name: get_model(name).title for name in landscape.models(shipped_points())
    }, noun="model of the sweep")  # fmt: skip
    lines: str = choice("rank", "Lines", "", BY, noun="a line for each")
    shown: str = choice(
        LOSS, "Vertical axis", "", lambda: _titles(shipped_points(), _model()), noun="up the axis"
    )
    held_rank: Any = choice("", "Rank", "", lambda: _held("rank"), noun="rank")
    held_targets: Any = choice("", "Targets", "", lambda: _held("targets"), noun="targets")
    held_batch: Any = choice("", "Batch size", "", lambda: _held("batch"), noun="batch size")


def _usual() -> LandscapeForm:
    sweep = shipped_points()
    held = landscape.usual(sweep, _model())
    return LandscapeForm(landscape.models(sweep)[0], **{f"held_{name}": held[name] for name in HELD})


def landscape_controls() -> Controls[LandscapeForm]:
    """Return the part's controls, not yet drawn. Ranks, targets and batches depend on the model."""
    return Controls(
        LandscapeForm, SCOPE, _usual, lambda name: (_model(),) if name.startswith("held_") else ()
    )


def landscape_section() -> dict[str, tuple[Any, Any]]:
    """Draw the part; return its URL parameters."""
    sweep = shipped_points()
    st.markdown(f"### Score by learning rate {figures.badge('measured')}")
    st.markdown(
        "These short runs differ in one setting at a time. Each line shows one configuration at several learning "
        "rates. The line is the mean score over seeds; the band goes from the lowest seed's score to the highest."
    )
    first = st.columns(3)
    controls = landscape_controls()
    model, by = controls.draw("landscape", first[0]), controls.draw("lines", first[1])
    titles = _titles(sweep, model)
    shown = controls.draw("shown", first[2])
    for cell, name in zip(st.columns(3), [name for name in HELD if name != by], strict=False):
        controls.draw(f"held_{name}", cell)
    held = {name: controls.value(f"held_{name}") for name in HELD}
    lines = landscape.lines(sweep, model, by, shown, held)
    best = landscape.best_of(lines, shown)
    if best is None:
        st.markdown("None of these runs has a score.")
    else:
        line, spot = best
        st.markdown(
            f"Best (the star): **{plain(line.label)}** at learning rate **{written_figure(spot.rate)}**. "
            f"{plain(titles[shown])}: {_spread(spot, shown)}. {figures.badge('measured')}"
        )
        figure = landscape_figure(lines, shown, titles[shown])
        results.plot(figure, "compare-landscape", f"landscape-{model}-{by}")
        _table(lines, titles)
        _open(sweep, landscape.best_of([line for line in lines if line.method != FULL], shown))
        with st.expander("Command that repeats the best run (first seed)"):
            command = shipped_sweep.command_of(sweep, line.first(spot.rate))
            st.code(command, language="bash", wrap_lines=True)
    _measured(sweep, model)
    with st.expander("Do these runs confirm published rules?"):
        verdicts_section()
    return controls.address()


def _titles(sweep: Sweep, model: str) -> dict[str, str]:
    setting = sweep.settings[model]
    return titles(get_task(setting.task), setting.metric)


def titles(task: Task, metric: str) -> dict[str, str]:
    """Return the titles of the scores of runs on a task, with units."""
    each = "row" if task.kind == "classification" else "token"
    share = metric.replace("_", " ").capitalize()
    return {LOSS: f"Held-out loss (nats per {each})", METRIC: f"{share} (share of held-out rows)"}


def _spread(spot: Spot, shown: str) -> str:
    mean, low, high = (landscape.told(value, shown) for value in (spot.mean, spot.low, spot.high))
    if spot.seeds == 1:
        return f"{mean} (one seed)"
    return f"{mean} ({low} to {high} over {units.in_words(spot.seeds)} seeds)"


def _table(lines: list[Line], titles: Mapping[str, str]) -> None:
    lost = any(line.diverged for line in lines)
    rows = []
    for line in lines:
        if line.best is None:
            continue
        both = {name: line.at(line.best.rate, name) for name in (LOSS, METRIC)}
        told = [_spread(spot, name) if spot else "–" for name, spot in both.items()]
        diverged = [f"{line.diverged} of {len(line.points)}"] if lost else []
        trained = units.short_count(line.points[0].trainable)
        rows.append((line.label, figures.whole(written_figure(line.best.rate)), *told, trained, *diverged))
    heads = ("Line", "Best learning rate", titles[LOSS], titles[METRIC], "Trainable parameters, with head")
    figures.table(heads + ("Diverged",) * lost, rows, numeric=(1, 4, 5), fold=True)


def _open(sweep: Sweep, best: tuple[Line, Spot] | None) -> None:
    """Draw a button to the page that trains the best LoRA again; full fine-tuning has no such page."""
    if best is None:
        return
    point = best[0].first(best[1].rate)
    query, title = address_of_run(shipped_sweep.request_again(sweep, point)), pages.titles()[point.method]
    label = f"Open {title}, best settings: {best[0].label} at {figures.whole(written_figure(point.rate))}"
    with st.container(horizontal=True, vertical_alignment="center"):
        open_button(point.method, query, label, "landscape-open")


def _measured(sweep: Sweep, model: str) -> None:
    setting, machine = sweep.settings[model], sweep.machine
    versions = ", ".join(f"{name} {version}" for name, version in sweep.packages.items())
    repeated = f" {sweep.again} runs were repeated and gave the same figures." if sweep.again else ""
    note = f" {plain(sweep.note)}" if sweep.note else ""
    st.markdown(
        f":small[{figures.badge('measured')} {len(sweep.on(model)):,} runs on {plain(get_task(setting.task).title)}; "
        f"the sweep has {len(sweep.points):,} of its {sweep.total:,} runs. Every run trained on {setting.rows:,} "
        f"rows, whatever its batch size, and was scored on {setting.eval_rows:,} held-out rows. α is the same in all "
        "runs. A seed is shown only if it has a run at every learning rate. Measured on "
        f"{plain(machine['processor'])}, {machine['cores']} cores ({plain(f'{sweep.device}, {sweep.dtype}')}), "
        f"Python {plain(machine['python'])}, {plain(versions)}, {plain(sweep.created)}.{repeated}{note}]"
    )
