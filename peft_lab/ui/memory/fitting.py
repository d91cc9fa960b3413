"""What is the largest batch, the longest row, the largest model that fits: searched by simulating, on request."""

from __future__ import annotations

from functools import partial
from typing import Literal

import streamlit as st

from peft_lab.core import units
from peft_lab.engine import fits
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model, readers_of_text
from peft_lab.ui.components import figures
from peft_lab.ui.components.waiting import collect, progress, shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.memory.bars import Simulated, pick_method, refusals, verdict
from peft_lab.ui.memory.controls import SEARCH, MemoryForm

KEY = "memory-search"
BUTTONS = {"batch": "Largest batch", "seq": "Longest rows", "model": "Largest model"}


def fitting(chosen: MemoryForm, answers: Simulated) -> None:
    cells = st.columns([4, 3, 3, 3], vertical_alignment="bottom")
    with cells[0]:
        slug = pick_method(answers, "method-fits")
    if slug is None:
        return
    wanted = (slug, *chosen.key())
    # Images are all as long, and the models of the list read texts.
    buttons = {"batch": BUTTONS["batch"]} if chosen.entry.kind == "vision" else BUTTONS
    for cell, (what, label) in zip(cells[1:], buttons.items(), strict=False):
        if cell.button(label, key=f"find-{what}", width="stretch"):
            st.session_state[KEY] = (what, wanted)
    what, for_which = st.session_state.get(KEY, (None, None))
    if what is None or for_which != wanted:
        st.markdown(
            f"Searched on {chosen.card.holding} ({units.size(chosen.card.memory)} usable), all other settings "
            "as above. A size is doubled until the step no longer fits, then narrowed down by halving: about ten "
            "simulations."
        )
    elif what == "model":
        _models(chosen, slug)
    else:
        search = chosen.search(SEARCH, what, slug)
        shown(search, partial(_size, what, chosen, slug), "Searching: about ten simulations…")


def _size(what: Literal["batch", "seq"], chosen: MemoryForm, slug: str, size: int) -> None:
    sees = chosen.entry.kind == "vision"
    read = ("image", "images") if sees else ("row", "rows")
    row, unit = read if what == "batch" else ("token", "tokens per row")
    limit = chosen.entry.shape.max_positions
    whole = what == "seq" and size == limit
    least = "at least " if size == fits.LARGEST[what] and not whole else ""
    tokens = "positions" if sees else "tokens"
    rest = f"{chosen.seq:,} {tokens}" if what == "batch" else f"{chosen.batch:,} rows"
    sentence = f"**{least}{size:,} {unit}** {'of' if what == 'batch' else 'at'} {rest}"
    if whole:
        sentence += ", which are all the positions it has"
    elif least:
        sentence += "; no larger size was searched"
    if not size:
        sentence = f"Not even one {row} fits"
    st.markdown(
        f"{all_methods()[slug].title} of {plain(chosen.entry.title)} on {chosen.card.holding}: {sentence}. "
        f"{figures.badge('simulated')}"
    )


def _models(chosen: MemoryForm, slug: str) -> None:
    """Draw the catalogue from small to large; rows are as long as a model has positions for, at most."""
    entries = sorted(readers_of_text().values(), key=lambda entry: entry.parameters)
    refused = {entry.name: refusals(entry)[slug] for entry in entries if slug in refusals(entry)}
    asked = {}
    for entry in entries:
        if entry.name not in refused:
            seq = fits.longest_row(chosen.request(slug, entry.name))
            asked[entry.name] = chosen.simulate(SEARCH, slug, {"seq": seq}, model=entry.name)
    answers = collect(asked)
    progress(answers, "models")
    refused |= answers.refused
    device = chosen.card
    fitting = [entry for entry in entries if _fits(answers, entry.name, device.memory)]
    if not answers.waiting:
        sentence = f"**{fitting[-1].title}** is the largest" if fitting else "None of the models"
        st.markdown(
            f"{sentence} in the list whose step with {all_methods()[slug].title} fits on {device.holding}. "
            f"{figures.badge('simulated')}"
        )
    rows = []
    for entry in reversed(entries):
        if entry.name in answers.found:
            need = fits.needed(answers.found[entry.name])
            size = units.short_count(entry.parameters)
            rows.append((figures.unbroken(entry.title), size, units.size(need), verdict(need, device)))
    if rows:
        figures.table(("Model", "Parameters", "Device must have", "On the device"), rows, numeric=(1, 2))
    for name, reason in refused.items():
        st.caption(f"{get_model(name).title}: {plain(reason)}")


def _fits(answers: Simulated, name: str, memory: int) -> bool:
    one = answers.found.get(name)
    return one is not None and fits.needed(one) <= memory
