"""The block drawing as a Streamlit component: both layouts, the one that fits shown; a click or key chooses a part.

With a recorded trajectory it lives: its steps are played and scrubbed in the browser, from that record alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import streamlit as st

from peft_lab.drawing import TOKENS, draw_block
from peft_lab.living import bundle, markup, style
from peft_lab.living.sent import sent
from peft_lab.methods.base import Part
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import ModelShape
from peft_lab.trajectory.format import Trajectory
from peft_lab.ui.components.living.handles import Handle
from peft_lab.ui.components.part_details import HEADER, Detail
from peft_lab.ui.components.record import record

Size = Literal["full", "bench", "small"]
Panel = Literal["phases", "layers", "numbers", "curve", "answers"]
PANELS: tuple[Panel, ...] = ("phases", "layers", "numbers", "curve", "answers")

_mount = st.components.v2.component(
    "peft_block",
    html=markup.HTML,
    css=style.CSS + style.MOTION + style.UNDER + style.TOOLS,
    js=bundle.module(),
)


def block(
    shape: ModelShape,
    parts: Sequence[Part],
    quantization: Quantization | None = None,
    selected: str | None = None,
    key: str = "block",
    tokens: Sequence[str] = TOKENS,
    details: Mapping[str, Detail] | None = None,
    *,
    trajectory: Trajectory | None = None,
    title: str = "Recorded run",
    playing: bool = False,
    size: Size = "bench",
    show: Sequence[Panel] = PANELS,
    live_events: Sequence[Mapping[str, Any]] = (),
    handles: Sequence[Handle] = (),
    on_values: Callable[[Mapping[str, Any]], None] | None = None,
) -> str | None:
    """Show the drawing.

    Args:
        selected: the path to outline, from wherever it was chosen.
        details: by path, what is shown beside a part when it is chosen.
        trajectory: what a run recorded, shown state by state; without it the drawing stands still. One that has not
            ended is followed at its last state, until the learner goes back in it.
        title: what the run is called over the scrubber.
        playing: whether to start when it comes into view, once; never for readers who want no motion.
        show: what stands under the drawing, beside the play button.
        size: ``small`` has a play button under the drawing and nothing else.
        live_events: steps after the trajectory's last state, ``{"step": 12, "loss": 0.4}`` each.
        handles: what can be set by hand in the drawing (:func:`peft_lab.ui.components.living.handles.handles`).
        on_values: called with the knobs' new values, by name, before the script runs again because of them.

    Returns:
        The path that was just chosen in the drawing, in the one script run that this choice caused; else ``None``.

    Raises:
        Unsupported: as :func:`peft_lab.drawing.draw_block`.
    """
    # A choice made here is known before the caller has stored it: outline it in the same run, or it would flicker.
    just_chosen = (st.session_state.get(key) or {}).get("chosen")
    wide = draw_block(shape, parts, quantized=quantization, tokens=tokens)
    narrow = draw_block(shape, parts, quantized=quantization, tokens=tokens, layout="narrow")

    def released() -> None:
        values = (st.session_state.get(key) or {}).get("values")
        if values and on_values:
            on_values(values)

    run = sent(trajectory, live_events) if trajectory else None
    # Two parts, one above the other: the one that shows nothing takes no room.
    with st.container(gap=None):
        if run:
            record(run, f"{key}-record")
        result = _mount(
            key=key,
            # In a list Streamlit looks for no tables, for which it would import pandas: half a second of a first page.
            data=[
                {
                    "wide": wide.svg,
                    "narrow": narrow.svg,
                    "words": wide.description,
                    "selected": just_chosen or selected,
                    "details": {path: asdict(one) for path, one in (details or {}).items()},
                    "header": HEADER,
                    "record": run["id"] if run else None,
                    "title": title,
                    "playing": playing,
                    "size": size,
                    "show": list(show),
                    "handles": [handle.to_dict() for handle in handles],
                }
            ],
            on_chosen_change=lambda: None,
            on_values_change=released,
        )
    chosen: str | None = result.chosen
    return chosen
