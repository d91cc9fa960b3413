"""The landscape of a learner's own sweep: what the runs scored over one thing that was varied, or over two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from peft_lab.recipes.advice import figure as written
from peft_lab.sweep.landscape import METRIC
from peft_lab.sweeping import picture, trials
from peft_lab.sweeping.store import KeptSweep
from peft_lab.sweeping.trials import RATE, Setting
from peft_lab.ui import state
from peft_lab.ui.compare import drawings
from peft_lab.ui.compare.landscape_figure import Across
from peft_lab.ui.compare.landscape_figure import landscape as draw
from peft_lab.ui.components import figures
from peft_lab.ui.foreign import plain
from peft_lab.ui.sweeps import choosing, pictures
from peft_lab.ui.sweeps.choosing import ACROSS, HELD, LINES, NOTHING, SCOPE, UP, Address

MOST_TICKS = 8  # values that are written at an axis one by one


def section(
    sweep: KeptSweep, settings: Sequence[Setting], names: Sequence[str], measured: Sequence[str]
) -> Address:
    """Draw the part; what the address has to say of it."""
    axes = picture.axes(settings, names)
    if not axes:
        return {}
    st.markdown(f"### Landscape {figures.badge('measured')}")
    titles = choosing.titles(sweep.specs[0])
    places = st.columns(3)
    first = RATE if RATE in axes else axes[0]
    x = _choice(places[0], sweep, ACROSS, "Across", axes, first, choosing.named)
    others = [name for name in axes if name != x]
    default = measured[0] if not others or picture.crossed(settings, x) else others[0]
    called = {**{name: titles[name] for name in measured}, **{name: choosing.named(name) for name in others}}
    up = _choice(places[1], sweep, UP, "Up the axis", [*measured, *others], default, called.__getitem__)
    address: Address = {ACROSS: (x, first), UP: (up, default)}
    if up in others:
        _coloured(settings, x, up, measured[0], titles)
        return address
    by_names = [name for name in names if name != x]
    usual = by_names[0] if by_names else NOTHING
    by = _choice(places[2], sweep, LINES, "A line for each", [*by_names, NOTHING], usual, choosing.named)
    held = _held(sweep, settings, [name for name in by_names if name != by], up)
    _lines(settings, x, "" if by == NOTHING else by, up, held, titles)
    return address | {
        LINES: (by, usual),
        HELD: (choosing.held_as_text(held, names), choosing.held_as_text(_usual(settings, held, up), names)),
    }


def _choice(
    place: Any,
    sweep: KeptSweep,
    name: str,
    label: str,
    options: Sequence[Any],
    default: Any,
    titled: Callable[[Any], str],
) -> Any:
    index = state.one_of(SCOPE, name, list(options), default, sweep.id)
    key = state.widget_key(SCOPE, name, sweep.id, *map(str, options))
    value = place.selectbox(label, list(options), index=index, format_func=titled, key=key)
    problem = state.address_problem(SCOPE, name)
    if problem:
        place.markdown(f":red[:material/link_off: {plain(problem)}]")
    state.remember(SCOPE, name, value, sweep.id)
    return value


def _usual(settings: Sequence[Setting], names: Any, figure: str) -> dict[str, Any]:
    """What is held first: what the best setting has, so that it is in the picture."""
    best = trials.best(settings, figure)
    found = {}
    for name in names:
        options = picture.values(settings, name)
        value = best.values[name] if best is not None else None
        found[name] = value if value in options else options[0]
    return found


def _held(sweep: KeptSweep, settings: Sequence[Setting], names: Sequence[str], figure: str) -> dict[str, Any]:
    """What the lines have in common; a control for each that they do not differ in."""
    usual, held = _usual(settings, names, figure), {}
    for number, name in enumerate(names):
        if number % 3 == 0:
            places = st.columns(3)
        options = picture.values(settings, name)
        label = choosing.named(name).capitalize() if name in picture.TITLES else name
        held[name] = _choice(places[number % 3], sweep, f"held_{name}", label, options, usual[name], written)
    problem = state.address_problem(SCOPE, HELD)
    if problem:
        st.markdown(f":red[:material/link_off: {plain(problem)}]")
    return held


def _across(settings: Sequence[Setting], name: str) -> Across:
    found = picture.values(settings, name)
    ticks = tuple(float(value) for value in found) if len(found) <= MOST_TICKS else ()
    return Across(choosing.named(name), choosing.named(name), picture.logarithmic(settings, name), ticks)


def _lines(
    settings: Sequence[Setting], x: str, by: str, figure: str, held: dict[str, Any], titles: dict[str, str]
) -> None:
    lines = picture.lines(settings, x, by, figure, held)
    if not lines:
        st.markdown("No run with these settings is done yet.")
        return
    drawn = draw(lines, trials.kind_of(figure), titles[figure], _across(settings, x))
    st.plotly_chart(drawn, key="sweep-landscape", config=drawings.config("sweep-landscape"))
    st.markdown(
        ":small[The mean over seeds; the band reaches from the lowest to the highest of them. Each line's best is "
        "filled, the best of all is a star.]"
    )


def _coloured(settings: Sequence[Setting], x: str, y: str, figure: str, titles: dict[str, str]) -> None:
    places = picture.places(settings, x, y, figure)
    if not places:
        st.markdown("No run is done yet.")
        return
    drawn = pictures.coloured(places, _across(settings, x), _across(settings, y), figure, titles[figure])
    st.plotly_chart(drawn, key="sweep-coloured", config=drawings.config("sweep-landscape"))
    better = "more" if figure == METRIC else "less"
    st.markdown(
        f":small[Each point is a setting, coloured by {plain(titles[figure])}: the mean over seeds, {better} is "
        "better and more orange. Where several settings fall on one point, the best of them is drawn; the star has as "
        "many seeds as any.]"
    )
