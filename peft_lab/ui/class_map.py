"""One class, one landscape: each learner guesses and trains a square; the projector shows guesses beside results."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import streamlit as st

from peft_lab.core import asking, palette
from peft_lab.core.asking import asker
from peft_lab.core.units import Source
from peft_lab.models.catalogue import get_model
from peft_lab.runs.view import Status
from peft_lab.studies import class_map
from peft_lab.studies.class_map import MODEL, RANKS, RATES, ROWS, SQUARES, Seen, Square, Summary
from peft_lab.ui import pages, state, web
from peft_lab.ui.classroom import pressed, show_button
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import error_line, errors_boxed, errors_here, part
from peft_lab.ui.components.qr import show_way_in
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.train import meanwhile
from peft_lab.ui.tour.page import root

SCOPE = "class-map"
REFRESH = 1.0  # seconds
_COLOURS = palette.variables(
    ink=palette.INK, soft=palette.SOFT, page=palette.PAGE, panel=palette.PANEL, frame=palette.FRAME, edge=palette.EDGE,
    trained=palette.TRAINED, accent=palette.ACCENT, forward=palette.FORWARD,
)  # fmt: skip
_CSS = f"<style>{web.read('class_map.css', COLOURS=_COLOURS)}</style>"


def class_map_page() -> None:
    pages.open_page()
    heading, tools = st.columns([0.55, 0.45], vertical_alignment="center")
    heading.title("One class, one landscape")
    st.markdown(
        f"How many of {ROWS} orders does the model get right? Guess first, then train your own square."
    )
    with errors_boxed():
        if refused := state.scope(SCOPE).pop("refused", ""):
            error_line(refused)
        if pages.teaches():
            with tools:
                _tools()
            with st.container(key="class-live"):
                part(_of_class, every=REFRESH)
        else:
            _of_learner()


def _setting() -> str:
    run = class_map.request(Square(0))
    return (
        f"LoRA on {get_model(MODEL).title}: {run.steps} steps of {run.batch} orders, adapting "
        f"{', '.join(run.values['target_modules'])}, α {run.values['lora_alpha']}. Score: exact matches on {ROWS} "
        "orders that are never trained on."
    )


def _tools() -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="right"):
        st.toggle("Hide names", key=state.widget_key(SCOPE, "hidden"))
        with st.popover("Clear", type="tertiary", key="map-clear"):
            st.markdown("Deletes all squares, guesses and results. Runs stay with their learners.")
            st.button("Clear the map", on_click=pressed, args=(SCOPE, class_map.clear))
        st.button("Fill in from recordings", type="primary", on_click=pressed, args=(SCOPE, class_map.fill))


def _of_class() -> None:
    recorded = class_map.recordings()
    ranks = sorted({SQUARES[at][0] for at in recorded}, reverse=True)
    seen, named = class_map.look_at_all(), not st.session_state.get(state.widget_key(SCOPE, "hidden"))
    left, right = st.columns([0.73, 0.27], gap="medium")
    with left:
        st.html(_CSS + map_html(seen, named))
        st.caption(
            f"{_setting()} {len(recorded)} of the {len(SQUARES)} squares have a recorded result: the squares of rank "
            f"{' and '.join(map(str, ranks))}. A square shows its result once the learner has guessed. "
            f"{figures.badge(Source.MEASURED)}"
        )
    with right:
        _sums(class_map.summary(seen))
        show_way_in(root(), asking.join_code())
        show_button("class_map", {})


def _sums(found: Summary) -> None:
    people = found.people
    st.markdown(f"## {people['done']} :small[of {people.total()} measured]")
    st.markdown(
        f":orange[**{people['training']}**] training now · {people['waiting'] + people['stopped']} waiting · "
        f"{people['guessing']} guessing"
    )
    if found.best is None:
        return
    rank, rate = SQUARES[found.best[0]]
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**Best so far**  \nrank {rank}, rate {rate:g}: **{found.best[1]} of {ROWS}**")
        if found.off is not None:
            st.markdown(f"**Your guesses**  \noff by {found.off:.1f} orders on average")
        if found.by_rate is not None and found.by_rank is not None:
            st.markdown(
                "**What stands out?**  \nBetween learning rates, the mean score differs by up to "
                f"{found.by_rate:.1f} orders; between ranks, by up to {found.by_rank:.1f}."
            )


def _of_learner() -> None:
    """Draw the learner's square: the guess, then the run, then the result among the class's."""
    who = asker()
    if who is None:
        st.info("This page is for a class. Start a class with `peft-lab serve --class`.")
        return
    mine = class_map.take(who.owner)
    rank, rate = SQUARES[mine.at]
    st.markdown(f"### Your square: rank {rank}, learning rate {rate:g}")
    st.caption(_setting())
    if mine.guess is not None:
        part(lambda: _mine(who.owner, mine), every=REFRESH if mine.right is None else None)
        return
    key = state.widget_key(SCOPE, "guess", f"{mine.at}")
    st.slider("Your guess", 0, ROWS, ROWS // 2, key=key)

    def guessed() -> None:
        if class_map.guess(who.owner, int(st.session_state[key])):
            class_map.train(who.owner)

    st.button("Guess and train", type="primary", on_click=pressed, args=(SCOPE, guessed))


def _mine(owner: str, before: Square) -> None:
    if owner not in class_map.stored_map().squares:
        st.rerun()  # cleared: the page gives another square
    one = class_map.look(owner)
    if one.square.right != before.right:
        st.rerun()  # the page then looks no more
    guess, right, view = one.square.guess or 0, one.square.right, one.view
    if right is not None:
        source = "a recorded run" if one.square.recorded else "your run"
        st.markdown(
            f"## {right} of {ROWS} :small[right in {source}; you guessed {guess}, off by {abs(right - guess)}] "
            f"{figures.badge(Source.MEASURED)}"
        )
        st.html(_CSS + map_html(class_map.look_at_all(), False, owner))
    elif view is None or view.status.final:
        st.markdown(
            f"You guessed **{guess}**. Your square is not training. {plain(view.message) if view else ''}"
        )
        st.button("Train it", type="primary", on_click=pressed, args=(SCOPE, class_map.train, owner))
    elif view.status is Status.QUEUED:
        st.markdown(f"You guessed **{guess}**. Your square is in the queue: other learners' runs come first.")
        with errors_here():
            meanwhile(class_map.request(one.square).complete())
    else:
        text = (
            f"step {view.step} of {view.steps}" if view.step < view.steps else "scoring the held-out orders"
        )
        st.progress(view.step / (view.steps or 1), f"You guessed **{guess}**. In training: {text}.")


@cache
def _template() -> Any:
    from jinja2 import Template

    return Template(web.read("class_map.html"), autoescape=True)


def map_html(seen: Sequence[Seen], named: bool, mine: str = "") -> str:
    """Return the map as HTML, with the learners' names if ``named``; the square of the owner ``mine`` is marked."""
    there: dict[tuple[int, float], list[Seen]] = {}
    for one in sorted(seen, key=lambda one: one.standing != "done"):
        there.setdefault(SQUARES[one.square.at], []).append(one)
    return str(_template().render(squares=there, ranks=RANKS, rates=RATES, rows=ROWS, named=named, mine=mine))
