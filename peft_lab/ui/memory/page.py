"""Memory: every method's training step on one model, against the memory of a real device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import streamlit as st

from peft_lab.core import units
from peft_lab.core.inspector import get_pool
from peft_lab.engine import published, simulate
from peft_lab.engine.account import MemoryPoint
from peft_lab.engine.over_a_run import thinned
from peft_lab.engine.request import PACKED_TITLES, Simulation
from peft_lab.engine.step import OPTIMIZER_TITLES, TITLES
from peft_lab.engine.timing import kernels
from peft_lab.engine.work import copied
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model, readers_of_text
from peft_lab.models.quantise import quantised
from peft_lab.models.shapes import ModelShape
from peft_lab.ui import pages, state
from peft_lab.ui.components import charts, figures, plan_steps
from peft_lab.ui.components.frame import error_line, tabs
from peft_lab.ui.components.model_choice import from_address
from peft_lab.ui.components.plan_steps import lengths_file
from peft_lab.ui.components.waiting import Answers, collect, come_back, look, progress, shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.memory.bars import (
    Simulated,
    against,
    curves,
    overview,
    pick_method,
    refusals,
    timeline,
    verdict,
)
from peft_lab.ui.memory.controls import (
    SCOPE,
    SEARCH,
    TAB,
    TABS,
    USUAL,
    MemoryForm,
    bring,
    controls,
    form_controls,
    set_page,
)

KEY = "memory-search"
BUTTONS = {"batch": "Largest batch", "seq": "Longest rows", "model": "Largest model"}


def fitting(chosen: MemoryForm, answers: Simulated) -> None:
    cells = st.columns([4, 3, 3, 3], vertical_alignment="bottom")
    with cells[0]:
        slug = pick_method(answers, "method-fits")
    if slug is None:
        return
    wanted = (slug, *chosen.key())
    # All images have one length, and the models of the list read text.
    buttons = {"batch": BUTTONS["batch"]} if chosen.entry.kind == "vision" else BUTTONS
    for cell, (what, label) in zip(cells[1:], buttons.items(), strict=False):
        if cell.button(label, key=f"find-{what}", width="stretch"):
            st.session_state[KEY] = (what, wanted)
    what, for_which = st.session_state.get(KEY, (None, None))
    if what is None or for_which != wanted:
        st.markdown(
            f"Searched on {chosen.card.holding} ({units.size(chosen.card.allowed)} usable), with all other settings "
            "as above. The search doubles the size until the step no longer fits in memory, then narrows the range "
            "by halving. This takes about ten simulations."
        )
    elif what == "model":
        _models(chosen, slug)
    else:
        search = chosen.search(SEARCH, what, slug)
        shown(search, partial(_size, what, chosen, slug), "Searching: about ten simulations…")


def _size(what: Literal["batch", "seq"], chosen: MemoryForm, slug: str, size: int) -> None:
    sees = chosen.entry.kind == "vision"
    row, unit = ("image", "images") if sees else ("row", "rows")
    if what == "seq":
        row, unit = "token", "tokens per row"
    limit = chosen.entry.shape.max_positions
    whole = what == "seq" and size == limit
    least = "at least " if size == simulate.LARGEST_SEARCHED[what] and not whole else ""
    tokens = "positions" if sees else "tokens"
    rest = f"{chosen.seq:,} {tokens}" if what == "batch" else f"{chosen.batch:,} rows"
    sentence = f"**{least}{size:,} {unit}** {'of' if what == 'batch' else 'at'} {rest}"
    if whole:
        sentence += ", all the positions that the model has"
    elif least:
        sentence += "; no larger size was searched"
    if not size:
        sentence = f"Not even one {row} fits"
    st.markdown(
        f"{all_methods()[slug].title} of {plain(chosen.entry.title)} on {chosen.card.holding}: {sentence}. "
        f"{figures.badge('simulated')}"
    )


def _models(chosen: MemoryForm, slug: str) -> None:
    """Draw the catalogue from small to large; rows are cut to a model's positions."""
    entries = sorted(readers_of_text().values(), key=lambda entry: entry.parameters)
    refused = {entry.name: refusals(entry)[slug] for entry in entries if slug in refusals(entry)}
    asked = {}
    for entry in entries:
        if entry.name not in refused:
            seq = simulate.longest_row(chosen.request(slug, entry.name))
            asked[entry.name] = chosen.simulate(SEARCH, slug, {"seq": seq}, model=entry.name)
    answers = collect(asked)
    progress(answers, "models")
    refused |= answers.refused
    device = chosen.card
    needs: dict[str, float] = {name: simulate.needed_bytes(one) for name, one in answers.found.items()}
    fitting = [entry for entry in entries if device.holds(needs.get(entry.name, math.inf))]
    if not answers.waiting:
        sentence = f"**{fitting[-1].title}** is the largest model" if fitting else "There is no model"
        st.markdown(
            f"{sentence} in the list whose step with {all_methods()[slug].title} fits on {device.holding}. "
            f"{figures.badge('simulated')}"
        )
    rows = []
    for entry in reversed(entries):
        if entry.name in needs:
            need = needs[entry.name]
            size = units.short_count(entry.parameters)
            rows.append((figures.unbroken(entry.title), size, units.size(need), verdict(need, device)))
    if rows:
        figures.table(("Model", "Parameters", "Device must have", "On the device"), rows, numeric=(1, 2))
    for name, reason in refused.items():
        st.caption(f"{get_model(name).title}: {plain(reason)}")


BAND = 5.0  # percent: what is called close
COUNTED_NOW = "memory-published-now"


def published_peaks() -> None:
    rows, outcomes = published.rows(), published.simulated()
    ran = {name: row for name, row in rows.items() if outcomes[name].reserved is not None}
    percents = [published.error(row, outcomes[name]) for name, row in rows.items()]
    agreement = published.agreement(percents)
    model = get_model(published.MODEL).title
    st.markdown(
        f"{agreement.rows} published runs of {model} on one NVIDIA L40S {figures.badge('cited')}, and the same runs "
        f"simulated {figures.badge('simulated')}: reserved memory differs by **{agreement.median:.1f}%** in the "
        f"median and by {agreement.largest:.1f}% at most."
    )
    titles = [row.title for row in ran.values()]
    reserved = [outcomes[name].reserved or 0 for name in ran]
    st.markdown(f"#### Simulated against published {figures.badge('simulated')} {figures.badge('cited')}")
    figure = against(titles, [row.reserved for row in ran.values()], reserved, BAND)
    charts.draw(figure, "memory-published")
    _one_row()
    with st.expander("All rows"):
        st.markdown(
            f"Published {figures.badge('cited')} and simulated {figures.badge('simulated')} peaks, reserved bytes"
        )
        lines = []
        for name, row in rows.items():
            outcome, error = outcomes[name], published.error(row, outcomes[name])
            simulated = outcome.reason if outcome.reserved is None else units.size(outcome.reserved)
            by = "–" if error is None else f"{error:+.1f}%"
            lines.append((row.title, units.count(row.trainable), units.size(row.reserved), simulated, by))
        figures.table(("Run", "Trained", "Published", "Simulated", "Error"), lines, numeric=(1, 2, 3, 4))
        for name, outcome in outcomes.items():
            if outcome.note:
                st.caption(f"{rows[name].title}: {published.SUPERSEDED[name]} {outcome.note}")
    versions = ", ".join(f"{name} {version}" for name, version in published.simulated_with().items())
    st.caption(
        f"Published: [{published.SOURCE}]({published.ADDRESS}), reserved bytes at the peak. Simulated with "
        f"{versions} by `python -m tools.simulate_published`. One figure was not published: the length of the "
        "longest batch. It is inferred from the run of plain LoRA with rank 32 "
        "(`peft_lab/engine/published/__init__.py`). No number in the allocator model was fitted to data."
    )


def _one_row() -> None:
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    name = form_controls().draw("row", left)
    if right.button("Count and simulate this run", key="simulate-row", width="stretch"):
        st.session_state[COUNTED_NOW] = name
    if st.session_state.get(COUNTED_NOW) != name:
        return
    counted = look(get_pool().submit(TAB, published.count, name))
    simulated = look(get_pool().submit(TAB, published.simulate, name))
    come_back(counted, simulated)
    problem = counted.error or simulated.error
    if problem is not None:
        error_line(problem)
        return
    report, found = counted.answer, simulated.answer
    if report is None or found is None:
        st.markdown(
            "Counting what this run trained, and simulating its evaluation, its step and the allocator…"
        )
        return
    row, outcome = published.rows()[name], published.PublishedOutcome.of(found)
    kept = published.simulated()[name].reserved
    same = "as stored" if outcome.reserved == kept else f"stored: {units.size(kept or 0)}"
    equal = "✓ equal to" if (report.trainable, report.total) == (row.trainable, row.total) else "other than"
    st.markdown(
        f"**{row.title}**: {units.count(report.trainable)} of {units.count(report.total)} parameters trained "
        f"{figures.badge('counted')}, {equal} what was published: {units.count(row.trainable)} of "
        f"{units.count(row.total)} {figures.badge('cited')}. Simulated in {units.seconds(found.seconds)}: "
        f"{units.size(outcome.reserved or 0)} reserved {figures.badge('simulated')}, {same}. Published: "
        f"{units.size(row.reserved)} {figures.badge('cited')}; error {published.error(row, outcome):+.1f}%."
    )


# ----------------------------------------
# Why memory goes where it goes: four short lessons whose every figure is taken from what the page shows.


ON, OFF = "with checkpointing", "without"
Parts = Mapping[str, int]


@dataclass(frozen=True)
class LessonText:
    """A lesson's sentences, and the bars that show it."""

    text: str
    rows: Mapping[str, Parts]
    caption: str


@dataclass(frozen=True)
class Lesson:
    """``preset``: settings that show it well. ``needs``: the simulations it uses."""

    key: str
    title: str
    preset: Mapping[str, Any]
    needs: tuple[str, ...]
    tell: Callable[[MemoryForm, Mapping[str, Simulation]], LessonText]


def lessons(chosen: MemoryForm, answers: Simulated) -> None:
    if chosen.offload:
        st.info(
            "The lessons are about activations that stay on the device, but your settings offload activations to "
            "main memory."
        )
        if st.button("Keep activations on the device", key="lessons-keep"):
            set_page(offload=False)
        return
    toggled = collect({name: chosen.simulate(TAB, "lora", checkpointing=name == ON) for name in (ON, OFF)})
    found = {**answers.found, **toggled.found}
    columns = st.columns(2, gap="medium")
    for index, lesson in enumerate(LESSONS):
        with columns[index % 2], st.container(border=True):
            _draw(lesson, chosen, found)


def _draw(lesson: Lesson, chosen: MemoryForm, found: Mapping[str, Simulation]) -> None:
    st.markdown(f"#### {lesson.title}")
    if all(name in found for name in lesson.needs):
        found_out = lesson.tell(chosen, found)
        st.markdown(f"{found_out.text} {figures.badge('simulated')}")
        figure = charts.memory_bars(found_out.rows)
        height = 70 + 34 * len(found_out.rows)
        figure.update_layout(showlegend=False, height=height, margin={"l": 8, "r": 8, "t": 4, "b": 36})
        charts.draw(figure, f"lesson-{lesson.key}")
        st.caption(f"{found_out.caption} Colours as in the bars above.")
    else:
        lacking = ", ".join(
            all_methods()[name].title for name in lesson.needs if name in all_methods() and name not in found
        )
        st.markdown(f"Not simulated for {plain(chosen.entry.title)}: {lacking or 'one of the two steps'}.")
    preset = replace(USUAL, **lesson.preset, tab="why")
    if chosen.key() == preset.key():
        st.markdown(":material/check: The page is set to this lesson's example.")
    elif st.button(
        f"Show it on {get_model(preset.model).title}", key=f"preset-{lesson.key}", width="stretch"
    ):
        set_page(**preset.by_name())


def fullest(simulation: Simulation) -> MemoryPoint:
    """Return the moment with the most activations."""
    return max(simulation.points, key=lambda point: point.parts["activations"])


def _trained(simulation: Simulation) -> int:
    """Return the bytes of gradients and optimizer states, each at its own peak."""
    return sum(max(point.parts[part] for point in simulation.points) for part in ("gradients", "optimizer"))


def _lora(chosen: MemoryForm, found: Mapping[str, Simulation]) -> LessonText:
    full, lora = found["full"], found["lora"]
    kept = fullest(full).parts["activations"], fullest(lora).parts["activations"]
    saved = _trained(full), _trained(lora)
    text = (
        "The backward pass runs through every frozen layer to reach the adapters, so the activations it needs are "
        f"still stored: **{units.size(kept[1])}**. This is {kept[1] / kept[0]:.0%} of the {units.size(kept[0])} with "
        "full fine-tuning. LoRA reduces what only trained weights need: gradients and "
        f"{OPTIMIZER_TITLES[chosen.optimizer]} states shrink from {units.size(saved[0])} to {units.size(saved[1])}."
    )
    rows = {"Full": fullest(full).parts, "LoRA": fullest(lora).parts}
    return LessonText(text, rows, "At the moment with the most activations.")


def _ia3(chosen: MemoryForm, found: Mapping[str, Simulation]) -> LessonText:
    ia3, lora, shape = found["ia3"], found["lora"], chosen.entry.shape
    count = {
        slug: all_methods()[slug].formula(shape, all_methods()[slug].require(shape, {})).trainable
        for slug in ("ia3", "lora")
    }
    difference = ia3.peak_bytes - lora.peak_bytes
    than = "more" if difference > 0 else "less"
    each = "position" if shape.kind == "vision" else "token"
    text = (
        f"IA³ trains {units.short_count(count['ia3'])} numbers, LoRA trains {units.short_count(count['lora'])}. At "
        f"its peak, IA³'s step needs **{units.size(abs(difference))} {than}** ({units.size(ia3.peak_bytes)} against "
        f"{units.size(lora.peak_bytes)}). To compute a vector's gradient, the step must store everything that the "
        f"vector multiplied: keys, values and the {shape.intermediate:,} inner values of the feed-forward part, for "
        f"every {each} in every layer. LoRA stores the inputs of its matrices, {shape.hidden:,} wide, and values "
        "that are only r wide."
    )
    rows = {"IA³": fullest(ia3).parts, "LoRA": fullest(lora).parts}
    return LessonText(text, rows, "At the moment with the most activations.")


def _checkpointing(chosen: MemoryForm, found: Mapping[str, Simulation]) -> LessonText:
    on, off, shape = found[ON], found[OFF], chosen.entry.shape
    inputs = chosen.batch * chosen.seq * shape.hidden * chosen.width * shape.num_layers
    kept = fullest(off).parts["activations"], fullest(on).parts["activations"]
    largest = max(on.parts, key=lambda part: on.parts[part] if part != "weights" else -1)
    text = (
        f"With LoRA the step's peak falls from {units.size(off.peak_bytes)} to **{units.size(on.peak_bytes)}**, and "
        f"activations from {units.size(kept[0])} to {units.size(kept[1])}: only the layers' inputs are stored "
        f"({chosen.batch:,} × {chosen.seq:,} × {shape.hidden:,} numbers for each of {shape.num_layers} layers, "
        f"{units.size(inputs)}), and the backward pass recomputes one layer at a time. This costs a second forward "
        "pass in every step (Chen et al. 2016, arXiv 1604.06174). Apart from the weights, the largest remaining "
        f"part is {'the ' if largest == 'logits' else ''}{largest}: {units.size(on.parts[largest])}."
    )
    return LessonText(text, {"Without": off.parts, "With": on.parts}, "LoRA, at the peak.")


def quantised_weights(shape: ModelShape) -> int:
    """Return the number of weights QLoRA packs: linear maps but the head and what must stay whole."""
    return sum(group.count * math.prod(group.parameters["weight"]) for group in quantised(shape))


def _qlora(chosen: MemoryForm, found: Mapping[str, Simulation]) -> LessonText:
    one, shape = found["qlora"], chosen.entry.shape
    bits, unit = (8, "rows") if chosen.dtype == "int8" else (4, "blocks")
    packed = quantised_weights(shape)
    whole = one.parts["weights"] - packed * bits // 8
    trained = sum(one.parts[part] for part in ("adapter", "gradients", "optimizer"))
    rest = {name: one.parts[name] for name in ("activations", "logits", "temporary")}
    text = (
        f"At the peak, memory is **{units.size(one.peak_bytes)}** ({one.peak_bytes / 2**30:.1f} GiB). Of this, "
        f"{units.size(packed * bits // 8)} hold {units.short_count(packed)} weights in {bits} bits, and "
        f"{units.size(one.parts['quantisation'])} hold the constants of their {unit}. Everything else (embeddings, "
        f"output head, norms) stays in {8 * chosen.width} bits: {units.size(whole)}. The adapter with gradients and "
        f"optimizer states takes {units.size(trained)}, activations {units.size(rest['activations'])}, logits and loss "
        f"{units.size(rest['logits'])}. In {8 * chosen.width} bits the weights alone would take "
        f"{units.size(chosen.entry.parameters * chosen.width)}."
    )
    return LessonText(text, {"QLoRA": one.parts}, "At the peak.")


_SMALL = {"model": USUAL.model, "method": "lora"}
LESSONS = (
    Lesson("lora", "Why LoRA does not shrink activations", _SMALL, ("full", "lora"), _lora),
    Lesson("ia3", "Why IA³ can peak above LoRA", {**_SMALL, "method": "ia3"}, ("ia3", "lora"), _ia3),
    Lesson("checkpointing", "What checkpointing trades", _SMALL, (ON, OFF), _checkpointing),
    Lesson(
        "qlora",
        "Where QLoRA's memory goes",
        {"model": "llama-3.1-70b", "device": "a100-80", "batch": 1, "seq": 1024, "checkpointing": True,
         "targets": "all-linear", "method": "qlora"},
        ("qlora",),
        _qlora,
    ),
)  # fmt: skip


def offloaded(chosen: MemoryForm, answers: Simulated) -> None:
    """Draw one sentence on the method in view, or on the first that runs; nothing until one has run."""
    slug = in_view(chosen, answers)
    if slug is None:
        return
    both_ways = copied(answers.found[slug].work[-1])
    st.caption(
        f"Offloading takes time: with {all_methods()[slug].title} a step copies {units.size(both_ways)} over the "
        f"bus, there and back. The copies take {units.seconds(both_ways / kernels.PINNED)}, and nothing else runs "
        f"during this time. {figures.badge('simulated')} The copies are assumed to reach {kernels.REACHED:.0%} of "
        f"PCIe 4.0's {units.size(kernels.LINKS['pcie'])} per second."
    )


def in_view(chosen: MemoryForm, answers: Simulated) -> str | None:
    """Return the chosen method, or the first that has run; None until one has."""
    return chosen.method if chosen.method in answers.found else next(iter(answers.found), None)


def memory_page() -> None:
    pages.open_page()
    form = form_controls()
    form.read_address(model=from_address)
    bar = plan_steps.head("memory")
    st.markdown(
        "See how much memory one training step needs, before you download anything. PEFT Lab runs the real step on "
        f"tensors with shapes but no data and adds up every byte. {figures.badge('simulated')}"
    )
    with st.container(key="memory-files"):
        config, rows = st.columns(2, gap="small")
    with config:
        bring()
    with st.container(key="memory-controls"):
        chosen = controls()
        below = st.container(key="memory-offload")
    with rows:
        lengths = (
            None
            if chosen.entry.kind == "vision"
            else lengths_file("Rows of unequal length", "memory-lengths")
        )
    place = st.container(border=True, key="memory-verdict")
    answers = None if chosen.problems() else overview(chosen)
    with place:
        _verdict(chosen, answers or Answers({}, {}, 0))
        if answers and lengths and chosen.card.kind == "cuda":
            step = chosen.request(chosen.method).at(lengths=thinned(lengths.tokens))
            shown(
                get_pool().submit(TAB, simulate.memory_of, step),
                partial(_run, chosen),
                "Simulating runs over the rows…",
            )
    if answers is not None and chosen.offload:
        with below:
            offloaded(chosen, answers)
    if answers is None:
        st.info("One of the settings above is not possible; the reason is shown below that setting.")
    sections: dict[str, Callable[[], None]] = {TABS["published"]: published_peaks}
    if answers is not None:
        own = {
            "timeline": partial(timeline, chosen, answers),
            "fits": partial(fitting, chosen, answers),
            "curves": partial(curves, chosen, answers),
            "why": partial(lessons, chosen, answers),
        }
        sections = {TABS[name]: draw for name, draw in own.items()} | sections
        one = answers.found.get(chosen.method)
        if (
            one is not None and "memory" not in plan_steps.known()
        ):  # else the plan has said whether its own step fits
            need = simulate.needed_bytes(one)
            if chosen.card.holds(need):
                plan_steps.know_memory(need, chosen.card.memory)
            else:
                plan_steps.know("memory", f"no, {verdict(need, chosen.card)}", good=False)
    plan_steps.draw(bar, "memory")
    wanted = TABS[form.value("tab")]
    title = tabs(SCOPE, sections, wanted if wanted in sections else next(iter(sections)))
    form.remember("tab", next(name for name, text in TABS.items() if text == title))
    # invalid values are left out, and all images are as long
    state.write_address(form.address(("seq",) if chosen.entry.kind == "vision" else ()))


def _verdict(chosen: MemoryForm, answers: Simulated) -> None:
    """Draw whether the method in view fits, which others do, and the button to the next step."""
    slug = in_view(chosen, answers)
    if slug is None:
        st.markdown("Simulating the methods…" if answers.waiting else "No answer for these settings.")
        return
    card = chosen.card
    needs = {name: simulate.needed_bytes(one) for name, one in answers.found.items()}
    fit = [all_methods()[name].title for name, need in needs.items() if name != slug and card.holds(need)]
    rows = "images" if chosen.entry.kind == "vision" else f"rows of {chosen.seq:,} tokens"
    said, way = st.columns([2, 1], gap="medium", vertical_alignment="center")
    said.markdown(
        f"## {all_methods()[slug].title} {'fits' if card.holds(needs[slug]) else 'does not fit'}\n\nA step on "
        f"{chosen.batch:,} {rows} needs **{units.size(needs[slug])}**; {card.holding} has {units.size(card.allowed)} "
        f"available. {figures.badge('simulated')}  \n"
        + ("" if answers.waiting else f"Other methods that fit: {', '.join(fit) or 'none'}.")
    )
    said.caption(f"Memory while the base model is {chosen.loading(slug).told}. {figures.badge('counted')}")
    if slug == "qlora" or chosen.dtype in PACKED_TITLES:
        said.caption(f"{TITLES['notes']['four bits']} {figures.badge('cited')}")
    if card.kind == "cuda" and chosen.entry.name in readers_of_text(further=True):
        with way:
            if st.button("Plan and files", type="primary", width="stretch", key="memory-next"):
                pages.go_to("plan")
            st.caption("The next step")


def _run(chosen: MemoryForm, found: Simulation) -> None:
    run, card = found.run, chosen.card
    assert run is not None
    usual, full = run.reserved, run.reserved.high > card.memory
    st.markdown(
        f"During a whole run with {all_methods()[chosen.method].title}, the allocator reserves "
        f"**{units.size(usual.low)} to {units.size(usual.high)}**. {card.holding} has "
        f"{units.size(card.memory)}{'; when it is full, the cache is freed, which takes time' if full else ' for it'}. "
        f"{figures.badge('simulated')}"
    )
    sizes = [(way, *map(units.size, (one.low, one.value, one.high))) for way, one in run.ways.items()]
    figures.table(("With", "Least", "Median", "Most"), sizes, numeric=(1, 2, 3))
    st.caption(run.told)
