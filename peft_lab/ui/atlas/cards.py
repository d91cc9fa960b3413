"""Cards of types by family, each with its update and a picture of ΔW; a click on one chooses it.

The picture is drawn in the browser from one letter an entry: orange adds to W, blue takes away, what is blank is zero.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import streamlit as st

from peft_lab import palette
from peft_lab.atlas import FAMILIES, entries, get_entry, probes
from peft_lab.atlas.base import AtlasType

LEVELS = (
    "jihgfedcba0ABCDEFGHIJ"  # as tools/atlas_probe/picture.py writes them: -10 to 10 tenths of the largest
)
PLUS, MINUS = palette.CHART_TRAINED, palette.CHART_QUANTISED

CSS = """
.atlas { font-family: var(--st-font); color: var(--st-text-color); }
.atlas h3 { font-size: 1.1rem; font-weight: 600; margin: 1.4rem 0 0.1rem; }
.atlas section:first-child h3 { margin-top: 0.2rem; }
.atlas p { margin: 0 0 0.6rem; font-size: 0.88rem; opacity: 0.85; max-width: 48rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16.5rem), 1fr)); gap: 0.6rem; }
.card { font: inherit; color: inherit; text-align: left; background: none; cursor: pointer; min-width: 0;
  border: 1px solid color-mix(in srgb, currentColor 22%, transparent); border-radius: 0.6rem; padding: 0.55rem 0.65rem;
  display: grid; grid-template-columns: 1fr auto; gap: 0.15rem 0.6rem; align-content: start; }
.card:hover { border-color: color-mix(in srgb, currentColor 55%, transparent); }
.card:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px; }
.card[aria-pressed="true"] { border-color: var(--st-primary-color); box-shadow: 0 0 0 1px var(--st-primary-color); }
.card b { font-weight: 600; }
.card .of, .card .facts { font-size: 0.78rem; opacity: 0.8; }
.card .update { font-size: 0.82rem; line-height: 1.35; overflow-wrap: anywhere; }
.card canvas, .card .none { grid-column: 2; grid-row: 1 / span 4; width: 64px; height: 64px; }
canvas { image-rendering: pixelated; border: 1px solid color-mix(in srgb, currentColor 22%, transparent); }
.card .none { font-size: 0.72rem; opacity: 0.75; display: grid; place-content: center; text-align: center;
  border: 1px dashed color-mix(in srgb, currentColor 35%, transparent); }
.tree ul { list-style: none; margin: 0; padding: 0 0 0 1.15rem; }
.tree > ul { padding: 0 0 0 0.4rem; display: flex; flex-wrap: wrap; gap: 0.5rem 1.4rem; align-items: flex-start; }
.tree > ul > li { min-width: 0; max-width: 100%; }
.tree > ul > li.wide { flex: 1 1 100%; }
.tree li.wide > ul { columns: 12.5rem; column-gap: 0.8rem; }
.tree li li { position: relative; break-inside: avoid; }
.tree li li::before, .tree li li::after { content: ""; position: absolute; left: -0.75rem; pointer-events: none; }
.tree li li::before { top: 0; bottom: 0; border-left: 1px solid color-mix(in srgb, currentColor 38%, transparent); }
.tree li li:last-child::before { bottom: auto; height: 0.95rem; }
.tree li li::after { top: 0.95rem; width: 0.7rem;
  border-top: 1px solid color-mix(in srgb, currentColor 38%, transparent); }
.leaf { font: inherit; font-size: 0.86rem; color: inherit; background: none; cursor: pointer;
  border: 1px solid transparent; border-radius: 0.4rem; padding: 0.1rem 0.4rem; min-height: 1.9rem; text-align: left; }
.tree > ul > li > .leaf { font-weight: 600; margin-left: -0.4rem; }
.leaf.variant { font-style: italic; }
.leaf:hover { border-color: color-mix(in srgb, currentColor 45%, transparent); }
.leaf:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px; }
.leaf[aria-pressed="true"] { border-color: var(--st-primary-color); }
@media (max-width: 640px) {
  .leaf { min-height: 44px; }
  .tree li.wide > ul { columns: 2; }
  .tree li li:last-child::before { height: 22px; }
  .tree li li::after { top: 22px; }
}
.one canvas { width: min(100%, 192px); height: auto; aspect-ratio: 1; display: block; }
"""

JS = f"""
const LEVELS = "{LEVELS}";
const rgb = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
const PLUS = rgb("{PLUS}"), MINUS = rgb("{MINUS}");
export default function ({{ data, parentElement, setTriggerValue }}) {{
  const host = parentElement.querySelector(".host");
  if (host.drawn !== data.drawing) {{
    host.innerHTML = data.drawing;
    host.drawn = data.drawing;
    for (const canvas of host.querySelectorAll("canvas")) {{
      const pen = canvas.getContext("2d"), image = pen.createImageData(canvas.width, canvas.height);
      [...canvas.dataset.entries].forEach((letter, at) => {{
        const level = LEVELS.indexOf(letter) - 10;
        image.data.set([...(level < 0 ? MINUS : PLUS), 255 * Math.sqrt(Math.abs(level) / 10)], 4 * at);
      }});
      pen.putImageData(image, 0, 0);
    }}
  }}
  for (const card of host.querySelectorAll("[data-name]")) {{
    card.setAttribute("aria-pressed", String(data.chosen.includes(card.dataset.name)));
    card.onclick = () => {{
      setTriggerValue("chosen", card.dataset.name);
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      document.querySelector(".st-key-atlas-details")?.scrollIntoView({{ behavior: still ? "auto" : "smooth" }});
    }};
  }}
}}
"""

_mount = st.components.v2.component("peft_atlas", html='<div class="host"></div>', css=CSS, js=JS)


def facts(picture: dict[str, Any]) -> str:
    """What is seen in a picture, in words: rank, zeros, symmetry."""
    side = min(picture["rows"], picture["columns"])
    at = ", ".join(
        f"{name} {value}"
        for name, value in picture.get("settings", {}).items()
        if name in ("r", "init_r") and value
    )
    parts = [f"rank {picture['rank']} of {side}" + (f" at {at}" if at else "")]
    if picture["zeros"] >= 0.01:
        parts.append(f"{100 * picture['zeros']:.0f}% zeros")
    if picture["asymmetry"] is not None and picture["asymmetry"] < 0.01:
        parts.append("symmetric")
    if not picture["linear"]:
        parts.append("depends on the input")
    return ", ".join(parts)


def _canvas(picture: dict[str, Any], label: str) -> str:
    return (
        f'<canvas width="{picture["columns"]}" height="{picture["rows"]}" role="img" '
        f'aria-label="{html.escape(label)}" data-entries="{picture["entries"]}"></canvas>'
    )


def _card(entry: AtlasType) -> str:
    picture = probes.found(entry.name).get("picture", {})
    seen = facts(picture) if "entries" in picture else ""
    drawn = _canvas(picture, f"ΔW of {entry.title}: {seen}") if seen else '<span class="none">no ΔW</span>'
    parent = get_entry(entry.parent).title if entry.parent else ""
    of = f"variant of {parent}" if entry.variant else f"changes {parent}" if parent else "starts a line"
    return (
        f'<button type="button" class="card" data-name="{entry.name}"><b>{html.escape(entry.title)}</b>{drawn}'
        f'<span class="of">{html.escape(of)}</span><span class="update">{html.escape(entry.update)}</span>'
        f'<span class="facts">{html.escape(seen)}</span></button>'
    )


def cards(shown: Sequence[AtlasType], chosen: Sequence[str]) -> str | None:
    """Draw the cards; the name of one that was clicked just now."""
    sections = []
    for family, (title, sentence) in FAMILIES.items():
        members = "".join(_card(entry) for entry in shown if entry.family == family)
        if members:
            sections.append(
                f"<section><h3>{html.escape(title)}</h3><p>{html.escape(sentence)}</p>"
                f'<div class="grid">{members}</div></section>'
            )
    return mounted("atlas-cards", f'<div class="atlas">{"".join(sections)}</div>', chosen)


def mounted(key: str, drawing: str, chosen: Sequence[str]) -> str | None:
    """Show a drawing whose elements name types; the name of the one that was clicked just now."""
    result = _mount(key=key, data={"drawing": drawing, "chosen": list(chosen)}, on_chosen_change=lambda: None)
    name = getattr(result, "chosen", None)
    return name if name in entries() else None


def one(entry: AtlasType, key: str) -> dict[str, Any]:
    """Draw the picture of a type that has one, large; what it is of."""
    picture: dict[str, Any] = probes.found(entry.name)["picture"]
    drawing = f'<div class="one">{_canvas(picture, f"ΔW of {entry.title}: {facts(picture)}")}</div>'
    _mount(key=key, data={"drawing": drawing, "chosen": []})
    return picture
