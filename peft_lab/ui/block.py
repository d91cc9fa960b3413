"""The block drawing as a Streamlit component: both layouts, the one that fits shown; a click or key chooses a part."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab.drawing import TOKENS, draw_block
from peft_lab.methods.base import Part, Quantization
from peft_lab.shapes import ModelShape

NARROW_BELOW = 560  # CSS pixels: under this the wide picture's text would be smaller than 8.5 px

CSS = f"""
.host {{ container-type: inline-size; width: 100%; }}
.narrow {{ display: none; }}
.narrow > svg, .wide > svg {{ margin: 0 auto; }}
.wide > svg {{ max-width: 900px; }}
.narrow > svg {{ max-width: 440px; }}
@container (max-width: {NARROW_BELOW}px) {{ .narrow {{ display: block; }} .wide {{ display: none; }} }}
.words {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }}
"""

HTML = '<div class="host"><div class="wide"></div><div class="narrow"></div><p class="words"></p></div>'

# The choice is shown at once and sent to the server; pictures are replaced only when they changed, and the focus then
# goes to the same part of the new picture.
JS = """
export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".host");
  const root = host.getRootNode();
  const show = (place, svg) => {
    const target = host.querySelector(place);
    if (target.drawn === svg) return;
    const focused = root.activeElement;
    const order = focused && target.contains(focused)
      ? [...target.querySelectorAll("[data-path]")].filter((g) => g.dataset.path === focused.dataset.path).indexOf(focused) : -1;
    target.innerHTML = svg;
    target.drawn = svg;
    if (order < 0) return;
    const same = [...target.querySelectorAll("[data-path]")].filter((g) => g.dataset.path === focused.dataset.path);
    (same[order] || same[0])?.focus({ preventScroll: true });
  };
  const mark = (path) => {
    for (const part of host.querySelectorAll("[data-path]")) {
      const chosen = part.dataset.path === path;
      part.classList.toggle("chosen", chosen);
      part.setAttribute("aria-pressed", String(chosen));
    }
  };
  show(".wide", data.wide);
  show(".narrow", data.narrow);
  const words = host.querySelector(".words");
  if (words.textContent !== data.words) words.textContent = data.words;
  mark(data.selected);

  const choose = (event) => {
    const part = event.target.closest("[data-path]");
    if (!part) return;
    mark(part.dataset.path);
    setTriggerValue("chosen", part.dataset.path);
  };
  host.onclick = choose;
  host.onkeydown = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    if (event.target.closest("[data-path]")) event.preventDefault();
    choose(event);
  };
}
"""

_mount = st.components.v2.component("peft_block", html=HTML, css=CSS, js=JS)


def block(
    shape: ModelShape,
    parts: Sequence[Part],
    quantization: Quantization | None = None,
    selected: str | None = None,
    key: str = "block",
    tokens: Sequence[str] = TOKENS,
) -> str | None:
    """Show the drawing.

    Args:
        selected: the path to outline, from wherever it was chosen.

    Returns:
        The path that was just chosen in the drawing, in the one script run that this choice caused; else ``None``.

    Raises:
        Unsupported: as :func:`peft_lab.drawing.draw_block`.
    """
    # A choice made here is known before the caller has stored it: outline it in the same run, or it would flicker.
    just_chosen = (st.session_state.get(key) or {}).get("chosen")
    wide = draw_block(shape, parts, quantized=quantization, tokens=tokens)
    narrow = draw_block(shape, parts, quantized=quantization, tokens=tokens, layout="narrow")
    result = _mount(
        key=key,
        data={
            "wide": wide.svg,
            "narrow": narrow.svg,
            "words": wide.description,
            "selected": just_chosen or selected,
        },
        on_chosen_change=lambda: None,
    )
    chosen: str | None = result.chosen
    return chosen
