"""A small drawing of what a method adds: the part of the block drawing that holds what is trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import streamlit as st

from peft_lab.drawing import draw_block
from peft_lab.methods.base import MethodSpec
from peft_lab.models.shapes import ModelShape

HIGH = 188.0  # of the window on the drawing, in its user units: three matrices above each other
UNDER = (
    12.0  # room under the lowest trained part; more under virtual tokens, whose row goes on below their edge
)
TOKENS = 36.0
ROW = 60.0  # a box that is higher stands beside several rows
CSS = """.thumb svg { display: block; width: 100%; height: auto; }
.thumb { pointer-events: none; }"""
HTML = '<div class="thumb" aria-hidden="true"></div>'
# Nothing in it can be reached: it stands beside words that say the same. A link to an anchor beside it leaves no mark
# in the address, which says what is set on the page.
JS = """
export default function ({ data, parentElement }) {
  const host = parentElement.querySelector(".thumb");
  host.ending?.();
  const forget = () => {
    if (data.anchor && location.hash === `#${data.anchor}`)
      history.replaceState(history.state, "", location.pathname + location.search);
  };
  addEventListener("hashchange", forget);
  host.ending = () => removeEventListener("hashchange", forget);
  draw(host, data);
  return host.ending;
}
const draw = (host, data) => {
  if (host.drawn === data.svg) return;
  host.drawn = data.svg;
  host.innerHTML = data.svg;
  for (const part of host.querySelectorAll("[tabindex]"))
    for (const name of ["tabindex", "role", "aria-pressed", "aria-label"]) part.removeAttribute(name);
};
"""
_mount = st.components.v2.component("peft_thumb", html=HTML, css=CSS, js=JS)
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
    """Draw it; a decoration, which screen readers pass over.

    Args:
        anchor: of the link that stands beside it; it is taken out of the address once one is there.

    Raises:
        Unsupported: as :func:`peft_lab.drawing.draw_block`.
    """
    _mount(key=key, data={"svg": cropped(spec, shape, values, high), "anchor": anchor})


def cropped(spec: MethodSpec, shape: ModelShape, values: Mapping[str, Any], high: float = HIGH) -> str:
    """The narrow drawing with a window, ``high`` user units of it, on its lowest trained part and above."""
    parts = spec.parts(shape, values)
    drawn = draw_block(shape, parts, quantized=spec.quantization(values), layout="narrow")
    trained = [group for group in _GROUP.findall(drawn.svg) if "trained" in group]
    lowest = max((float(y) for group in trained for y in _Y.findall(group)), default=drawn.height)
    under = TOKENS if {part.kind for part in parts} & {"cells"} else UNDER
    end = _past_boxes(lowest + under, drawn.svg)
    top = max(0.0, min(end, drawn.height) - high)
    window = f'viewBox="0 {top:g} {drawn.width:g} {high:g}"'
    return _BOX.sub(window, drawn.svg, count=1)


def _past_boxes(end: float, svg: str) -> float:
    """The lower edge of a window, moved below a box of one row that it would cut through."""
    boxes = [(float(y), float(y) + float(tall)) for y, tall in _BOXES.findall(svg)]
    return max((low + 3 for top, low in boxes if top < end < low and low - top < ROW), default=end)
