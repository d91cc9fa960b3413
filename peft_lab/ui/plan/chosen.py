"""One plan in full: its figures, its bottleneck, its recipe, its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import streamlit as st

from peft_lab import units
from peft_lab.choose.fields import told_by
from peft_lab.errors import PeftLabError
from peft_lab.plan import nowhere, ranking
from peft_lab.plan.files import ABOUT, Written, write
from peft_lab.plan.ranking import Planned
from peft_lab.plan.verdict import MEANS, told_loading
from peft_lab.plan.wanted import Wanted
from peft_lab.recipes.advice import band, figure, label
from peft_lab.ui.components import figures
from peft_lab.ui.components.waiting import come_back
from peft_lab.ui.foreign import plain
from peft_lab.ui.plan import shown
from peft_lab.units import Finding, Source
from peft_lab.workers.pool import get_pool

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
    """:func:`peft_lab.plan.nowhere.nearest`, asked in one process. Imports torch. Raises as the candidates do."""
    return nowhere.nearest(Wanted(**fields), _ask)


def meeting(fields: Mapping[str, Any], best: Planned) -> tuple[nowhere.Way, ...]:
    """:func:`peft_lab.plan.nowhere.meeting`, likewise."""
    return nowhere.meeting(Wanted(**fields), best, _ask)


def in_full(wanted: Wanted, one: Planned) -> None:
    """Everything about a plan that fits."""
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
        figures.card("Time", hours, note, shown.time_of(one), shown.UNTIMED)
    with cells[2]:
        shown.cost(one)
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
        (label(name), figure(setting.value), band(setting.band), told_by(setting))
        for name, setting in plan.settings.items()
    ]
    with st.expander("Recipe"):
        figures.table(("Setting", "Value", "Sources' band", "From"), rows, fold=True)
        st.caption(f"{_PACKED if plan.packed else _PADDED} {_AWAY if plan.offload else _NEARBY}")
    _files(wanted, one)


def _files(wanted: Wanted, one: Planned) -> None:
    """The files, shown and to take away."""
    st.markdown("#### Files that carry it out")
    asked = get_pool().submit(0, write, asdict(wanted), one)
    try:
        written: Written = asked.result(timeout=PATIENCE)
    except TimeoutError:
        st.markdown("Writing files…")
        come_back([asked])
        return
    except PeftLabError as error:
        st.markdown(f":red[:material/error: {plain(error)}]")
        return
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
    """Which files there are not, and why, each reason once."""
    for reason, names in written.reasons.items():
        st.markdown(f"No {' or '.join(f'`{name}`' for name in names)}: {plain(reason)}")
