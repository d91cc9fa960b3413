"""What is chosen on the Sweeps page, and the landscape of a learner's own sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.core.field import Field, as_text
from peft_lab.core.form import Form, choice, text
from peft_lab.core.units import written_figure
from peft_lab.runs.spec import RunSpec
from peft_lab.studies.landscape import METRIC, told
from peft_lab.studies.sweeps import picture, store
from peft_lab.studies.sweeps.picture import PicturePoint
from peft_lab.studies.sweeps.store import RATE, TRAINING, KeptSweep, SweepSetting, kind_of
from peft_lab.ui import state, theme
from peft_lab.ui.compare import landscape as shipped
from peft_lab.ui.compare import results
from peft_lab.ui.compare.landscape import Across, axis, landscape_figure
from peft_lab.ui.components import figures
from peft_lab.ui.components.charts import laid_out
from peft_lab.ui.components.form import Controls, widget
from peft_lab.ui.foreign import plain

SCOPE = "sweeps"
SWEEP, ACROSS, UP, LINES, HELD = "sweep", "x", "y", "lines", "held"
NOTHING = "none"
#: What the address says: each choice with its default.
SweepAddress = dict[str, tuple[Any, Any]]


def named_sweep(name: str) -> str:
    """Return the name of a varied setting within a sentence."""
    return picture.title(name).lower() if name in picture.TITLES else name


def setting_titles(spec: RunSpec) -> dict[str, str]:
    """Return the figures by which runs can be judged, with units."""
    task = spec.task_object()
    return {**shipped.titles(task, task.metric), TRAINING: "Training loss of the last step (nats)"}


def written_value(value: float, figure: str) -> str:
    return f"{value:.1%}" if figure == METRIC else f"{value:.3f}"


def _varied(*first: str) -> dict[str, str]:
    """Return the settings varied in the current sweep, after the names ``first``."""
    sweep = _shown()
    return {} if sweep is None else dict.fromkeys((*first, *store.varied(sweep.specs)), "")


@dataclass(frozen=True)
class SweepForm(Form):
    """The page's settings: a sweep, its landscape's axes, and the meaning of the lines."""

    sweep: str = choice("", "Sweep", "", lambda: {one.id: "" for one in store.sweeps()}, noun="sweep")
    x: str = choice("", "Horizontal axis", "", _varied, noun="axis of this sweep")
    y: str = choice("", "Vertical axis", "", lambda: _varied(*store.FIGURES), noun="axis of this sweep")
    lines: str = choice(NOTHING, "Lines", "", lambda: _varied(NOTHING), noun="axis of this sweep")
    held: str = text("", "Settings held at one value", "")


def sweep_controls(usual: Callable[[], SweepForm] = SweepForm) -> Controls[SweepForm]:
    """Return the page's controls, not yet drawn. All but the sweep depend on it."""
    return Controls(SweepForm, SCOPE, usual, lambda name: () if name == SWEEP else (_identity(),))


def _identity() -> str:
    kept = store.sweeps()
    return str(state.remembered(SCOPE, SWEEP, kept[0].id if kept else ""))


def _shown() -> store.KeptSweep | None:
    """Return the sweep that the rest of the URL refers to, or None."""
    return next((one for one in store.sweeps() if one.id == _identity()), None)


def read_held(text: str) -> dict[str, Any]:
    sweep = _shown()
    if sweep is None:
        raise BadInput(
            "There is no sweep yet, so no setting can be held at one value. Start a sweep first.", HELD
        )
    found = {}
    for part in text.split(";"):
        name, _, value = part.partition("=")
        if name not in _varied():
            raise UnknownName("setting of this sweep", name[:40], _varied(), HELD)
        known = {as_text(one): one for one in (store.value_of(spec, name) for spec in sweep.specs)}
        if value not in known:
            raise UnknownName(f"value of {name}", value[:40], known, HELD)
        found[name] = known[value]
    return found


def held_as_text(held: Mapping[str, Any], order: Sequence[str]) -> str:
    """Return held settings as text for the URL, such as ``learning_rate=0.003;r=8``."""
    return ";".join(f"{name}={as_text(held[name])}" for name in order if name in held)


#: From the worst to the best; both can be seen on a light ground and on a dark one.
SCALE = ([0.0, theme.QUANTISED], [0.5, theme.QUIET], [1.0, theme.TRAINABLE])


def coloured(places: Sequence[PicturePoint], x: Across, y: Across, figure: str, title: str) -> go.Figure:
    """Return a point per place, coloured by its mean; the best of those with the most seeds is a star."""
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
    return laid_out(drawn, 440, axis(x), axis(y))


MOST_TICKS = 8  # values that are written at an axis one by one


def landscape_section(
    sweep: KeptSweep, settings: Sequence[SweepSetting], names: Sequence[str], measured: Sequence[str]
) -> SweepAddress:
    """Draw the part; return its URL parameters."""
    axes = picture.axes(settings, names)
    if not axes:
        return {}
    st.markdown(f"### Landscape {figures.badge('measured')}")
    titles = setting_titles(sweep.specs[0])
    places = st.columns(3)
    first = RATE if RATE in axes else axes[0]
    usual = SweepForm(x=first)
    controls = sweep_controls(lambda: usual)

    def draw(name: str, place: Any, titles: Mapping[str, str]) -> str:
        found: str = controls.draw(name, place, options=titles, key=controls.key(name, *titles))
        controls.remember(name, found)  # even if another choice changes the default
        return found

    x = draw(ACROSS, places[0], {name: named_sweep(name) for name in axes})
    others = [name for name in axes if name != x]
    usual = replace(usual, y=measured[0] if not others or picture.crossed(settings, x) else others[0])
    called = {
        **{name: titles[name] for name in measured},
        **{name: named_sweep(name) for name in others},
    }
    up = draw(UP, places[1], called)
    address: SweepAddress = {ACROSS: (x, first), UP: (up, usual.y)}
    if up in others:
        _coloured(settings, x, up, measured[0], titles)
        return address
    by_names = [name for name in names if name != x]
    usual = replace(usual, lines=by_names[0] if by_names else NOTHING)
    by = draw(LINES, places[2], {name: named_sweep(name) for name in (*by_names, NOTHING)})
    held = _held(controls, settings, [name for name in by_names if name != by], up)
    lines = picture.lines(settings, x, "" if by == NOTHING else by, up, held)
    if lines:
        drawn = landscape_figure(lines, store.kind_of(up), titles[up], _across(settings, x))
        results.plot(drawn, "sweep-landscape", "sweep-landscape")
        st.markdown(
            ":small[Lines: the mean over seeds, with a band from the lowest seed to the highest. Filled dot: the best "
            "point of its line. Star: the best point of all lines.]"
        )
    else:
        st.markdown("No run with these settings has finished yet.")
    return address | {
        LINES: (by, usual.lines),
        HELD: (held_as_text(held, names), held_as_text(_usual(settings, held, up), names)),
    }


def _usual(settings: Sequence[SweepSetting], names: Any, figure: str) -> dict[str, Any]:
    """Return the held settings' defaults: the best setting's values, so that it is in the picture."""
    best = store.best_setting(settings, figure)
    found = {}
    for name in names:
        options = picture.values(settings, name)
        value = best.values[name] if best is not None else None
        found[name] = value if value in options else options[0]
    return found


def _held(
    controls: Controls[SweepForm], settings: Sequence[SweepSetting], names: Sequence[str], figure: str
) -> dict[str, Any]:
    """Draw a control for each held setting; return their values."""
    usual, chosen = _usual(settings, names, figure), dict(controls.value(HELD) or {})
    for number, name in enumerate(names):
        if number % 3 == 0:
            places = st.columns(3)
        titles = {value: written_figure(value) for value in picture.values(settings, name)}
        label = named_sweep(name).capitalize() if name in picture.TITLES else name
        field = Field(name, label, "choice", usual[name], "", options=titles)
        start = chosen.get(name) if chosen.get(name) in titles else usual[name]
        with places[number % 3]:
            chosen[name] = widget(field, start, controls.key(HELD, name, *map(str, titles)))
    controls.below(HELD)
    controls.remember(HELD, chosen)
    return {name: chosen[name] for name in names}


def _across(settings: Sequence[SweepSetting], name: str) -> Across:
    found = picture.values(settings, name)
    ticks = tuple(float(value) for value in found) if len(found) <= MOST_TICKS else ()
    return Across(named_sweep(name), named_sweep(name), picture.logarithmic(settings, name), ticks)


def _coloured(settings: Sequence[SweepSetting], x: str, y: str, figure: str, titles: dict[str, str]) -> None:
    places = picture.places(settings, x, y, figure)
    if not places:
        st.markdown("No run has finished yet.")
        return
    drawn = coloured(places, _across(settings, x), _across(settings, y), figure, titles[figure])
    results.plot(drawn, "sweep-coloured", "sweep-landscape")
    better = "more" if figure == METRIC else "less"
    st.markdown(
        f":small[Each dot is a setting, coloured by {plain(titles[figure])}, the mean over seeds: {better} is better "
        "and more orange. If several settings share a dot, the dot shows the best. The star is the best among the "
        "settings with the most seeds.]"
    )
