"""The block drawing as a Streamlit component: both layouts, the one that fits shown; a click or key chooses a part."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab.drawing import TOKENS, draw_block
from peft_lab.methods.base import Part, Quantization
from peft_lab.shapes import ModelShape

NARROW_BELOW = 450  # CSS pixels: under this the wide picture's text would be smaller than 9.5 px

CSS = f"""
.host {{ container-type: inline-size; width: 100%; }}
.narrow {{ display: none; }}
.narrow > svg, .wide > svg {{ margin: 0 auto; }}
.wide > svg {{ max-width: 680px; }}
.narrow > svg {{ max-width: 400px; }}
@container (max-width: {NARROW_BELOW}px) {{ .narrow {{ display: block; }} .wide {{ display: none; }} }}
.words {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }}
"""

HTML = '<div class="host"><p class="words"></p><div class="wide"></div><div class="narrow"></div></div>'

# The choice is shown at once and sent to the server; pictures are replaced only when they changed, and the focus then
# goes to the same part of the new picture.
JS = """
export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".host");
  const root = host.getRootNode();
  const same = (place, path) => [...place.querySelectorAll("[data-path]")].filter((part) => part.dataset.path === path);

  const show = (place, svg) => {
    if (place.drawn === svg) return;
    const focused = place.contains(root.activeElement) ? root.activeElement.closest("[data-path]") : null;
    const path = focused?.dataset.path;
    const order = focused ? same(place, path).indexOf(focused) : 0;
    place.innerHTML = svg;
    place.drawn = svg;
    if (!focused) return;
    const twins = same(place, path);
    (twins[order] ?? twins[0])?.focus({ preventScroll: true });
  };

  const mark = (path) => {
    for (const part of host.querySelectorAll("[data-path]")) {
      const chosen = part.dataset.path === path;
      part.classList.toggle("chosen", chosen);
      part.setAttribute("aria-pressed", String(chosen));
    }
  };

  const words = host.querySelector(".words");
  if (words.textContent !== data.words) words.textContent = data.words;
  show(host.querySelector(".wide"), data.wide);
  show(host.querySelector(".narrow"), data.narrow);
  mark(data.selected);

  const choose = (event) => {
    const part = event.target.closest("[data-path]");
    if (!part) return;
    event.preventDefault();
    mark(part.dataset.path);
    setTriggerValue("chosen", part.dataset.path);
  };
  host.onclick = choose;
  host.onkeydown = (event) => {
    if (event.key === "Enter" || event.key === " ") choose(event);
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
