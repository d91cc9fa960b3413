"""What length and batch cost: needed memory over either, a line for each chosen method, with the device's limit."""

from __future__ import annotations

import streamlit as st

from peft_lab.memory import fits
from peft_lab.methods import all_methods
from peft_lab.ui import state, theme
from peft_lab.ui.components import charts, figures
from peft_lab.ui.foreign import plain
from peft_lab.ui.memory.answers import TAB, Answers, collect, progress
from peft_lab.ui.memory.controls import SCOPE, Chosen
from peft_lab.ui.memory.drawings import cost_curves

STOPS = {"seq": (128, 256, 512, 1024, 2048), "batch": (1, 2, 4, 8, 16)}
TITLES = {"seq": "Length", "batch": "Batch size"}
UNITS = {"seq": "tokens per row", "batch": "rows"}
FIRST = ("full", "lora", "qlora")


def curves(chosen: Chosen, answers: Answers) -> None:
    if not answers.found:
        return
    left, right = st.columns([1, 3], vertical_alignment="bottom")
    choices = ["batch"] if chosen.entry.kind == "vision" else list(TITLES)  # images are all as long
    over = left.segmented_control(
        "Cost of", choices, default=choices[0], format_func=TITLES.__getitem__, required=True,
        key=state.widget_key(SCOPE, "over", *choices), width="stretch",
    )  # fmt: skip
    # Options do not wait for answers: with others the control would forget what is chosen.
    slugs = [slug for slug in all_methods() if slug not in answers.refused]
    kept = state.remembered(SCOPE, "curves", FIRST)
    methods = right.multiselect(
        "Methods",
        slugs,
        default=[slug for slug in kept if slug in slugs],
        format_func=lambda slug: all_methods()[slug].title,
        key=state.widget_key(SCOPE, "curves"),
    )
    state.remember(SCOPE, "curves", tuple(methods))
    sizes = stops(chosen, over)
    asked = {(slug, size): chosen.simulate(TAB, slug, {over: size}) for slug in methods for size in sizes}
    found = collect(asked)
    progress(found, "points")
    series = {}
    for slug in methods:
        own = {size: fits.needed(one) for (name, size), one in found.found.items() if name == slug}
        if own:
            series[all_methods()[slug].title] = (sorted(own), [own[size] for size in sorted(own)])
    if series:
        x = "images" if chosen.entry.kind == "vision" else UNITS[over]
        device = chosen.device
        figure = cost_curves(series, x, getattr(chosen, over), device.memory, device.holding, colours())
        st.plotly_chart(figure, key=f"memory-{over}", config=charts.CONFIG)
    rest = "batch" if over == "seq" else "seq"
    unit = "positions per image" if chosen.entry.kind == "vision" else UNITS[rest]
    st.markdown(
        f"Every dot is one simulated step with {getattr(chosen, rest):,} {unit}; the dotted line marks the "
        f"setting above. {figures.badge('simulated')}"
    )
    for slug in methods:
        reasons = {reason for (name, _), reason in found.refused.items() if name == slug}
        for reason in sorted(reasons):
            st.caption(f"{all_methods()[slug].title}, some points: {plain(reason)}")


def colours() -> dict[str, str]:
    """A colour for each method, whichever others are drawn."""
    titles = [method.title for method in all_methods().values()]
    return {title: theme.SERIES[index % len(theme.SERIES)] for index, title in enumerate(titles)}


def stops(chosen: Chosen, over: str) -> list[int]:
    """Sizes to simulate, the one that is set among them, up to what the model has positions for."""
    limit = chosen.entry.shape.max_positions if over == "seq" else None
    sizes = {*STOPS[over], getattr(chosen, over)}
    return sorted(size for size in sizes if limit is None or size <= limit)
