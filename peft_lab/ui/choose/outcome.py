"""The recommendation: method, configuration, reasons, sources, runner-up, trace, and what would flip it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from peft_lab.advise.flips import Flip
from peft_lab.advise.plan import StepPlan, told_by
from peft_lab.advise.plans.wanted import FURTHER
from peft_lab.advise.recipes.recipe import LAB, RecipeSetting
from peft_lab.advise.recipes.replications import replicated
from peft_lab.advise.recommend import Recommendation, served
from peft_lab.advise.situation import Situation
from peft_lab.advise.tree import QUESTIONS
from peft_lab.advise.words import GIVEN, OWN_LIMIT, PUBLISHED
from peft_lab.core import asking, units
from peft_lab.core.field import as_text
from peft_lab.core.units import Finding, Source, band, label, written_figure
from peft_lab.engine import published
from peft_lab.methods import get_method
from peft_lab.ui import pages
from peft_lab.ui.components import figures, plan_steps
from peft_lab.ui.components.frame import open_button
from peft_lab.ui.foreign import plain
from peft_lab.ui.plan.form import CHOSEN, METHOD

_SHOWN = 3  # reasons beside the verdict's that stand unfolded


def verdict(situation: Situation, found: Recommendation) -> None:
    """Draw the method, its first reason, the runner-up, and the button to the next step."""
    with st.container(border=True, key="choose-verdict"):
        said, way = st.columns([2, 1], gap="medium")
        with said:
            st.markdown(":small[The best method for your situation]")
            st.markdown(f"## {found.title}")
            if found.why:
                first = found.why[0]
                badge = figures.badge(first.kind) if first.kind else ""
                st.markdown(f"{first.text} {badge}  \n:small[{first.source}]")
            if found.runner_up:
                st.markdown(f"**Runner-up:** {found.runner_up_text}")
            if found.nearest:
                st.markdown(
                    "**Nearest:** " + "; ".join(plain(near.text) for near in found.nearest.values()) + "."
                )
        with way:
            if found.plan is not None:
                step = to_memory(situation, found.method, found.plan)
                open_button(
                    "memory",
                    step,
                    "See whether it fits",
                    "choose-next",
                    "",
                    type="primary",
                    width="stretch",
                    icon=None,
                )
                st.caption("The next step")
                if situation.hardware.kind == "cuda":
                    query = planned(situation, found.method) | way_back(situation, found.method)
                    open_button(
                        "plan", query, "Plan and files", "choose-plan", "", type="tertiary", width="stretch"
                    )


def headline(situation: Situation, found: Recommendation) -> None:
    """Draw the figures of the method's configuration."""
    plan = found.plan
    if plan is None:
        return
    shape = situation.shape
    cells = st.columns(3)
    formula = get_method(found.method).formula(shape, plan.values)
    share = units.percent(100 * plan.trainable / (shape.total + formula.added))
    with cells[0]:
        trained = Finding(plan.trainable, "parameters", Source.COUNTED)
        figures.card(
            "Trained", trained, f"{share} of {plain(shape.title)}", text=units.short_count(plan.trainable)
        )
    with cells[1]:
        stored = Finding(plan.stored_bytes, "bytes", Source.COUNTED)
        figures.card("Stored per task", stored, "four bytes per parameter")
    with cells[2]:
        needed = Finding(plan.needed_bytes, "bytes", Source.SIMULATED)
        free = units.percent(100 * plan.headroom)
        each = " on each device" if plan.devices > 1 else ""
        figures.card("A training step", needed, f"of {units.size(plan.memory_bytes)}{each}, {free} free")
    if plan.seconds is not None and "plan" not in plan_steps.known():
        low, high = plan.seconds
        span, tasks = units.span(low, high), situation.tasks
        takes = f"Training takes {span}"
        if tasks > 1:
            every = units.span(low * tasks, high * tasks)
            takes = f"Training one task takes {span}. Training all {tasks:,} tasks one after the other takes {every}"
        apart = (
            f" The estimate is for training on {plan.group:,} answers to each prompt. It does not include generating "
            "and judging the answers."
            if plan.group > 1
            else ""
        )
        st.markdown(
            f":small[First estimate: {takes[:1].lower()}{takes[1:]}. The estimate is computed from the training's "
            f"FLOPs and the GPU utilisation that published runs reached {figures.badge('cited')}. *Plan and files* "
            f"simulates the steps and gives a narrower range.{apart}]"
        )


def configuration(situation: Situation, found: Recommendation) -> None:
    """Draw the plan's settings with their sources, and the button that opens the method's page with them."""
    plan = found.plan
    if plan is None:
        return
    spec = get_method(found.method)
    usual, knobs = spec.defaults(situation.shape), {knob.name for knob in spec.knobs}
    rows = [
        (
            f"`{name}`" if name in knobs else label(name),
            figures.whole(written_figure(setting.value)),
            figures.whole(band(setting.band)),
            told_by(setting),
        )
        for name, setting in plan.settings.items()
        if not (setting.kind == LAB and name in usual and setting.value == usual[name])
    ]
    more = [f"{plan.accumulate} accumulation steps"] if plan.accumulate > 1 else []
    more += ["gradient checkpointing"] if plan.checkpointing else []
    rows.append(("a step", ", ".join([f"{plan.batch} × {plan.seq:,} tokens", *more]), "", "simulated"))
    figures.table(("Setting", "Value", "Sources' range", "From"), rows, fold=True)
    _sources(list(plan.settings.values()))
    target, query = page_with(situation, found.method, plan)
    with st.container(horizontal=True, vertical_alignment="center"):
        open_button(target, query, f"Open {pages.titles()[target]} with this", "choose-open")


def planned(situation: Situation, method: str = "") -> dict[str, str]:
    """Return the URL parameters with which Plan takes over the situation and also ranks ``method``."""
    same: dict[str, Any] = {
        "model": situation.model, "objective": situation.purpose, "rows": situation.rows,
        "row_tokens": min(situation.row_tokens or situation.seq, situation.seq), "seq": situation.seq,
        "gpu": situation.device, "devices": situation.devices, "link": situation.link,
        "deadline": situation.deadline, "also": method if method in FURTHER else "",
    }  # fmt: skip
    return {name: as_text(value) for name, value in same.items() if value not in ("", None)}


def way_back(situation: Situation, method: str) -> dict[str, str]:
    """Return further parameters of that URL: the method whose plan to show, and Choose's whole situation."""
    usual = asdict(Situation())
    told = {name: as_text(value) for name, value in asdict(situation).items() if value != usual[name]}
    return {METHOD: method, CHOSEN: urlencode(told)}


def _sources(settings: Sequence[RecipeSetting]) -> None:
    with st.expander("Every source, and what to try next"):
        rows = [
            (
                label(setting.name),
                evidence.citation,
                written_figure(evidence.value),
                "; ".join(filter(None, (evidence.measured, replicated(evidence.rule)))),
            )
            for setting in settings
            for evidence in setting.said
        ]
        st.caption(
            "If a source gives a single figure, the range goes from half that figure to twice that figure."
        )
        figures.table(("Setting", "Source", "Says", "Measured on"), rows, fold=True)
        again = [(label(setting.name), setting.next) for setting in settings if setting.next]
        figures.table(("Setting", "What to try next"), again, fold=True)


def page_with(situation: Situation, method: str, plan: StepPlan) -> tuple[str, dict[str, str]]:
    """Return the page that shows this configuration, and its URL parameters; Memory for full fine-tuning."""
    if method == "full":
        return "memory", to_memory(situation, method, plan)
    usual = get_method(method).defaults(situation.shape)
    changed = {name: as_text(value) for name, value in plan.values.items() if value != usual[name]}
    return method, {"model": situation.model, **changed}


def to_memory(situation: Situation, method: str, plan: StepPlan) -> dict[str, str]:
    """Return the URL parameters with which Memory shows the plan's step."""
    same: dict[str, Any] = {"model": situation.model, "device": situation.device, "method": method}
    sizes = {"batch": plan.batch, "seq": plan.seq, "checkpointing": plan.checkpointing}
    return {name: as_text(value) for name, value in (same | sizes).items()}


def reasons(found: Recommendation) -> None:
    """Draw the reasons that the verdict has not given, each with its source and badge; those past three folded."""
    badges = [figures.badge(why.kind) if why.kind else "" for why in found.why]
    lines = [
        f"- {why.text} {badge}  \n  :small[{why.source}]"
        for why, badge in zip(found.why, badges, strict=True)
    ][1:]
    if lines:
        st.markdown("### Why")
        st.markdown("\n".join(lines[:_SHOWN]))
    if lines[_SHOWN:]:
        with st.expander(units.several(len(lines) - _SHOWN, "more reason")):
            st.markdown("\n".join(lines[_SHOWN:]))
    if found.overruled and found.plan is not None:
        st.markdown("**The tree's first choice does not work here:**")
        st.markdown("\n".join(f"- {why.text} {figures.badge(why.kind)}" for why in found.overruled))


def serving(situation: Situation, found: Recommendation) -> None:
    """Draw which engines serve what the method trains."""
    line = f"**Served by** {plain(served(situation, found))} {figures.badge('cited')}"
    st.markdown(f":small[{line} Each engine's source is on *Ship it*.]")


def unknown(found: Recommendation) -> None:
    """Draw the facts that could not be determined."""
    if not found.unknown:
        return
    st.markdown("### What is not known")
    lines = [f"- {plain(one.text)} {figures.badge(one.kind) if one.kind else ''}" for one in found.unknown]
    st.markdown("\n".join(lines))


def trace(found: Recommendation) -> None:
    """Draw every answer on the path, with who gave it and the figure behind it."""
    for number, step in enumerate(found.path, start=1):
        who = ":gray-badge[you]" if step.how == GIVEN else figures.badge(step.how)
        question = QUESTIONS[step.question]
        drawn = question.drawn(step.value) if step.how == GIVEN else ""
        line = figures.badge(drawn) if drawn else ""
        st.markdown(f"{number}. {question.full} **{step.label}** {who}  \n   :small[{step.because}] {line}")


def chip(flip: Flip, key: str, take: Callable[[], None]) -> None:
    """Draw a change with what it leads to: a button, unless it is one of the model or of the memory."""
    question = QUESTIONS[flip.question]
    line = question.drawn(flip.value)
    how = f" {figures.badge(line)}" if line else ""
    if flip.value in question.own:
        how = f" :small[({OWN_LIMIT})]"
    said = f"{flip.text} → **{flip.title}**{how}"
    if flip.changes:
        st.button(said, key=key, on_click=take)
    else:
        st.markdown(said, width="content")


def evidence(method: str) -> None:
    """Draw the ways to what speaks for a method: the runs made here, and published ones; never mixed."""
    title = get_method(method).title
    with st.container(horizontal=True, key="choose-evidence"):
        pages.link("runs", f"{title}'s runs on {asking.here()}", "history")
        pages.link("compare", f"{title} in published runs", "compare", _published(method))


def _published(method: str) -> dict[str, str]:
    """Return the parameters with which Compare shows a method's published runs; all of them for one without."""
    row = published.rows().get(PUBLISHED.get(method, ""))
    return {"tab": "published"} | ({"family": row.kind} if row is not None else {})
