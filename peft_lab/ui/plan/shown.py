"""The ranked plans as a table, what does not fit, and what the drawing of the ranks explains."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab import units
from peft_lab.methods import get_method
from peft_lab.plan import ranking
from peft_lab.plan.moments import AWAY, KEPT, KINDS, Drawn
from peft_lab.plan.ranking import Planned
from peft_lab.plan.verdict import ORDER, uncounted, unmeasured
from peft_lab.plan.wanted import HOUR, Wanted
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.foreign import plain
from peft_lab.ui.plan.controls import SCOPE
from peft_lab.ui.plan.form import METHOD
from peft_lab.units import Finding, Source

#: In place of hours, and of what they cost.
UNTIMED = "No data sheet of this card is here."
#: A dash at which no cell breaks.
_TO = "\N{WORD JOINER}\N{EN DASH}\N{WORD JOINER}"


def method_title(slug: str) -> str:
    return get_method(slug).title


def time_of(one: Planned) -> str:
    """Hours as a range, in the unit that suits them, short enough for a card."""
    if one.hours is None:
        return "not known"
    return units.span(one.hours[0] * HOUR, one.hours[1] * HOUR, _TO)


def cost_of(one: Planned) -> str:
    """A range in the price's currency."""
    if one.cost is None:
        return ""
    digits = 2 if one.cost[1] < 100 else 0
    return f"{one.cost[0]:,.{digits}f}{_TO}{one.cost[1]:,.{digits}f}"


def cost(one: Planned) -> None:
    """A card with what it costs; without a price, the hours to pay for."""
    assert one.plan is not None
    cards = one.plan.devices
    if one.cost is not None:
        money = Finding(one.cost[1], "money", Source.SIMULATED)
        figures.card("Cost", money, f"{cards} × your price × time", cost_of(one))
        return
    paid = None if one.hours is None else [hours * cards for hours in one.hours]
    found = None if paid is None else Finding(paid[1], "GPU hours", Source.SIMULATED)
    digits = 0 if paid is None or paid[1] >= 10 else 1 if paid[1] >= 1 else 2
    text = None
    if paid is not None:
        low, high = (round(value, digits) for value in paid)
        text = (
            f"{high:,.{digits}f} GPU hours"
            if low == high
            else f"{low:,.{digits}f}{_TO}{high:,.{digits}f} GPU hours"
        )
    note = f"{cards} × time. Say the price of one per hour to see it in money."
    figures.card("Cost", found, note, text, UNTIMED)


def table(wanted: Wanted, ranked: Sequence[Planned], untried: int) -> None:
    """Every plan that fits. ``untried``: ways that were not tried yet, or never, where it was stopped."""
    order = f"{untried} {'way' if untried == 1 else 'ways'} untried" if untried else "the best first"
    priced = any(one.cost is not None for one in ranked)
    heads = [
        "Plan",
        "Batch size",
        "Peak",
        "Free",
        "Time",
        *(["Cost"] if priced else []),
        "Waits for",
    ]
    rows = []
    for one in ranked:
        assert one.plan is not None
        cells = [
            one.title, f"{one.plan.batch:,} × {one.plan.accumulate:,}", units.size(one.plan.needed_bytes),
            units.percent(100 * one.plan.headroom), figures.unbroken(time_of(one)), *([cost_of(one)] if priced else []),
            one.update.bottleneck if one.update else "",
        ]  # fmt: skip
        rows.append(cells)
    with st.container(key="plans"):
        st.markdown(f"### Plans that fit, {order} {figures.badge('simulated')}")
        figures.table(heads, rows, numeric=(2, 3), fold=True)
    st.caption(f"Batch size × passes that make an update. {ORDER}")
    situation = wanted.situation()
    if unsure := unmeasured(situation.shape):
        st.caption(unsure)
    if beside := uncounted(situation):
        st.caption(beside)


def pick(ranked: Sequence[Planned]) -> Planned:
    """The plan to see in full: the first, or the first of the method that the address names."""
    titles = [one.title for one in ranked]
    named = state.remembered(SCOPE, METHOD, "")
    start = next((number for number, one in enumerate(ranked) if one.candidate.method == named), 0)
    number = st.selectbox(
        "Plan in full",
        range(len(ranked)),
        start,
        key=state.widget_key(SCOPE, "shown", *titles),
        format_func=titles.__getitem__,
    )
    return ranked[number or 0]


def refused(found: Sequence[Planned]) -> None:
    """What was tried and does not work."""
    reasons = ranking.refusing(found)
    if reasons:
        with st.expander("What does not work, and why"):
            st.markdown(figures.badge("simulated"))
            st.markdown("\n".join(f"- **{title}**: {plain(reason)}" for title, reason in reasons))


def _waiting(drawn: Drawn) -> str:
    """What main memory is used for, and what that copies."""
    phases = {moment.phase: moment for moment in drawn.moments}
    forward, backward = phases["forward"], phases["backward"]
    most = max(moment.waiting for moment in drawn.moments)
    badge = figures.badge("simulated")
    if drawn.kind == AWAY:
        around = forward.taken - forward.layers
        return (
            f"**Activations wait in main memory.** {units.size(forward.taken)} leave each rank on the way forward and "
            f"come back on the way back. {units.size(forward.layers)} of them belong to the {drawn.depth} layers, "
            f"{units.size(around)} to what stands around them, such as the logits. {badge}"
        )
    return (
        f"**Shares wait in main memory**, {units.size(most)} for each rank. A step copies "
        f"{units.size(forward.brought + backward.brought)} of weights to it and {units.size(backward.taken)} of "
        f"gradients back; moments never leave. {badge}"
    )


def why(drawn: Drawn, beside: Drawn | None) -> None:
    """What the drawing shows, in words with its figures."""
    most = max(drawn.moments, key=lambda moment: moment.total)
    kept = max(moment.parts["activations"] for moment in drawn.moments)
    full = drawn.method == "full"
    held = f", weights kept in {KEPT} (plans that split them keep float32 where that fits)" if full else ""
    step = "checkpointed step" if drawn.checkpointing else "step"
    cuts = "fewer rows or tokens" if drawn.checkpointing else "fewer rows or tokens, or checkpointing"
    lines = [
        f"On each of {drawn.devices} ranks a {step} of {get_method(drawn.method).title} with one row holds at most "
        f"{units.size(most.total)} with {KINDS[drawn.kind]}{held}. {figures.badge('simulated')}"
    ]
    if drawn.waits:
        lines.append(_waiting(drawn))
    if drawn.kind == "tp":
        lines.append(
            "**Activations are split in part.** Heads, and what is inside the MLP, are a rank's own; what goes from "
            "layer to layer, and the logits, are whole on each. All ranks read the same rows, so that more "
            f"ranks make a step smaller and not more of them. {figures.badge('simulated')}"
        )
    elif beside is not None and beside.kind != drawn.kind and drawn.kind != AWAY:
        whole = max(moment.parts["activations"] for moment in beside.moments)
        lines.append(
            f"**Activations are not split.** They belong to a rank's own rows: {units.size(kept)} here, "
            f"{units.size(whole)} with {KINDS[beside.kind]}. What cuts them is {cuts}. "
            f"{figures.badge('simulated')}"
        )
    lines.append(
        "**QLoRA and FSDP: the storage type.** bitsandbytes packs two weights into a byte. FSDP1 flattens a layer into "
        "one tensor, which has to be of one floating type, so the bytes are stored as numbers of the computing "
        "precision (`bnb_4bit_quant_storage`). FSDP2 splits each tensor for itself and leaves alone what is no "
        "floating number; the files here set the storage type all the same, which works with both."
    )
    for line in lines:
        st.markdown(line)
