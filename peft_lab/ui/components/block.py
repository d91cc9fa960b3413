"""The block drawing as a Streamlit component: of two layouts the fitting one; a click or key chooses a part.

A recorded trajectory brings it to life: the browser plays and scrubs the record's steps, from it alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import streamlit as st

from peft_lab.core.field import is_read
from peft_lab.drawing import living
from peft_lab.drawing.block import TOKENS as EXAMPLE
from peft_lab.drawing.block import draw_block
from peft_lab.drawing.living import sent
from peft_lab.drawing.trajectory.format import Trajectory
from peft_lab.methods.base import MethodSpec, Part
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import ModelShape
from peft_lab.ui import web
from peft_lab.ui.components.figures import HEADER, Detail

# ----------------------------------------
# What of a method can be set by hand in its drawing, with the parameters that it would have at every stop.


Kind = Literal["rank", "width", "tokens", "targets"]
_KINDS: Mapping[str, Kind] = {
    "r": "rank", "bottleneck": "width", "num_virtual_tokens": "tokens", "target_modules": "targets",
}  # fmt: skip


@dataclass(frozen=True)
class HandleStop:
    """A value at which a handle can be left, and its number of trained parameters by the closed form."""

    value: int
    trainable: int


@dataclass(frozen=True)
class Handle:
    """One thing to drag or to click.

    Attributes:
        knob: the knob's name, returned with the new value. label: its name for screen readers.
        value: the current value; for targets their names.
        stops: values to snap to, rising; for all but targets.
        names: for targets, the knob's name of a matrix by its path in the drawing.
    """

    knob: str
    kind: Kind
    label: str
    value: Any
    stops: tuple[HandleStop, ...] = ()
    names: Mapping[str, str] | None = None


def handles(spec: MethodSpec, shape: ModelShape, values: Mapping[str, Any]) -> tuple[Handle, ...]:
    """Return a method's handles on a model for complete knob values; ``()`` if the values are invalid."""
    found = []
    for knob in () if spec.refusal(shape, values) else spec.knobs:
        kind, value = _KINDS.get(knob.name), values[knob.name]
        if kind is None or not is_read(knob, spec.knobs, values):
            continue
        if kind == "targets":
            ends = {group.path: group.path.rpartition(".")[2] for group in shape.matrices if group.layers}
            offered = spec.options(knob, shape)
            names = {path: end for path, end in ends.items() if end in offered}
            if names:
                found.append(Handle(knob.name, kind, knob.label, list(value), names=names))
            continue
        tried = ({**values, knob.name: stop} for stop in sorted({*(int(stop) for stop in knob.stops), value}))
        stops = tuple(
            HandleStop(whole[knob.name], spec.formula(shape, whole).trainable)
            for whole in tried
            if not spec.refusal(shape, whole)
        )
        found.append(Handle(knob.name, kind, knob.label, value, stops))
    return tuple(found)


# ----------------------------------------
# A run's record in the browser: sent once, as a part that shows nothing; the drawing beside it names it and finds
# it.
#
# Streamlit sends a part that has changed whole, and one that has not by its hash alone. Within the drawing's part
# the record went along whenever a knob was moved: 262 of 382 kB, on each learner's network.


#: The drawing reads the same name (``living/js/block.js``). The newest of a few are kept: a run that goes on has
#: another at each of its steps.
_mount = st.components.v2.component(
    "peft_record", html="<span hidden></span>", js=web.read("block_handles.js"), isolate_styles=False
)


def record(run: Mapping[str, Any], key: str) -> None:
    """Send a record (:func:`peft_lab.drawing.living.sent`) to the browser, which finds it by its ``id``."""
    # In a list Streamlit looks for no tables, for which it would import pandas.
    _mount(key=key, data=[run], height=0)


Panel = Literal["phases", "layers", "numbers", "curve", "answers"]
PANELS: tuple[Panel, ...] = ("phases", "layers", "numbers", "curve", "answers")

_mount_block = st.components.v2.component(
    "peft_block", html=living.LIVING_HTML, css=living.LIVING_CSS, js=living.living_module()
)


def block(
    shape: ModelShape,
    parts: Sequence[Part],
    quantization: Quantization | None = None,
    selected: str | None = None,
    key: str = "block",
    tokens: Sequence[str] = EXAMPLE,
    details: Mapping[str, Detail] | None = None,
    *,
    trajectory: Trajectory | None = None,
    title: str = "Recorded run",
    playing: bool = False,
    show: Sequence[Panel] = PANELS,
    live_events: Sequence[Mapping[str, Any]] = (),
    handles: Sequence[Handle] = (),
    on_values: Callable[[Mapping[str, Any]], None] | None = None,
) -> str | None:
    """Show the drawing.

    Args:
        selected: the path to outline, wherever it was chosen.
        details: by path, the parameters to list beside a chosen part.
        trajectory: a run's record, shown state by state; without it the drawing stands still. While the run
            goes on, its last state is followed, until the learner goes back.
        title: the run's name above the scrubber.
        playing: whether to start once it is in view, once; never for readers who prefer reduced motion.
        show: panels below the drawing, beside the play button.
        live_events: steps after the trajectory's last state, ``{"step": 12, "loss": 0.4}`` each.
        handles: controls within the drawing (:func:`peft_lab.ui.components.block.handles`).
        on_values: called with the knobs' new values, by name, before the script reruns because of them.

    Returns:
        The path just chosen in the drawing, only in the script run caused by that choice; else ``None``.

    Raises:
        Unsupported: as :func:`peft_lab.drawing.block.draw_block`.
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
        result = _mount_block(
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
                    "show": list(show),
                    "handles": [asdict(handle) for handle in handles],
                }
            ],
            on_chosen_change=lambda: None,
            on_values_change=released,
        )
    chosen: str | None = result.chosen
    return chosen


# ----------------------------------------
# A small drawing of what a method adds: the part of the block drawing that holds what is trained.


HIGH = 188.0  # of the window on the drawing, in its user units: three matrices above each other
UNDER = 12.0  # room under the lowest trained part
TOKENS = 36.0  # the same under virtual tokens, whose row goes on below their edge
ROW = 60.0  # a box that is higher stands beside several rows
# Nothing in it can be reached: it stands beside words that say the same. A link to an anchor beside it leaves no mark
# in the address, which says what is set on the page.
_mount_thumb = st.components.v2.component(
    "peft_thumb",
    html='<div class="thumb" aria-hidden="true"></div>',
    css=".thumb svg { display: block; width: 100%; height: auto; } .thumb { pointer-events: none; }",
    js=web.read("thumb.js"),
)
_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_GROUP = re.compile(r"<g[^>]* data-path=.*?</g>", re.DOTALL)
_BOXES = re.compile(r'<rect class="box[^>]* y="([\d.]+)" width="[\d.]+" height="([\d.]+)"')
_Y = re.compile(r'\by="([\d.]+)"')


def thumb(
    spec: MethodSpec,
    shape: ModelShape,
    values: Mapping[str, Any],
    key: str,
    high: float = HIGH,
    anchor: str = "",
) -> None:
    """Draw a thumbnail, as a decoration that screen readers skip.

    Args:
        anchor: the target of the link beside it; the browser removes it from the URL once it was followed.

    Raises:
        Unsupported: as :func:`peft_lab.drawing.block.draw_block`.
    """
    _mount_thumb(key=key, data={"svg": cropped(spec, shape, values, high), "anchor": anchor})


def cropped(spec: MethodSpec, shape: ModelShape, values: Mapping[str, Any], high: float) -> str:
    """Return the narrow drawing cut to ``high`` user units around its lowest trained part."""
    parts = spec.parts(shape, values)
    drawn = draw_block(shape, parts, quantized=spec.quantization(values), layout="narrow")
    trained = [group for group in _GROUP.findall(drawn.svg) if "trained" in group]
    lowest = max((float(y) for group in trained for y in _Y.findall(group)), default=drawn.height)
    end = lowest + (TOKENS if any(part.kind == "cells" for part in parts) else UNDER)
    boxes = [(float(y), float(y) + float(tall)) for y, tall in _BOXES.findall(drawn.svg)]
    # below a box of one row that it would cut through
    end = max((low + 3 for top, low in boxes if top < end < low and low - top < ROW), default=end)
    top = max(0.0, min(end, drawn.height) - high)
    return _BOX.sub(f'viewBox="0 {top:g} {drawn.width:g} {high:g}"', drawn.svg, count=1)
