"""Every method that runs on the model: a bar of its parts, the device's limit, and a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import streamlit as st

from peft_lab.core import palette, units
from peft_lab.core.units import Source
from peft_lab.engine import simulate
from peft_lab.engine.account import MemoryPoint
from peft_lab.engine.devices import SOLD, Device
from peft_lab.engine.request import Simulation
from peft_lab.methods import all_methods
from peft_lab.models.shapes import ModelEntry
from peft_lab.ui import state, theme
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.charts import FAR, Bar, Limit, grown_bars, laid_out
from peft_lab.ui.components.frame import part
from peft_lab.ui.components.waiting import Answers, collect, progress
from peft_lab.ui.foreign import plain
from peft_lab.ui.memory.controls import (
    BARS,
    OWN,
    SCOPE,
    TAB,
    USUAL,
    MemoryForm,
    form_controls,
    listed,
    low_rank,
    named,
)
from peft_lab.ui.memory.opening import shipped_opening

Simulated = Answers[str, Simulation]  # by method
PATIENCE = 0.8  # seconds that a change waits for all of its bars
DRAWN, SECONDS = "memory-drawn", "memory-seconds"


def refusals(entry: ModelEntry) -> dict[str, str]:
    """Return the methods that cannot run on the model, with the reason, without any simulation."""
    found = {}
    for slug, method in all_methods().items():
        errors = [problem.message for problem in method.problems(entry.shape, {}) if problem.level == "error"]
        if errors:
            found[slug] = errors[0]
    return found


def overview(chosen: MemoryForm) -> Simulated:
    """Draw bars and table; return the results of each method."""
    refused = refusals(chosen.entry)
    slugs = [slug for slug in all_methods() if slug not in refused]
    # What was asked last is taken first, so the one that took longest is asked last: it must not be the one left over.
    seconds: dict[str, float] = st.session_state.setdefault(SECONDS, {})
    futures = {
        slug: chosen.simulate(BARS, slug) for slug in sorted(slugs, key=lambda slug: seconds.get(slug, 0))
    }
    asked = {slug: futures[slug] for slug in slugs}
    # Bars that are there already are moved in one go; a page that is just opened is drawn at once.
    answers = collect(asked, PATIENCE if st.session_state.get(DRAWN) else 0)
    st.session_state[DRAWN] = bool(answers.found)
    seconds.update({slug: one.seconds for slug, one in answers.found.items()})
    if answers.waiting and chosen.key() == USUAL.key():  # until they have come, what ships
        answers = Answers({**shipped_opening(), **answers.found}, answers.refused, 0)
    with st.container(key="memory-figures"):
        st.markdown(f"#### One training step of {plain(chosen.entry.title)} {figures.badge('simulated')}")
        progress(answers, "methods")
        answers = Answers(answers.found, refused | dict(answers.refused), answers.waiting)
        if not answers.found and answers.waiting:  # a line for each bar that will stand there
            st.html(f'<div class="waits" aria-hidden="true">{"<i></i>" * len(slugs)}</div>')
        if answers.found:
            _bars(answers, chosen)
            with st.container(key="memory-table"):
                _table(answers, chosen)
    if not answers.found:
        _refused(answers)
    return answers


def _refused(answers: Simulated) -> None:
    if not answers.refused:
        return
    titles = {slug: all_methods()[slug].title for slug in answers.refused}
    lines = (
        plain(reason if reason.startswith(titles[slug]) else f"{titles[slug]}: {reason}")
        for slug, reason in answers.refused.items()
    )
    st.markdown("  \n".join(lines))


def _bars(answers: Simulated, chosen: MemoryForm) -> None:
    bars = [
        Bar(all_methods()[slug].title, _parts(one), Source.SIMULATED) for slug, one in answers.found.items()
    ]
    card = chosen.card
    limit = Limit(
        card.allowed, f"{card.holding}: {units.size(card.allowed)} of {units.size(card.memory)} usable"
    )
    with st.container(
        key=f"bars-{len(bars)}-memory"
    ):  # their script comes late, and the table stands under them
        grown_bars(bars, "memory-bars", limit, close=True)


def _parts(found: Simulation) -> dict[str, int]:
    """Return the tensors at the peak, and the rest held by the allocator: together they must fit."""
    beside = simulate.needed_bytes(found) - sum(found.parts.values())
    return {**found.parts, "held by the allocator": beside} if beside > 0 else dict(found.parts)


def verdict(need: float, device: Device) -> str:
    """Return whether a step fits as plans have it: with a share of the memory to spare."""
    over = need - device.allowed
    return "fits" if over <= 0 else figures.unbroken(f"{units.size(over)} over")


def _table(answers: Simulated, chosen: MemoryForm) -> None:
    device, rows = chosen.card, []
    # What is paged or offloaded; most settings have none of it.
    hosts = any(one.host_bytes for one in answers.found.values())
    for slug, one in answers.found.items():
        need = simulate.needed_bytes(one)
        host = (units.size(one.host_bytes),) if hosts else ()
        rows.append(
            (figures.unbroken(all_methods()[slug].title), units.size(need), *host, verdict(need, device))
        )
    heads = ("Method", "Reserved", *(("Main memory",) if hosts else ()), "On device")
    figures.table(heads, rows, numeric=(1, 2) if hosts else (1,), fold=hosts)
    waiting = " Main memory: what is offloaded or paged to it." if hosts else ""
    st.caption(
        f"{_settings(answers, chosen)} Reserved: what PyTorch's caching allocator would reserve by its documented "
        f"rules; the device needs this much.{waiting} Bars: the tensors alive at the peak, and the additional memory "
        f"that the allocator holds. Usable on {device.holding}: {units.size(device.memory)}, {device.source}; a step "
        f"may take {units.size(device.allowed)}, and the rest must stay "
        f"free.{f' {SOLD}' if device.holding != device.title else ''} {figures.badge('simulated')}"
    )
    _refused(answers)


def _settings(answers: Simulated, chosen: MemoryForm) -> str:
    shown = [slug for slug in answers.found if low_rank(all_methods()[slug])]
    if chosen.targets == OWN or not shown:
        return "Every method at its defaults."
    titles = " and ".join(all_methods()[slug].title for slug in shown)
    maps = listed(named(shown[0], chosen.entry.shape, chosen.targets))
    verb = "adapt" if len(shown) > 1 else "adapts"
    return f"{titles} {verb} {maps}; all other settings are the methods' defaults."


_TOP = 30  # pixels
_BELOW = {"y": -0.18, "yanchor": "top"}  # the legend
_BAND_OPACITY = 0.2


def cost_curves(
    series: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    x: str,
    now: int,
    limit: int,
    device: str,
    height: int = 400,
) -> go.Figure:
    """Return needed memory over a size, a line per method, ``title: (sizes, bytes)``, straight between simulated sizes;
    ``now``: the current size, marked; ``limit``: the device's memory in bytes."""
    figure = go.Figure()
    titles = [method.title for method in all_methods().values()]
    colours = {title: theme.SERIES[index % len(theme.SERIES)] for index, title in enumerate(titles)}
    for name, (xs, ys) in series.items():
        figure.add_scatter(
            x=list(xs),
            y=[size / 1e9 for size in ys],
            name=name,
            mode="lines+markers",
            line={"color": colours[name], "width": 2},  # the same whatever else is drawn
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
    across = {"title": x, "rangemode": "tozero", "zeroline": False}
    up = {"title": "memory the device must have, GB", "rangemode": "tozero"}
    return laid_out(figure, height, across, up, _TOP, _BELOW, hovermode="x unified", showlegend=True)


def against(
    names: Sequence[str], published: Sequence[int], simulated: Sequence[int], band: float, height: int = 430
) -> go.Figure:
    """Return simulated over published bytes by row, with the line of equality and a band of ±``band``%."""
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
    across = {"title": "published peak, GB", "range": ends, "zeroline": False}
    return laid_out(figure, height, across, {**across, "title": "simulated peak, GB"}, _TOP, _BELOW)


STOPS = {"seq": (128, 256, 512, 1024, 2048), "batch": (1, 2, 4, 8, 16)}
TITLES = {"seq": "Length", "batch": "Batch size"}
UNITS = {"seq": "tokens per row", "batch": "rows"}
FIRST = ("full", "lora", "qlora")


def curves(chosen: MemoryForm, answers: Simulated) -> None:
    if not answers.found:
        return
    left, right = st.columns([1, 3], vertical_alignment="bottom")
    choices = ["batch"] if chosen.entry.kind == "vision" else list(TITLES)  # images are all as long
    over = left.segmented_control(
        "Cost of", choices, default=choices[0], format_func=TITLES.__getitem__, required=True,
        key=state.widget_key(SCOPE, "over", *choices), width="stretch",
    )  # fmt: skip
    # Options do not wait for answers: with others the control would forget what is chosen.
    slugs = [slug for slug in all_methods() if slug not in answers.refused]
    kept = state.remembered(SCOPE, "curves", FIRST)
    methods = right.multiselect(
        "Methods",
        slugs,
        default=[slug for slug in kept if slug in slugs],
        format_func=lambda slug: all_methods()[slug].title,
        key=state.widget_key(SCOPE, "curves"),
    )
    state.remember(SCOPE, "curves", tuple(methods))
    limit = chosen.entry.shape.max_positions if over == "seq" else None
    sizes = sorted(n for n in {*STOPS[over], getattr(chosen, over)} if limit is None or n <= limit)
    asked = {(slug, size): chosen.simulate(TAB, slug, {over: size}) for slug in methods for size in sizes}
    found = collect(asked)
    progress(found, "points")
    series = {}
    for slug in methods:
        own = {size: simulate.needed_bytes(one) for (name, size), one in found.found.items() if name == slug}
        if own:
            series[all_methods()[slug].title] = (sorted(own), [own[size] for size in sorted(own)])
    if series:
        x = "images" if chosen.entry.kind == "vision" else UNITS[over]
        device = chosen.card
        figure = cost_curves(series, x, getattr(chosen, over), device.allowed, device.holding)
        charts.draw(figure, f"memory-{over}")
    rest = "batch" if over == "seq" else "seq"
    unit = "positions per image" if chosen.entry.kind == "vision" else UNITS[rest]
    st.markdown(
        f"Each dot is one simulated training step with {getattr(chosen, rest):,} {unit}; the dotted line marks the "
        f"setting above. {figures.badge('simulated')}"
    )
    for slug in methods:
        reasons = {reason for (name, _), reason in found.refused.items() if name == slug}
        for reason in sorted(reasons):
            st.caption(f"{all_methods()[slug].title}, some points: {plain(reason)}")


#: What each part is; shown for the moment that is chosen.
MEANING = {
    "weights": "the base model",
    "quantisation": "constants of the quantised blocks",
    "adapter": "parameters that the method added",
    "gradients": "of the trained parameters",
    "optimizer": "the optimizer's states",
    "activations": "values that the forward pass stores for the backward pass",
    "logits": "the output head's scores, and the loss",
    "temporary": "values used only within one operation or layer",
}


def pick_method(answers: Simulated, key: str = "method") -> str | None:
    """Draw the choice of the method, common to all parts of the page; None until it has been simulated."""
    slugs = list(answers.found)
    wanted = form_controls().value("method")
    if not slugs or (wanted not in slugs and answers.waiting):
        return None
    index = slugs.index(wanted) if wanted in slugs else 0
    slug: str = st.selectbox(
        "Method",
        slugs,
        index,
        key=state.widget_key(SCOPE, key),
        format_func=lambda name: all_methods()[name].title,
    )
    form = form_controls()
    form.below("method")
    # A method that does not run on this model is remembered for the next one.
    if slug != slugs[index]:
        form.remember("method", slug)
    return slug


def timeline(chosen: MemoryForm, answers: Simulated) -> None:
    with st.columns([1, 2])[0]:
        slug = pick_method(answers)
    if slug is None:
        return
    # A key of its own for every step that is shown: the slider then starts at that step's peak.
    points, key = answers.found[slug].points, f"scrub-{hash((slug, *chosen.key()))}"
    part(lambda: _scrub(points, key))


def _scrub(points: Sequence[MemoryPoint], key: str) -> None:
    """Draw the slider's moment; only this part is redrawn while it moves."""
    chart, words = st.columns([5, 3], gap="medium")
    peak = max(range(len(points)), key=lambda index: points[index].nbytes)
    names = places(points)
    with words:
        at: int = st.select_slider(
            "Moment",
            range(len(points)),
            value=peak,
            key=key,
            format_func=names.__getitem__,
            help="The slider starts at the peak. Arrow keys move it by one layer.",
        )
        point = points[at]
        st.markdown(
            f"**{names[at]}**: {units.size(point.nbytes)} alive"
            + (", the peak" if point.nbytes == points[peak].nbytes else "")
            + f" {figures.badge('simulated')}"
        )
        present = sorted(((n, part) for part, n in point.parts.items() if n), reverse=True)
        shares = [
            f"{n / point.nbytes:.1%}" if n >= 0.001 * point.nbytes else "below 0.1%" for n, _ in present
        ]
        rows = [(part, units.size(n), share) for (n, part), share in zip(present, shares, strict=True)]
        figures.table(("Alive", "Bytes", "Share"), rows, numeric=(1, 2))
        st.caption("; ".join(f"{part}: {MEANING[part]}" for _, part in present) + ".")
    with chart:
        st.markdown(f"#### Tensors alive at each moment {figures.badge('simulated')}")
        figure = charts.memory_timeline([(one.phase, one.layer, one.parts) for one in points], height=420)
        figure.add_vline(x=at, line={"width": 2, "color": palette.CHART_MARK})
        charts.draw(figure, f"{key}-chart")


def places(points: Sequence[MemoryPoint]) -> list[str]:
    """Return unique names of the moments, such as 'backward, layer 12'; layers count from 0 as in module names."""
    titles = {"zero_grad": "gradients cleared", "optimizer": "optimizer's step", "idle": "after the step"}
    names: list[str] = []
    for index, point in enumerate(points):
        name = titles.get(point.phase, point.phase)
        if point.layer is not None:
            name += f", layer {point.layer}"
        elif any(one.phase == point.phase and one.layer is not None for one in points):
            before = all(one.layer is None for one in points[:index] if one.phase == point.phase)
            name += ", before the layers" if before else ", after the layers"
        names.append(name)
    totals = Counter(names)
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):
        seen[name] += 1
        if totals[name] > 1:
            names[index] = f"{name} ({seen[name]} of {totals[name]})"
    return names
