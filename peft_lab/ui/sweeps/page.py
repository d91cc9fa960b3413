"""Sweeps: how far each is, the best setting with its interval, what was varied as pictures, and every run."""

from __future__ import annotations

import time

import streamlit as st

from peft_lab.classroom import mode
from peft_lab.errors import PeftLabError
from peft_lab.models.catalogue import model_title
from peft_lab.sweeping import example, store, trials
from peft_lab.sweeping.store import KeptSweep
from peft_lab.tasks.titles import task_title
from peft_lab.ui import pages, state
from peft_lab.ui.components.apart import apart
from peft_lab.ui.components.listing import listing
from peft_lab.ui.foreign import plain
from peft_lab.ui.sweeps import best, choosing, landscape, parallel, table, watching
from peft_lab.ui.sweeps.choosing import SCOPE, SWEEP

_WIDE = 100  # letters in a line of code on a wide page


def sweeps_page() -> None:
    pages.open_page()
    st.title("Sweeps")
    st.markdown(
        "A sweep trains every setting of one file, with each of its seeds: a grid of knobs and rates, or draws at "
        "random. Its runs are also on the Runs page."
    )
    state.read_address(SCOPE, choosing.readers())
    kept = store.sweeps()
    if not kept:
        _empty()
        return
    try:
        shown = _choose(kept)
        address = _show(shown)
    except PeftLabError as error:
        st.error(plain(error))
        return
    state.write_address({SWEEP: (shown.id, kept[0].id)} | address)
    with st.expander("Start another sweep", icon=":material/add:"):
        _how()


def _empty() -> None:
    problem = state.address_problem(SCOPE, SWEEP)
    if problem:
        st.markdown(f":red[:material/link_off: {plain(problem)}]")
    if mode.on():
        st.info(
            "You have no sweep here. Sweeps are started with the command line, on a machine of your own; their page "
            "is then in your own app."
        )
    else:
        st.info("No sweeps yet. Save these lines as a file and give the command; this page then follows it.")
    _how()


def _how() -> None:
    st.markdown("Lines of a file that works:")
    listing(example.FILE.strip(), "sweep-file", _WIDE)
    st.markdown("and the command; given again after whatever ended it, it trains what is missing:")
    listing(example.COMMAND, "sweep-command", _WIDE)


def _choose(kept: list[KeptSweep]) -> KeptSweep:
    titles = apart({one.id: _title(one) for one in kept})
    index = state.one_of(SCOPE, SWEEP, list(titles), kept[0].id)
    key = state.widget_key(SCOPE, SWEEP)
    identity = st.selectbox("Sweep", list(titles), index=index, key=key, format_func=titles.__getitem__)
    problem = state.address_problem(SCOPE, SWEEP)
    if problem:
        st.markdown(f":red[:material/link_off: {plain(problem)}]")
    state.remember(SCOPE, SWEEP, identity)
    return store.get(identity)


def _title(one: KeptSweep) -> str:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.created))
    try:
        specs = one.specs
    except PeftLabError as error:
        return f"{one.id}: {error}"
    model, task = model_title(specs[0].model), task_title(specs[0].task)
    what = ", ".join(choosing.named(name) for name in trials.varied(specs)) or "nothing but the seed"
    return f"{model} · {task} · {len(specs):,} runs over {what} · {began}"


def _show(sweep: KeptSweep) -> choosing.Address:
    found = watching.watch(sweep)
    figures = trials.measured(found)
    names = trials.varied(sweep.specs)
    settings = trials.settings(found, names)
    address: choosing.Address = {}
    if figures:
        best.section(settings, figures[0], sweep.specs[0])
        address = landscape.section(sweep, settings, names, figures)
        parallel.section(settings, names, figures[0], sweep.specs[0])
    table.section(found, names, figures, sweep.specs[0])
    return address
