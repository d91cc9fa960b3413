"""The verdict on a situation: the chosen plan with its files, the runner-up, the five best plans, one of them in full,
and what does not fit."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import streamlit as st

from peft_lab.advise.plan import told_by
from peft_lab.advise.plans import nearest as nowhere
from peft_lab.advise.plans import ranking
from peft_lab.advise.plans.configs import ABOUT, Written, write
from peft_lab.advise.plans.nearest import OF_RANK, Nearest, Need
from peft_lab.advise.plans.ranking import AWAY, KEPT, MOMENT_KINDS, Drawn, Planned
from peft_lab.advise.plans.steps import MEANS, ORDER, loading, told_adapters, uncounted, unmeasured
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.room import weight_bytes
from peft_lab.advise.simulating import StepRun, splits
from peft_lab.advise.situation import HOUR
from peft_lab.core import units
from peft_lab.core.inspector import get_pool
from peft_lab.core.units import Source, band, label, written_figure
from peft_lab.engine.devices import Device
from peft_lab.methods import get_method
from peft_lab.ui import state, theme
from peft_lab.ui.components import figures
from peft_lab.ui.components.rows import Column, RowOf, just_chosen, rows
from peft_lab.ui.components.waiting import come_back, look, shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.plan.form import METHOD, SCOPE, offers

BEST = 5
TABLE = "plans-table"
#: A dash at which no cell breaks.
_TO = "\N{WORD JOINER}\N{EN DASH}\N{WORD JOINER}"
#: In place of a time that is not known.
UNTIMED = "The speed of this card is not known."
_SHARED = {
    "none": "one card", "ddp": "copy on each card (DDP)", "fsdp2": "split over all (FSDP2)",
    "fsdp2+offload": "split, rest in main memory (FSDP2)", "tp": "every matrix split (tensor parallel)",
}  # fmt: skip


def time_of(one: Planned) -> str:
    """Return the hours as a range, in a suitable unit."""
    if one.hours is None:
        return "not known"
    return units.span(one.hours[0] * HOUR, one.hours[1] * HOUR, _TO)


def cost_of(one: Planned) -> str:
    """Return the cost as a range, in the price's currency; without a price, the GPU hours to pay for."""
    if one.cost is not None:
        digits = 0 if one.cost[1] >= 100 else 2 if one.cost[1] >= 0.1 else 4
        return f"{one.cost[0]:,.{digits}f}{_TO}{one.cost[1]:,.{digits}f}"
    if one.hours is None or one.plan is None:
        return ""
    paid = [hours * one.plan.devices for hours in one.hours]
    digits = 0 if paid[1] >= 10 else 1 if paid[1] >= 1 else 2
    low, high = (round(value, digits) for value in paid)
    return f"{high:,.{digits}f}" if low == high else f"{low:,.{digits}f}{_TO}{high:,.{digits}f}"


def cards(device: Device, count: int) -> str:
    """Return the devices' short name, with their number if there are several."""
    name = device.called.removeprefix("GeForce ")
    return f"{count:,} × {name}" if count > 1 else f"one {name}"


def identity(one: Planned) -> str:
    """Return the id of a plan among those of its situation."""
    return f"{one.candidate.method}-{one.candidate.sharding}-{one.candidate.checkpointing}"


def picked(wanted: Wanted, ranked: Sequence[Planned]) -> Planned:
    """Return the plan whose row was chosen; at first the best, or the best of the URL's method."""
    chosen = just_chosen(TABLE)
    if chosen is not None:
        state.remember(SCOPE, "picked", (asdict(wanted), chosen))
    fields, wish = state.remembered(SCOPE, "picked", ({}, ""))
    if fields == asdict(wanted):
        found = next((one for one in ranked if identity(one) == wish), None)
        if found is not None:
            return found
    named = state.remembered(SCOPE, METHOD, "")
    return next((one for one in ranked if one.candidate.method == named), ranked[0])


def reason(one: Planned, count: int) -> str:
    """Return in a sentence or two why the plan fits, and what that takes."""
    assert one.plan is not None
    plan, method = one.plan, one.candidate.method
    who = "the cards compute" if count > 1 else "the card computes"
    again = (
        "intermediate results are computed twice to save memory"
        if plan.checkpointing
        else f"memory is large enough for every intermediate result, so {who} nothing twice"
    )
    held = {
        "qlora": "The frozen weights are stored in 4 bits",
        "lora": "The frozen weights stay in 16 bits",
        "full": f"All weights are trained, and stored in {plan.remembered}",
    }.get(method, f"{get_method(method).title} trains {units.short_count(plan.trainable)} parameters")
    more = ""
    if plan.split:
        more = " Each card stores a share of the model" + (
            "; the rest is in main memory." if plan.host_bytes else "."
        )
    if plan.offload:
        more += " Intermediate results are stored in main memory."
    return f"{held}; {again}.{more}"


def card(wanted: Wanted, ranked: Sequence[Planned], one: Planned, untried: int, stopped: bool) -> None:
    """Draw the verdict: the plan's name, why it fits, its memory, time and cost, and its files once none of the ways is
    ``untried``, or on a stop."""
    assert one.plan is not None
    device, plan = wanted.situation().hardware, one.plan
    place = ranked.index(one)
    of = units.several(len(ranked), "plan")
    rank = f"the best of {of} that fit" if place == 0 else f"number {place + 1} of {of} that fit"
    rank = f"the best so far, {untried} to try" if untried and place == 0 else rank
    late = wanted.hours()
    misses = late is not None and one.hours is not None and one.hours[1] > late
    badge = (
        ":orange-badge[:material/schedule: May miss your deadline]"
        if misses
        else ":green-badge[:material/check: It fits]"
    )
    with st.container(border=True, key="plan-verdict"):
        said, files = st.columns([2, 1], gap="medium")
        with said:
            simulated = figures.badge(Source.SIMULATED)
            st.markdown(f"{badge} :small[{rank}] {simulated}")
            st.markdown(f"## {get_method(one.candidate.method).title} on {cards(device, plan.devices)}")
            st.markdown(f"{reason(one, plan.devices)} {simulated}")
        with files:
            if untried and not stopped:
                st.button("Get the files", disabled=True, width="stretch", key="files-wait", type="primary")
                st.caption("Available once all plans are tried")
            else:
                _files(wanted, one)
        st.html(_figures(one))


def _files(wanted: Wanted, one: Planned) -> None:
    seen = look(get_pool().submit(0, write, asdict(wanted), one))
    if seen.answer is None:
        st.button("Get the files", disabled=True, width="stretch", key="files-wait", type="primary")
        st.caption(plain(seen.why("Writing the files…")))
        come_back(seen)
        return
    written: Written = seen.answer
    if written.files:
        st.download_button(
            "Get the files", written.zipped(), "peft-plan.zip", "application/zip", icon=":material/download:",
            type="primary", width="stretch", key="get-files",
        )  # fmt: skip
        st.caption(", ".join(name for name in ABOUT if name in written.files))
    missing(written)


def missing(written: Written) -> None:
    """Draw which files are missing and why, each reason once."""
    for why, names in written.reasons.items():
        st.caption(f"No {' or '.join(f'`{name}`' for name in names)}: {plain(why)}")


def _figures(one: Planned) -> str:
    """Return memory, time and cost as HTML, the memory with a bar: its band is paler, the plan's figure a line."""
    assert one.plan is not None
    plan, simulated = one.plan, f'<span class="source {Source.SIMULATED}">{Source.SIMULATED}</span>'
    low, high = (min(100.0, 100 * end / plan.memory_bytes) for end in one.peak)
    at = 100 * plan.needed_bytes / plan.memory_bytes
    size, whole = units.size(plan.needed_bytes), units.size(plan.memory_bytes)
    bar = (
        f'<div class="bar" role="img" aria-label="{size} of {whole} on each card">'
        f'<i style="width:{low:.1f}%"></i><i class="band" style="width:{high - low:.1f}%"></i>'
        f'<b style="left:{at:.1f}%"></b></div>'
    )
    updates = units.several(one.updates, "update")
    looks = one.course.looks if one.course is not None else 0
    checks = f", {units.several(looks, 'check')} on held-out rows" if looks else ""
    if one.hours is None:
        paid = UNTIMED
    elif one.cost is not None:
        paid = f"{plan.devices:,} × your price × time"
    else:
        paid = "GPU hours; enter a price under More"
    host = f" · {units.size(plan.host_bytes)} of main memory" if plan.host_bytes else ""
    each = (
        ("Memory on each card", f"{size}<small> of {whole}{host}</small>", bar, True),
        ("Time", html.escape(time_of(one)), f"<p>{updates}{checks}</p>", one.hours is not None),
        ("Cost", cost_of(one) or "–", f"<p>{paid}</p>", one.hours is not None),
    )
    cells = "".join(
        f"<div><p>{name} {simulated if sourced else ''}</p><strong>{value}</strong>{below}</div>"
        for name, value, below, sourced in each
    )
    return f'<div class="plan-figures">{cells}</div>'


def runner_up(ranked: Sequence[Planned], one: Planned) -> None:
    """Draw in a sentence the best plan of another method, or the next best."""
    others = [each for each in ranked if each is not one]
    second = next((each for each in others if each.candidate.method != one.candidate.method), None) or next(
        iter(others), None
    )
    if second is None or second.plan is None:
        return
    twice = ", computing intermediate results twice" if second.plan.checkpointing else ""
    free = units.percent(100 * second.plan.headroom)
    st.markdown(
        f"**Runner-up:** {get_method(second.candidate.method).title}, {_SHARED[second.candidate.sharding]}: "
        f"{time_of(second)}{twice}, leaving {free} of each card free. {figures.badge(Source.SIMULATED)}"
    )


COLUMNS = (
    Column("Plan"),
    Column("How the cards share the work", wide=True),
    Column("Computes twice?", wide=True),
    Column("Memory per card", numeric=True),
    Column("Spare", numeric=True, wide=True),
    Column("Time", numeric=True),
)


def best_plans(ranked: Sequence[Planned], one: Planned) -> None:
    """Draw the best plans as a table; choosing a row shows that plan in the verdict."""
    every = bool(state.remembered(SCOPE, "every", False))
    shown = list(ranked) if every else list(ranked[:BEST])
    if one not in shown:
        shown.append(one)
    head = st.container(horizontal=True, vertical_alignment="center", key="best-plans")
    count = {5: "five", 4: "four", 3: "three", 2: "two"}.get(min(len(ranked), BEST), "")
    title = "All plans that fit" if every else f"The {count} best plans" if count else "The plan that fits"
    head.markdown(f"### {title}", width="content")
    of = f"of {len(ranked)} that fit; choose a row to see it above" if count else "no other plan fits"
    head.markdown(
        f":small[{of}] {figures.badge(Source.SIMULATED)}",
        width="content",
    )
    if len(ranked) > BEST:
        head.button(
            "Show five" if every else f"See all {len(ranked)}", key="plans-all", type="tertiary",
            on_click=state.remember, args=(SCOPE, "every", not every),
        )  # fmt: skip
    lines = [_line(each) for each in shown]
    if rows(COLUMNS, lines, TABLE, "Plans that fit", identity(one), flat=True):
        st.rerun()


def _line(one: Planned) -> RowOf:
    assert one.plan is not None
    plan = one.plan
    away = ", results in main memory" if plan.offload else ""
    cells = (
        get_method(one.candidate.method).title,
        _SHARED[one.candidate.sharding] + away,
        "yes" if plan.checkpointing else "no",
        units.size(plan.needed_bytes),
        units.percent(100 * plan.headroom),
        time_of(one),
    )
    share = 100 * plan.needed_bytes / plan.memory_bytes
    return RowOf(identity(one), cells, ("", "", "", f"bar-{share:.0f}", "", ""))


def too_large(wanted: Wanted, found: Sequence[Planned], needed: Need | None) -> None:
    """Draw by how much the smallest plan is too large; with its parts once a row of QLoRA is simulated (``needed``)."""
    situation = wanted.situation()
    device, tried = situation.hardware, [one for one in found if one.plan is None and one.least]
    with st.container(border=True, key="plan-verdict-no"):
        st.markdown(
            f":red-badge[:material/close: It does not fit] :small[{units.several(len(found), 'plan')} tried] "
            f"{figures.badge(Source.SIMULATED)}"
        )
        if not tried:
            st.markdown(f"## No plan for {plain(situation.shape.title)} on {cards(device, wanted.devices)}")
            return
        best = min(tried, key=lambda one: one.least - device.limit(splits(one.candidate.sharding)))
        limit = device.limit(splits(best.candidate.sharding))
        exact = needed if needed is not None and needed.parts and best.candidate.method == "qlora" else None
        least, bound = (best.least, "At least ") if exact is None else (exact.nbytes, "")
        st.markdown(
            f"## {bound}{units.size(max(least - limit, 0))} too much for {'each of ' if wanted.devices > 1 else ''}"
            f"{cards(device, wanted.devices)}"
        )
        title = get_method(best.candidate.method).title
        floor = exact is None and least <= weight_bytes(
            situation.shape, best.candidate.method, StepRun(1, True)
        )
        badge = figures.badge(Source.COUNTED if floor else Source.SIMULATED)
        st.markdown(
            f"Each card has {units.size(device.memory)}, of which {units.size(limit)} may be used. Even {title} with "
            f"one row at a time needs {bound.lower()}{units.size(least)}. {badge}"
        )
        parts = {"weights": least} if exact is None else exact.parts
        st.html(_over(parts, limit, least, exact is not None))


def _over(parts: Mapping[str, int], limit: int, least: int, named: bool) -> str:
    """Return the parts as one bar with the card's limit across; ``named``: with a legend."""
    pieces = "".join(
        f'<i style="width:{100 * size / least:.2f}%;background:{theme.MEMORY[part]}"></i>'
        for part, size in parts.items()
    )
    legend = " ".join(
        f'<span><b style="background:{theme.MEMORY[part]}"></b>{_PARTS[part]} {units.size(size)}</span>'
        for part, size in parts.items()
    )
    bar = (
        f'<div class="plan-over" role="img" aria-label="{units.size(limit)} of {units.size(least)}">{pieces}'
        f'<u style="left:{100 * limit / least:.2f}%"></u></div>'
    )
    return bar + (f'<p class="plan-over-parts">{legend}</p>' if named else "")


_PARTS = {
    "weights": "frozen weights, 4 bits", "adapter": "adapter", "gradients": "gradients", "optimizer": "optimizer",
    "activations": "working memory",
}  # fmt: skip


def would_fit(found: Nearest) -> None:
    """Draw each change that makes it fit as a card: its plan, memory, time, and a button that plans again."""
    st.markdown(f"### What would make it fit {figures.badge(Source.SIMULATED)}")
    if not found.ways:
        st.markdown(plain(str(found)))
    with st.container(key="plan-options"):
        for number, way in enumerate(found.ways):
            with st.container(border=True):
                short = way.short
                st.markdown(f"**{plain(short[:1].upper() + short[1:])}**  \n:small[{plain(way.text)}]")
                if way.made is not None and way.made.plan is not None:
                    plan = way.made.plan
                    size, whole = units.size(plan.needed_bytes), units.size(plan.memory_bytes)
                    time = "" if way.made.hours is None else f" · <b>{time_of(way.made)}</b>"
                    share = min(100.0, 100 * plan.needed_bytes / plan.memory_bytes)
                    st.html(
                        f'<div class="plan-option"><div class="bar" role="img" aria-label="{size} of {whole}">'
                        f'<i style="width:{share:.1f}%"></i></div><p><b>{size}</b> of {whole}{time}</p></div>'
                    )
                offers((way,), first=number == 0)


def no_help(wanted: Wanted, needed: Need | None) -> None:
    """Draw what would not help, where the frozen weights in 4 bits alone are more than a card may hold."""
    limit = wanted.situation().hardware.allowed
    if needed is None or not needed.parts or needed.parts["weights"] <= limit:
        return
    parts = needed.parts
    rank, rows, over = sum(parts[one] for one in OF_RANK), parts["activations"], needed.nbytes - limit
    st.markdown(f"### What would not help {figures.badge(Source.SIMULATED)}")
    lines = (
        ("A lower rank", f"frees at most {units.size(rank)}: adapter, gradients, optimizer"),
        ("Shorter or fewer rows", f"free at most {units.size(rows)}"),
        ("Both together", f"{units.size(rank + rows)} of the {units.size(over)} that are missing"),
    )
    for cell, (title, line) in zip(st.columns(3), lines, strict=True):
        cell.markdown(f"**{title}**  \n:small[{line}]")


def method_title(slug: str) -> str:
    return get_method(slug).title


def notes(wanted: Wanted) -> None:
    """Draw the order of the plans, and what their figures do not include."""
    st.caption(ORDER)
    situation = wanted.situation()
    if unsure := unmeasured(situation.shape, wanted.gpu):
        st.caption(unsure)
    if beside := uncounted(situation):
        st.caption(beside)
    if not (wanted.precision or wanted.adapter_dtype):
        st.caption(f"{told_adapters(wanted.gpu)} {figures.badge('cited')}")


def refused_plans(found: Sequence[Planned]) -> None:
    """Draw the plans that do not work, with the reasons."""
    reasons = ranking.refusing(found)
    if reasons:
        with st.expander("What does not fit, and why"):
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
            f"**Activations are stored in main memory.** {units.size(forward.taken)} leave each GPU in the forward "
            f"pass and return in the backward pass: {units.size(forward.layers)} belong to the {drawn.depth} layers, "
            f"{units.size(around)} to other parts, such as the logits. {badge}"
        )
    return (
        f"**Shards are stored in main memory**, {units.size(most)} per GPU. A step copies "
        f"{units.size(forward.brought + backward.brought)} of weights to the GPU and {units.size(backward.taken)} of "
        f"gradients back; optimizer states never leave main memory. {badge}"
    )


def why_refused(drawn: Drawn, beside: Drawn | None) -> None:
    """Draw the meaning of the drawing, with its figures."""
    most = max(drawn.moments, key=lambda moment: moment.total)
    kept = max(moment.parts["activations"] for moment in drawn.moments)
    full = drawn.method == "full"
    held = (
        f", with the weights in {KEPT} (plans that shard the weights use float32 if memory allows)"
        if full
        else ""
    )
    step = "checkpointed step" if drawn.checkpointing else "step"
    cuts = "fewer rows or tokens" if drawn.checkpointing else "fewer rows or tokens, or checkpointing"
    lines = [
        f"On each of {drawn.devices} GPUs a {step} of {get_method(drawn.method).title} with one row needs "
        f"{units.size(most.total)} with {MOMENT_KINDS[drawn.kind]}{held}. {figures.badge('simulated')}"
    ]
    if drawn.waits:
        lines.append(_waiting(drawn))
    if drawn.kind == "tp":
        lines.append(
            "**Activations are partly split.** Each GPU computes some of the attention heads and part of the MLP, "
            "but every GPU stores the complete values between layers and the complete logits. All GPUs read the "
            "same rows. With more GPUs, each GPU computes less, but a step reads no more rows. "
            f"{figures.badge('simulated')}"
        )
    elif beside is not None and beside.kind != drawn.kind and drawn.kind != AWAY:
        whole = max(moment.parts["activations"] for moment in beside.moments)
        lines.append(
            f"**Activations are not sharded.** Each GPU stores the activations of its own rows: {units.size(kept)} "
            f"here, {units.size(whole)} with {MOMENT_KINDS[beside.kind]}. To reduce them, use {cuts}. "
            f"{figures.badge('simulated')}"
        )
    lines.append(
        "**QLoRA and FSDP: the storage type.** bitsandbytes packs two weights into a byte. FSDP1 flattens a layer "
        "into one tensor, which needs one floating-point type, so the bytes are stored in the precision of the "
        "computation (`bnb_4bit_quant_storage`). FSDP2 shards each tensor separately and accepts other types; the "
        "files here still set the storage type, which works with both."
    )
    for line in lines:
        st.markdown(line)


PATIENCE = 0.8
_PADDED = (
    "Rows are padded, not packed. Memory and time are calculated for padded rows. If you give the rows' lengths, "
    "short rows can be packed together."
)
_NEARBY = (
    "Activations are offloaded to main memory only if even a checkpointed step needs too much GPU memory."
)
_AWAY = "Activations are offloaded to main memory. Nothing else runs during the copies; the copies' speed is assumed."
_PACKED = (
    "Short rows are packed together into full sequences. Memory and time are calculated for full sequences, with "
    "a mask that separates the packed rows. Some kernels are told where each row ends, so they need no mask and "
    "less time. The plan does not assume such kernels."
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
    plan = one.plan
    assert plan is not None
    if one.update is not None:
        means = MEANS.get(one.update.bottleneck, "")
        share = one.update.parts[one.update.bottleneck] / one.update.value
        st.markdown(
            f"**Bottleneck: {one.update.bottleneck}** ({share:.0%} of an update). {means} {figures.badge('simulated')}"
        )
    if one.quality.accuracy is None:
        st.markdown(f"**Quality.** {one.quality.text}")
    else:
        st.markdown(f"**Quality.** {one.quality.text} ({one.quality.source}). {figures.badge('cited')}")
    if one.saved is not None:
        beside = f"{abs(one.saved):.0%} {'less' if one.saved >= 0 else 'more'} time"
        st.markdown(
            f"**Packed.** Packed rows take {beside} than padded rows of average length at the same batch size. "
            f"{figures.badge('simulated')}"
        )
    loads = loading(wanted.situation().shape, one.candidate.method, plan)
    st.markdown(f"Memory while the base model is {loads.told}. {figures.badge('counted')}")
    rows = [
        (label(name), written_figure(setting.value), band(setting.band), told_by(setting))
        for name, setting in plan.settings.items()
    ]
    with st.expander("Recipe"):
        figures.table(("Setting", "Value", "Sources' range", "From"), rows, fold=True)
        st.caption(f"{_PACKED if plan.packed else _PADDED} {_AWAY if plan.offload else _NEARBY}")
    st.markdown("#### The files")
    shown(get_pool().submit(0, write, asdict(wanted), one), _written, "Writing the files…", patience=PATIENCE)


def _written(written: Written) -> None:
    if not written.files:
        return
    names = list(written.files)
    for tab, name in zip(st.tabs(names), names, strict=True):
        with tab:
            st.caption(f"`{name}`: {ABOUT[name]}")
            st.code(written.files[name], "python" if name.endswith(".py") else "yaml", height=360)
