"""Atlas: a list to search, beside it one type in full or two side by side, and the family tree."""

from __future__ import annotations

import json
from contextlib import suppress

import streamlit as st

from peft_lab.atlas import FAMILIES, all_types, entries, get_entry, lineage, live
from peft_lab.atlas import rows as costs
from peft_lab.atlas.base import AtlasType
from peft_lab.atlas.rows import published_rows
from peft_lab.core import inspector, units
from peft_lab.core.errors import BadInput
from peft_lab.core.units import Finding, Source
from peft_lab.engine import published
from peft_lab.models.catalogue import get_model
from peft_lab.models.shapes import ModelEntry
from peft_lab.takeaway.ship.passport import served_by
from peft_lab.ui import pages
from peft_lab.ui.atlas import list as cards
from peft_lab.ui.atlas.list import NOBODY
from peft_lab.ui.components import figures
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.model_choice import entry_of, model_control
from peft_lab.ui.components.waiting import come_back, look, shown
from peft_lab.ui.foreign import plain

PATIENCE = 1.5  # seconds
MARKS = {True: "yes", False: "no", None: "unknown"}


def details(entry: AtlasType, model: ModelEntry, side: str, narrow: bool = False) -> None:
    """Draw one type. ``side`` keeps widget keys of two types apart; ``narrow``: in half the page."""
    with st.container(key=f"atlas-{'half' if narrow else 'one'}-{side}"):
        with st.container():
            _what(entry, model, side, narrow)
        with st.container():
            _capabilities(entry)
            with suppress(BadInput):  # it does not fit the model, which is said above
                line = served_by(entry.counted_config(model.shape), model)
                st.markdown(f":small[**Served by** {plain(line)} {figures.badge(Source.CITED)}]")
            _published(entry)
            _take_away(entry, model, side)
            _training(entry, side)
    address = entry.paper.address
    link = f"[{plain(entry.paper)}]({address})" if address else plain(entry.paper)
    st.markdown(
        f":small[Paper: {link}. Looked up in: {plain(entry.paper.checked)}.] {figures.badge(Source.CITED)}"
    )


def _what(entry: AtlasType, model: ModelEntry, side: str, narrow: bool) -> None:
    """Draw what a type changes: its update in a formula and in words, its figures, and a picture of ΔW."""
    st.markdown(f"## {plain(entry.title)}")
    parent = f"Changes {get_entry(entry.parent).title}. " if entry.parent else ""
    st.markdown(f":small[{FAMILIES[entry.family][0]}. {plain(parent)}]")
    st.code(entry.update, language=None, wrap_lines=True)
    st.markdown(f"{plain(entry.differs)} **When:** {plain(entry.when)}")
    if entry.taught:
        pages.link(entry.taught, "Open its page")
    _figures(entry, model, narrow)
    if entry.stand_in is not None:
        st.markdown(f":small[{plain(entry.stand_in.what)}]")
    _picture(entry, side)


def _figures(entry: AtlasType, model: ModelEntry, narrow: bool) -> None:
    left, middle, right = [st.container() for _ in range(3)] if narrow else st.columns(3)
    with left:
        _count(entry, model)
    cost, refusal = costs.step_cost(entry.name), costs.cost_refusal(entry.name)
    where = f"{get_model(costs.MODEL).title}, {costs.SETTING.batch} × {costs.SETTING.seq} tokens, bf16"
    with middle:
        peak = Finding(cost.peak_bytes, "bytes", Source.SIMULATED, where) if cost else None
        figures.card("Peak memory", peak, absent=plain(refusal))
    with right:
        step = Finding(cost.seconds, "seconds", Source.SIMULATED, f"{where}, on an L40S") if cost else None
        figures.card("Time per step", step, absent=plain(refusal))


def _count(entry: AtlasType, model: ModelEntry) -> None:
    seen = look(inspector.submit(costs.counted_type, entry.name, model.name), PATIENCE)
    come_back(seen)
    found = seen.answer
    if found is None:
        figures.card("Trained parameters", None, absent=plain(seen.why("Counting…")))
        return
    form = f"{entry.form} ✓ equals the count" if found.equal else "Counted; no formula gives this number"
    share = units.percent(found.report.percent)
    note = f"{share} of {plain(model.title)}. {plain(form)}"
    figures.card("Trained parameters", Finding(found.report.trainable, "parameters", Source.COUNTED), note)


def _picture(entry: AtlasType, side: str) -> None:
    st.markdown("#### What ΔW looks like")
    why = costs.why_not(entry.name, "picture")
    if "entries" not in costs.probed(entry.name).get("picture", {}):
        st.markdown(plain(why))
        return
    left, right = st.columns([1, 2], vertical_alignment="center")
    picture = costs.probed(entry.name)["picture"]
    with left:
        drawn = cards.canvas(picture, f"ΔW of {entry.title}: {cards.card_facts(picture)}")
        cards.mounted(f"atlas-delta-{side}", f'<div class="one">{drawn}</div>', ())
    size = f"{picture['rows']}×{picture['columns']}"
    settings = ", ".join(f"{name} {value}" for name, value in picture.get("settings", {}).items())
    at = f", with {settings}" if settings else ""
    with right:
        st.markdown(
            f"{plain(cards.card_facts(picture)).capitalize()}. {figures.badge(Source.MEASURED)}\n\n"
            f":small[One {size} matrix of a small model with random weights{plain(at)}; the trainable parameters "
            "were changed at random. Orange is positive, blue is negative, blank is zero.]"
        )


def _capabilities(entry: AtlasType) -> None:
    able = [title for name, (title, _) in costs.CAPABILITIES.items() if costs.probed_value(entry.name, name)]
    versions = ", ".join(f"{name} {number}" for name, number in costs.probed_versions().items())
    st.markdown(f"#### What it can do {figures.badge(Source.MEASURED)}")
    with st.expander(f"{len(able)} of {len(costs.CAPABILITIES)} capabilities, with reasons"):
        rows = []
        for name, (title, meaning) in costs.CAPABILITIES.items():
            said = costs.why_not(entry.name, name) or meaning
            report = costs.reported_by_probe(entry.name, name)
            rows.append((title, MARKS[costs.probed_value(entry.name, name)], f"{said} {report}".strip()))
        figures.table(("Capability", "Measured", "Reason or meaning"), rows, fold=True)
        st.markdown(
            f":small[Measured in separate processes with {plain(versions)}.] {figures.badge(Source.MEASURED)}"
        )


def _published(entry: AtlasType) -> None:
    rows = published_rows(entry)
    if not rows:
        return
    st.markdown(f"#### Published runs {figures.badge(Source.CITED)}")
    shown = []
    for row in rows:  # without the common parts of the benchmark's names
        prefix = f"{published.BENCHMARKS[row.benchmark].prefix}-"
        own = row.experiment.rpartition("--")[2].removeprefix(prefix).replace("_", " ")
        name = f"{own} ({'text' if row.benchmark == published.METAMATH else 'pictures'})"
        score, trained = f"{100 * row.accuracy:.1f}%", units.short_count(row.trainable)
        shown.append((name, score, trained, units.size(row.reserved)))
    sources = dict.fromkeys(published.BENCHMARKS[row.benchmark].source for row in rows)
    with st.expander(f"{len(rows)} with score, size and memory"):
        figures.table(("Run", "Score", "Trained", "Memory"), shown, numeric=(1, 2, 3), fold=True)
        st.markdown(f":small[{plain('; '.join(sources))}.] {figures.badge(Source.CITED)}")


def _take_away(entry: AtlasType, model: ModelEntry, side: str) -> None:
    st.markdown("#### Common settings")
    if entry.knobs:
        usual = [(f"`{knob.name}`", ", ".join(map(str, knob.values)), knob.what) for knob in entry.knobs]
        figures.table(("Setting", "Common values", "What it does"), usual, fold=True)
    try:
        text = json.dumps(entry.config(model.shape), indent=1, ensure_ascii=False)
    except BadInput as error:
        st.markdown(plain(error))
        return
    with st.expander("adapter_config.json"):
        st.code(text, language=None)
    st.download_button(
        "Download adapter_config.json", text, "adapter_config.json", key=f"atlas-config-{side}",
        icon=":material/download:",
    )  # fmt: skip


def _training(entry: AtlasType, side: str) -> None:
    asked_key = f"atlas-run-{side}-{entry.name}"
    st.markdown("#### Train it")
    name = live.LIVE["causal"]
    with st.container(horizontal=True):
        if st.button(f"Train {live.SHOWN} steps on {get_model(name).title}", key=f"{asked_key}-button"):
            st.session_state[asked_key] = True
        if reason := live.script_refusal(entry):
            st.markdown(f":small[{plain(reason)}]")
        else:
            st.download_button(
                "Download the script", live.script(entry), f"{entry.name}.py", "text/x-python",
                key=f"atlas-script-{side}", icon=":material/download:", on_click="ignore",
            )  # fmt: skip
    if not st.session_state.get(asked_key):
        return
    worker = inspector.get_inspector(inspector.Worker.ATLAS)
    asked = worker.submit(live.try_live, entry.name, "causal", live.SHOWN, (entry.rate,))
    shown(asked, _trained, "Training…", patience=PATIENCE, where=asked_key)


def _trained(run: live.ShortRun) -> None:
    many, longest = live.SIZES["causal"]
    made = len(run.steps)
    left = live.SHOWN - made
    less = f"; the limit of {live.PATIENCE:.0f} seconds left no time for the other {left}" if left else ""
    st.markdown(
        f"Loss {run.before:.3f} → {run.after:.3f} nats in {made} steps at learning rate {run.rate:g}{less}. "
        f"{figures.badge(Source.MEASURED)} :small[The model memorises {longest * many} tokens. This run shows that "
        "this type can be trained; it does not show how well the type works.]"
    )
    st.line_chart(
        {"loss": list(run.steps)}, height=160, x_label="step", y_label="loss (nats)", color=cards.PLUS
    )


def atlas_page() -> None:
    pages.open_page()
    controls = Controls(cards.AtlasForm, cards.SCOPE)
    controls.read_address()
    many, beside = len(all_types()), len(entries()) - len(all_types())
    st.title(f"All {many} methods")
    st.markdown(
        f"All {many} types of the PEFT library and {beside} variants of LoRA: how each changes W, what it trains and "
        "what it can do. All counts and capabilities were read from the library itself. "
        f"{figures.badge(Source.COUNTED)}"
    )
    listed, opened = st.columns([5, 12], gap="medium")
    with opened, st.container(key="atlas-details", border=True):
        _chosen(controls)
    chosen = (controls.value("type"), controls.value("beside"))
    with listed:
        found = cards.filters(controls)
        listing = f"{len(found)} of {len(entries())} {figures.badge(Source.COUNTED)}"
        st.markdown(listing if found else "No entry matches. Remove a filter.")
        _take(controls, cards.cards(found, chosen))
    with st.expander("Family tree: what each entry changes"):
        st.markdown(
            f"Each entry stands below the entry that it modifies. {len(lineage()[''])} have no parent. Entries in "
            f"italics are settings of LoRA, not separate types. {figures.badge(Source.COUNTED)}"
        )
        _take(controls, cards.mounted("atlas-tree", cards.tree_drawing(), chosen))
    controls.write_address()


def _take(controls: Controls[cards.AtlasForm], clicked: str | None) -> None:
    if clicked is not None and clicked != controls.value("type"):
        controls.put(type=clicked)
        st.rerun()


def _chosen(controls: Controls[cards.AtlasForm]) -> None:
    left, right = st.columns([2, 1])
    with right:
        model = model_control(entry_of(controls.value("model")), controls.key("model"))
        controls.remember("model", model.name)
        controls.below("model")
    first, second = left.columns(2)
    name, other = controls.draw("type", first), controls.draw("beside", second)
    if other == NOBODY:
        details(get_entry(name), model, "left")
        return
    for cell, each, side in zip(st.columns(2, gap="large"), (name, other), ("left", "right"), strict=True):
        with cell:
            details(get_entry(each), model, side, narrow=True)
