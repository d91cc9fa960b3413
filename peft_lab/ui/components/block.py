"""The block drawing as a Streamlit component: both layouts, the one that fits shown; a click or key chooses a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import streamlit as st

from peft_lab import palette
from peft_lab.drawing import TOKENS, draw_block
from peft_lab.methods.base import Part
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import ModelShape
from peft_lab.ui.components.part_details import HEADER, Detail

NARROW_BELOW = 450  # CSS pixels: under this the wide picture's text would be smaller than 9.5 px

CSS = f"""
.host {{ container-type: inline-size; width: 100%; }}
.narrow {{ display: none; }}
.narrow > svg, .wide > svg {{ margin: 0 auto; }}
.wide > svg {{ max-width: 680px; }}
.narrow > svg {{ max-width: 400px; }}
@container (max-width: {NARROW_BELOW}px) {{ .narrow {{ display: block; }} .wide {{ display: none; }} }}
.host {{ position: relative; font-family: var(--st-font); color: var(--st-text-color); }}
.panel {{ position: absolute; z-index: 5; box-sizing: border-box; width: min(27rem, 100%); max-height: 20rem;
  overflow: auto;
  padding: 0.6rem 0.75rem; border: 1px solid var(--st-border-color); border-radius: 0.5rem; font-size: 0.84rem;
  background: var(--st-background-color); box-shadow: 0 6px 24px {palette.faint(palette.BLACK, 0.22)}; }}
.panel[hidden] {{ display: none; }}
.panel h4 {{ margin: 0 2rem 0.35rem 0; font-size: 0.84rem; font-weight: 600; overflow-wrap: anywhere;
  font-family: var(--st-code-font); }}
.panel p {{ margin: 0; }}
.panel table {{ border-collapse: collapse; width: 100%; }}
.panel th, .panel td {{ padding: 0.2rem 0.5rem 0.2rem 0; text-align: left; vertical-align: top; font-weight: 400; }}
.panel thead th {{ font-weight: 600; border-bottom: 1px solid var(--st-border-color); }}
.panel tbody th {{ font-family: var(--st-code-font); overflow-wrap: anywhere; }}
.panel .n {{ text-align: right; padding-right: 0; white-space: nowrap; font-variant-numeric: tabular-nums; }}
.panel button {{ all: unset; position: absolute; top: 0.3rem; right: 0.4rem; padding: 0.15rem 0.45rem; cursor: pointer;
  border-radius: 0.3rem; font-size: 1rem; line-height: 1.2; }}
.panel button:hover {{ background: var(--st-secondary-background-color); }}
.panel button:focus-visible {{ outline: 2px solid var(--st-primary-color); }}
.words {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }}
"""

HTML = (
    '<div class="host"><p class="words"></p><div class="wide"></div><div class="narrow"></div>'
    '<div class="panel" role="status" hidden></div></div>'
)

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
      const here = part.dataset.path;
      const chosen = path === here || Boolean(path?.startsWith(here + "."));
      part.classList.toggle("chosen", chosen);
      part.setAttribute("aria-pressed", String(chosen));
    }
  };

  // The answer stands beside the part that was chosen, inside the window.
  const panel = host.querySelector(".panel");
  const EDGE = 8;
  const HEADER = 64; // Streamlit's bar over the page

  const make = (tag, text, kind = "") => {
    const made = document.createElement(tag);
    made.className = kind;
    made.textContent = text;
    return made;
  };

  const fill = (detail) => {
    const close = make("button", "×");
    close.setAttribute("aria-label", "Close");
    close.onclick = (event) => { event.stopPropagation(); shut(); };
    panel.replaceChildren(close, make("h4", detail.title));
    if (detail.note) panel.append(make("p", detail.note));
    if (!detail.rows.length) return;
    const table = document.createElement("table");
    const line = (tag, cells) => {
      const row = document.createElement("tr");
      cells.forEach((text, index) => row.append(make(index ? tag : "th", text, index === cells.length - 1 ? "n" : "")));
      return row;
    };
    table.createTHead().append(line("th", data.header));
    table.createTBody().append(...detail.rows.map((cells) => line("td", cells)));
    panel.append(table);
  };

  const place = (part) => {
    const [at, around] = [part.getBoundingClientRect(), host.getBoundingClientRect()];
    const [width, height] = [panel.offsetWidth, panel.offsetHeight];
    let top = at.bottom + EDGE;
    if (top + height > window.innerHeight - EDGE) top = at.top - height - EDGE;
    if (top < HEADER) top = Math.max(HEADER, window.innerHeight - height - EDGE);
    const left = Math.min(Math.max(at.left + at.width / 2 - width / 2, around.left), around.right - width);
    panel.style.top = `${top - around.top}px`;
    panel.style.left = `${left - around.left}px`;
  };

  const shut = () => {
    const part = host.opened;
    host.opened = undefined;
    panel.hidden = true;
    if (part && panel.contains(root.activeElement)) same(host, part)[0]?.focus({ preventScroll: true });
  };

  const open = (path, part) => {
    const detail = data.details[path];
    if (!detail) return shut();
    host.opened = path;
    panel.hidden = false;
    panel.drawn = JSON.stringify(detail);
    fill(detail);
    place(part);
  };

  // What is open follows the knobs and a count that arrives.
  const again = () => {
    if (!host.opened) return;
    const detail = data.details[host.opened];
    if (!detail) return shut();
    if (panel.drawn === JSON.stringify(detail)) return;
    panel.drawn = JSON.stringify(detail);
    fill(detail);
  };

  const words = host.querySelector(".words");
  if (words.textContent !== data.words) words.textContent = data.words;
  show(host.querySelector(".wide"), data.wide);
  show(host.querySelector(".narrow"), data.narrow);
  mark(data.selected);
  again();

  const choose = (event) => {
    if (panel.contains(event.target)) return;
    const part = event.target.closest("[data-path]");
    if (!part) return shut();
    event.preventDefault();
    const path = part.dataset.path;
    if (host.opened === path) return shut();
    mark(path);
    open(path, part);
    setTriggerValue("chosen", path);
  };
  host.onclick = choose;
  host.onkeydown = (event) => {
    if (event.key === "Enter" || event.key === " ") choose(event);
    else if (event.key === "Escape") shut();
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
    details: Mapping[str, Detail] | None = None,
) -> str | None:
    """Show the drawing.

    Args:
        selected: the path to outline, from wherever it was chosen.
        details: by path, what is shown beside a part when it is chosen.

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
            "details": {path: asdict(one) for path, one in (details or {}).items()},
            "header": HEADER,
        },
        on_chosen_change=lambda: None,
    )
    chosen: str | None = result.chosen
    return chosen
