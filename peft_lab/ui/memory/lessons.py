"""Why memory goes where it goes: four short lessons whose every figure is taken from what the page shows.

A lesson holds on any model that has its methods; its button sets the page to a case that shows it well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from peft_lab.core import units
from peft_lab.engine.account import Point
from peft_lab.engine.request import Simulation
from peft_lab.engine.step import OPTIMIZER_TITLES
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model
from peft_lab.models.quantise import kept_whole
from peft_lab.models.shapes import MATRIX_TYPES, ModelShape
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.waiting import collect
from peft_lab.ui.foreign import plain
from peft_lab.ui.memory.bars import Simulated
from peft_lab.ui.memory.controls import TAB, USUAL, MemoryForm, set_page

# Bytes of a number that is not packed.
_WIDTH = {"bfloat16": 2, "float16": 2, "float32": 4, "int8": 2, "nf4": 2, "fp4": 2}
ON, OFF = "with checkpointing", "without"
Parts = Mapping[str, int]


@dataclass(frozen=True)
class Told:
    """A lesson's sentences, and the bars they are read off."""

    text: str
    rows: Mapping[str, Parts]
    caption: str


@dataclass(frozen=True)
class Lesson:
    """``preset``: settings that show it well. ``needs``: what has to be simulated for it."""

    key: str
    title: str
    preset: Mapping[str, Any]
    needs: tuple[str, ...]
    tell: Callable[[MemoryForm, Mapping[str, Simulation]], Told]


def lessons(chosen: MemoryForm, answers: Simulated) -> None:
    if chosen.offload:
        st.info("The lessons are about activations that stay on the device; now they wait in main memory.")
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
        st.plotly_chart(figure, key=f"lesson-{lesson.key}", config=charts.CONFIG)
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


def fullest(simulation: Simulation) -> Point:
    """Return the moment with the most activations kept."""
    return max(simulation.points, key=lambda point: point.parts["activations"])


def _trained(simulation: Simulation) -> int:
    """Return the bytes of gradients and optimizer states, each at its own peak."""
    return sum(max(point.parts[part] for point in simulation.points) for part in ("gradients", "optimizer"))


def _lora(chosen: MemoryForm, found: Mapping[str, Simulation]) -> Told:
    full, lora = found["full"], found["lora"]
    kept = fullest(full).parts["activations"], fullest(lora).parts["activations"]
    saved = _trained(full), _trained(lora)
    text = (
        "The backward pass has to pass through every frozen layer to reach the adapters, so what it needs there is "
        f"still kept: **{units.size(kept[1])}** of activations, {kept[1] / kept[0]:.0%} of the "
        f"{units.size(kept[0])} that full fine-tuning keeps. LoRA saves elsewhere, on what only trained weights "
        f"need: gradients and {OPTIMIZER_TITLES[chosen.optimizer]} states shrink from "
        f"{units.size(saved[0])} to "
        f"{units.size(saved[1])}."
    )
    rows = {"Full": fullest(full).parts, "LoRA": fullest(lora).parts}
    return Told(text, rows, "At the moment with the most activations.")


def _ia3(chosen: MemoryForm, found: Mapping[str, Simulation]) -> Told:
    ia3, lora, shape = found["ia3"], found["lora"], chosen.entry.shape
    count = {
        slug: all_methods()[slug].formula(shape, all_methods()[slug].require(shape, {})).trainable
        for slug in ("ia3", "lora")
    }
    difference = ia3.peak_bytes - lora.peak_bytes
    than = "more" if difference > 0 else "less"
    each = "position" if shape.kind == "vision" else "token"
    text = (
        f"IA³ trains {units.short_count(count['ia3'])} numbers, LoRA {units.short_count(count['lora'])}; its step "
        f"peaks at **{units.size(abs(difference))} {than}** ({units.size(ia3.peak_bytes)} against "
        f"{units.size(lora.peak_bytes)}). The gradient of a vector needs everything that the vector multiplied: "
        f"keys, values and the {shape.intermediate:,} inner values of the feed-forward part, for every {each} in "
        f"every layer. LoRA keeps the inputs of its matrices, {shape.hidden:,} wide, and values that are only r "
        "wide."
    )
    rows = {"IA³": fullest(ia3).parts, "LoRA": fullest(lora).parts}
    return Told(text, rows, "At the moment with the most activations.")


def _checkpointing(chosen: MemoryForm, found: Mapping[str, Simulation]) -> Told:
    on, off, shape = found[ON], found[OFF], chosen.entry.shape
    inputs = chosen.batch * chosen.seq * shape.hidden * _WIDTH[chosen.dtype] * shape.num_layers
    kept = fullest(off).parts["activations"], fullest(on).parts["activations"]
    largest = max(on.parts, key=lambda part: on.parts[part] if part != "weights" else -1)
    text = (
        f"With LoRA the step's peak falls from {units.size(off.peak_bytes)} to **{units.size(on.peak_bytes)}**, "
        f"activations from {units.size(kept[0])} to {units.size(kept[1])}: only the layers' inputs stay "
        f"({chosen.batch:,} × {chosen.seq:,} × {shape.hidden:,} numbers for each of {shape.num_layers} layers, "
        f"{units.size(inputs)}), and one layer at a time is recomputed in the backward pass. The price is a second "
        f"forward pass in every step (Chen et al. 2016, arXiv 1604.06174). Next to the weights, most of what is left "
        f"is {'the ' if largest == 'logits' else ''}{largest}: {units.size(on.parts[largest])}."
    )
    return Told(text, {"Without": off.parts, "With": on.parts}, "LoRA, at the peak.")


def quantised_weights(shape: ModelShape) -> int:
    """Return the weights QLoRA packs: linear maps but the output head and what the architecture needs whole."""
    whole = ("lm_head", *kept_whole(shape.model_type))
    maps = (
        group
        for group in shape.groups
        if group.type in MATRIX_TYPES and group.path.rpartition(".")[2] not in whole
    )
    return sum(group.count * math.prod(group.parameters["weight"]) for group in maps)


def _qlora(chosen: MemoryForm, found: Mapping[str, Simulation]) -> Told:
    one, shape = found["qlora"], chosen.entry.shape
    bits, unit = (8, "rows") if chosen.dtype == "int8" else (4, "blocks")
    packed = quantised_weights(shape)
    whole = one.parts["weights"] - packed * bits // 8
    trained = sum(one.parts[part] for part in ("adapter", "gradients", "optimizer"))
    rest = {name: one.parts[name] for name in ("activations", "logits", "temporary")}
    text = (
        f"Of **{units.size(one.peak_bytes)}** ({one.peak_bytes / 2**30:.1f} GiB) at the peak, "
        f"{units.size(packed * bits // 8)} are {units.short_count(packed)} weights in {bits} bits and "
        f"{units.size(one.parts['quantisation'])} the constants of their {unit}. Everything else (embeddings, "
        f"output head, norms) stays in {8 * _WIDTH[chosen.dtype]} bits: {units.size(whole)}. The adapter with "
        f"gradients and optimizer states takes {units.size(trained)}, activations "
        f"{units.size(rest['activations'])}, logits and loss {units.size(rest['logits'])}. In "
        f"{8 * _WIDTH[chosen.dtype]} bits the weights alone would be "
        f"{units.size(chosen.entry.parameters * _WIDTH[chosen.dtype])}."
    )
    return Told(text, {"QLoRA": one.parts}, "At the peak.")


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
