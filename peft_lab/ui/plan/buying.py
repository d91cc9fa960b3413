"""What to buy: the smallest card that does it, alone and split over several."""

from __future__ import annotations

from dataclasses import asdict

import streamlit as st

from peft_lab import units
from peft_lab.errors import PeftLabError
from peft_lab.plan import ranking
from peft_lab.plan.market import COUNTS, Need, need
from peft_lab.plan.wanted import Wanted
from peft_lab.ui.components import figures
from peft_lab.ui.components.waiting import come_back
from peft_lab.ui.plan.shown import method_title
from peft_lab.workers.pool import get_pool


def what_to_buy(wanted: Wanted) -> None:
    """A table of methods and numbers of cards."""
    st.markdown(f"### What to buy {figures.badge('simulated')}")
    refused = ranking.get_refusals(wanted)
    methods = [slug for slug in ranking.METHODS if slug not in refused]
    asked = {
        (slug, count): get_pool().submit(1, need, asdict(wanted), slug, count)
        for count in COUNTS
        for slug in reversed(methods)
    }
    come_back(list(asked.values()))
    found: dict[tuple[str, int], Need] = {}
    for key, future in asked.items():
        if future.done() and not future.cancelled():
            try:
                found[key] = future.result()
            except PeftLabError:
                continue  # what cannot be split is left out; the plans above say why
    waiting = sum(not future.done() for future in asked.values())
    if waiting:
        st.progress(1 - waiting / len(asked), text=f"Simulating: {waiting} of {len(asked)} steps to go")
    rows = [
        (
            f"{count} card{'s' if count > 1 else ''}",
            method_title(slug),
            units.size(one.nbytes),
            one.size,
            one.card or "none here",
        )
        for (slug, count), one in sorted(found.items(), key=lambda item: (item[0][1], item[1].nbytes))
    ]
    if rows:
        figures.table(
            ("Cards", "Method", "Each needs", "Sold as, at least", "Smallest here"),
            rows,
            numeric=(2,),
            fold=True,
        )
        st.caption(
            "One row of a device at once, checkpointed; several cards split it with FSDP2. Full fine-tuning with "
            "weights kept in bfloat16, which rounds small updates away; plans try float32 first."
        )
