"""One plan in full: figures, bottleneck, recipe and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import streamlit as st

from peft_lab.advise.plan import told_by
from peft_lab.advise.plans import nearest as nowhere
from peft_lab.advise.plans import ranking
from peft_lab.advise.plans.configs import ABOUT, Written, write
from peft_lab.advise.plans.ranking import AWAY, KEPT, MOMENT_KINDS, Drawn, Planned
from peft_lab.advise.plans.steps import MEANS, ORDER, told_loading, uncounted, unmeasured
from peft_lab.advise.plans.wanted import HOUR, Wanted
from peft_lab.core import units
from peft_lab.core.units import Finding, Source, band, label, written_figure
from peft_lab.methods import get_method
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.plan.form import METHOD, SCOPE
from peft_lab.workers.inspector import get_pool

# ----------------------------------------
# The ranked plans as a table, what does not fit, and what the drawing of the ranks explains.


#: In place of hours, and of what they cost.
UNTIMED = "No data sheet of this card is here."
#: A dash at which no cell breaks.
_TO = "\N{WORD JOINER}\N{EN DASH}\N{WORD JOINER}"


def method_title(slug: str) -> str:
    return get_method(slug).title


def time_of(one: Planned) -> str:
    """Return the hours as a range, in a suitable unit, short enough for a card."""
    if one.hours is None:
        return "not known"
    return units.span(one.hours[0] * HOUR, one.hours[1] * HOUR, _TO)


def cost_of(one: Planned) -> str:
    """Return the cost as a range, in the price's currency."""
    if one.cost is None:
        return ""
    digits = 2 if one.cost[1] < 100 else 0
    return f"{one.cost[0]:,.{digits}f}{_TO}{one.cost[1]:,.{digits}f}"


def cost_range(one: Planned) -> None:
    """Draw a card with the cost; without a price, with the GPU hours to pay for."""
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


def plans_table(wanted: Wanted, ranked: Sequence[Planned], untried: int) -> None:
    """Draw every plan that fits. ``untried``: number of ways not tried, yet or at all."""
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


def pick_plan(ranked: Sequence[Planned]) -> Planned:
    """Draw the choice of a plan and return it. The default is the first, or the first of the URL's method."""
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


def refused_plans(found: Sequence[Planned]) -> None:
    """Draw the plans that do not work, with the reasons."""
    reasons = ranking.refusing(found)
    if reasons:
        with st.expander("What does not work, and why"):
            st.markdown(figures.badge("simulated"))
            st.markdown("\n".join(f"- **{title}**: {plain(reason)}" for title, reason in reasons))


def _waiting(drawn: Drawn) -> str:
    """Return a sentence on what waits in main memory, and on the copies it takes."""
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


def why_refused(drawn: Drawn, beside: Drawn | None) -> None:
    """Draw the meaning of the drawing, with its figures."""
    most = max(drawn.moments, key=lambda moment: moment.total)
    kept = max(moment.parts["activations"] for moment in drawn.moments)
    full = drawn.method == "full"
    held = f", weights kept in {KEPT} (plans that split them keep float32 where that fits)" if full else ""
    step = "checkpointed step" if drawn.checkpointing else "step"
    cuts = "fewer rows or tokens" if drawn.checkpointing else "fewer rows or tokens, or checkpointing"
    lines = [
        f"On each of {drawn.devices} ranks a {step} of {get_method(drawn.method).title} with one row holds at most "
        f"{units.size(most.total)} with {MOMENT_KINDS[drawn.kind]}{held}. {figures.badge('simulated')}"
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
            f"{units.size(whole)} with {MOMENT_KINDS[beside.kind]}. What cuts them is {cuts}. "
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


PATIENCE = 0.8
_PADDED = (
    "Rows are padded, not packed: memory and time are of such steps. With a file of their lengths, short rows can be "
    "packed."
)
_NEARBY = "Activations go to main memory where a checkpointed step fits in no other way."
_AWAY = "Activations wait in main memory: nothing hides their copies, and their rate is assumed."
_PACKED = (
    "Rows are packed: memory and time are of full rows, with the mask that keeps the rows in them apart. Kernels that "
    "know where rows end need no mask and less time, and are not assumed."
)


def _ask(wanted: Wanted, candidate: ranking.Candidate) -> Planned:
    return ranking.evaluate(asdict(wanted), asdict(candidate))


def nearest(fields: Mapping[str, Any]) -> nowhere.Nearest:
    """Return the nearest plan that works, evaluated in this process. Imports torch; raises as that does."""
    return nowhere.nearest(Wanted(**fields), _ask)


def meeting(fields: Mapping[str, Any], best: Planned) -> tuple[nowhere.Way, ...]:
    """Return ways to meet the deadline, evaluated in this process. Imports torch; raises as that does."""
    return nowhere.meeting(Wanted(**fields), best, _ask)


def in_full(wanted: Wanted, one: Planned) -> None:
    """Draw everything about a plan that fits."""
    assert one.plan is not None
    plan = one.plan
    with st.container(key="plan-figures"):
        cells = st.columns(3)
    low, high = one.peak
    with cells[0]:
        peak = Finding(plan.needed_bytes, "bytes", Source.SIMULATED)
        figures.card(
            "Peak of each GPU",
            peak,
            f"{units.size(low)} to {units.size(high)}; {units.size(plan.memory_bytes)} usable",
        )
    with cells[1]:
        hours = None if one.seconds is None else Finding(one.seconds.value, "seconds", Source.SIMULATED)
        note = units.several(one.updates, "update") + (
            "" if one.update is None else f" of {units.seconds(one.update.value)}"
        )
        if one.course is not None and one.looking is not None and one.course.looks:
            note += (
                f"; {one.course.looks:,} looks at held-out rows, {units.roughly(one.looking.value)} in all"
            )
        figures.card("Time", hours, note, time_of(one), UNTIMED)
    with cells[2]:
        cost_range(one)
    if one.update is not None:
        means = MEANS.get(one.update.bottleneck, "")
        share = one.update.parts[one.update.bottleneck] / one.update.value
        st.markdown(
            f"**Waits for: {one.update.bottleneck}**, {share:.0%} of an update. {means} {figures.badge('simulated')}"
        )
        if one.change is not None:
            saved = 1 - one.change.factor
            st.markdown(
                f"**Cheapest change.** {one.change.text}: {saved:.0%} less time. {figures.badge('simulated')}"
            )
    if one.quality.accuracy is None:
        st.markdown(f"**Quality.** {one.quality.text}")
    else:
        st.markdown(f"**Quality.** {one.quality.text} ({one.quality.source}). {figures.badge('cited')}")
    if one.saved is not None:
        beside = f"{abs(one.saved):.0%} {'less' if one.saved >= 0 else 'more'} time"
        st.markdown(
            f"**Packed.** {beside} than padded rows of average length, as many at once. {figures.badge('simulated')}"
        )
    if plan.host_bytes:
        st.markdown(f"Main memory: {units.size(plan.host_bytes)} for each GPU. {figures.badge('simulated')}")
    if loads := told_loading(wanted.situation().shape, one.candidate.method, plan):
        st.markdown(f"{loads} {figures.badge('counted')}")
    rows = [
        (label(name), written_figure(setting.value), band(setting.band), told_by(setting))
        for name, setting in plan.settings.items()
    ]
    with st.expander("Recipe"):
        figures.table(("Setting", "Value", "Sources' band", "From"), rows, fold=True)
        st.caption(f"{_PACKED if plan.packed else _PADDED} {_AWAY if plan.offload else _NEARBY}")
    _files(wanted, one)


def _files(wanted: Wanted, one: Planned) -> None:
    """Draw the files, with a download button."""
    st.markdown("#### Files that carry it out")
    shown(get_pool().submit(0, write, asdict(wanted), one), _written, "Writing files…", patience=PATIENCE)


def _written(written: Written) -> None:
    missing(written)
    if not written.files:
        return
    names = list(written.files)
    for tab, name in zip(st.tabs(names), names, strict=True):
        with tab:
            st.caption(f"`{name}`: {ABOUT[name]}")
            st.code(written.files[name], "python" if name.endswith(".py") else "yaml", height=360)
    st.download_button(
        "Download all",
        written.zipped(),
        "peft-plan.zip",
        "application/zip",
        icon=":material/download:",
        type="primary",
    )


def missing(written: Written) -> None:
    """Draw which files are missing and why, each reason once."""
    for reason, names in written.reasons.items():
        st.markdown(f"No {' or '.join(f'`{name}`' for name in names)}: {plain(reason)}")
