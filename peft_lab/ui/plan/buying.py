"""What to buy: the smallest card that does it, alone and split over several."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import asdict

import streamlit as st

from peft_lab import units
from peft_lab.errors import PeftLabError
from peft_lab.plan import ranking
from peft_lab.plan.market import COUNTS, Need, need
from peft_lab.plan.wanted import Wanted
from peft_lab.ui.components import figures
from peft_lab.ui.components.waiting import come_back, is_open
from peft_lab.ui.plan.shown import method_title
from peft_lab.workers.pool import get_pool

_OPEN = "…"  # in the cell of what is still simulated


def what_to_buy(wanted: Wanted) -> None:
    """The smallest card for each method, in a row for each number of cards, which are all there from the start."""
    st.markdown(f"### What to buy {figures.badge('simulated')}")
    refused = ranking.get_refusals(wanted)
    methods = [slug for slug in reversed(ranking.METHODS) if slug not in refused]
    asked = {
        (count, slug): get_pool().submit(0, need, asdict(wanted), slug, count)
        for count in COUNTS
        for slug in methods
    }
    cells = {which: _cell(future) for which, future in asked.items()}
    rows = [
        (f"{count} card{'s' if count > 1 else ''}", *(cells[count, slug] for slug in methods))
        for count in COUNTS
    ]
    with st.container(key="what-to-buy"):
        figures.table(("Cards", *map(method_title, methods)), rows, fold=True)
    open_ = [asked[which] for which, text in cells.items() if text == _OPEN]
    if open_:
        st.progress(1 - len(open_) / len(asked), text=f"Simulating: {len(open_)} of {len(asked)} steps to go")
    st.caption(
        "The smallest card here that does it, and in brackets what a step takes of each: one row at once, "
        "checkpointed; several cards split it with FSDP2. Full fine-tuning with weights kept in bfloat16, which rounds "
        "small updates away; plans try float32 first."
    )
    come_back(open_)


def _cell(asked: Future[Need]) -> str:
    if is_open(asked):
        return _OPEN
    try:
        found = asked.result()
    except PeftLabError:
        return "not split"  # the plans say why
    return f"{found.card or 'none here'} ({figures.unbroken(units.size(found.nbytes))})"
