"""Stacked bars that grow from what they showed to what they show now: what a setting moved is seen moving.

With ``prefers-reduced-motion`` they jump. The page's other charts are Plotly's; these are a few rows of HTML whose
elements stay when figures change, which is what lets them move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from peft_lab import palette, units
from peft_lab.ui import theme
from peft_lab.units import Source

FAR = 3  # times the longest bar, beyond which a limit is not drawn to scale
_COLOURS = palette.variables(
    measured=palette.MEASURED, counted=palette.COUNTED, simulated=palette.SIMULATED, cited=palette.CITED,
    mark=palette.TRAINED,
)  # fmt: skip
CSS = (
    f".rows {{ {_COLOURS} --tint: {palette.SOURCE_TINT}%; }}"
    """
.rows { font: 400 0.84rem/1.4 var(--st-font); color: var(--st-text-color); }
.row { margin: 0 0 0.5rem; }
.head { display: flex; flex-wrap: wrap; gap: 0 0.5em; align-items: baseline; }
.head .size { margin-left: auto; font-weight: 600; font-variant-numeric: tabular-nums; }
.badge { padding: 0 0.35em; border-radius: 0.35em; font-size: 0.9em;
  background: color-mix(in srgb, currentColor var(--tint), transparent); }
.badge.measured { color: var(--measured); } .badge.simulated { color: var(--simulated); }
.badge.counted { color: var(--counted); } .badge.cited { color: var(--cited); }
.track { position: relative; display: flex; height: 0.85rem; border-radius: 3px; overflow: hidden;
  background: var(--st-secondary-background-color); }
.track i { display: block; flex: none; width: 0; }
.track .limit { position: absolute; top: 0; bottom: 0; width: 0; border-left: 2px dashed var(--mark); }
.rows.close { display: grid; grid-template-columns: max-content minmax(0, 1fr) max-content; gap: 0.35rem 0.8rem; }
.rows.close .row { display: grid; grid-template-columns: subgrid; grid-column: 1 / -1; align-items: center; margin: 0; }
.rows.close .head { display: contents; }
.rows.close .track { height: 1.25rem; grid-area: 1 / 2; }
.rows.close .badge { display: none; }
.rows.close :is(.limit-words, .legend) { grid-column: 1 / -1; }
.limit-words { order: -1; font-size: 0.82rem; }
.limit-words i { display: inline-block; height: 0.8em; border-left: 2px dashed var(--mark); margin-right: 0.45em; }
.note { opacity: 0.8; }
.legend { display: flex; flex-wrap: wrap; gap: 0.15rem 0.8rem; font-size: 0.78rem; }
.legend i { display: inline-block; width: 0.7em; height: 0.7em; border-radius: 2px; margin-right: 0.35em; }
@media (prefers-reduced-motion: no-preference) {
  .track i { transition: width 0.45s ease-out; } .track .limit { transition: left 0.45s ease-out; } }
"""
)
HTML = '<div class="rows"></div>'
JS = """
export default function ({ data, parentElement }) {
  const host = parentElement.querySelector(".rows");
  const child = (parent, kind, tag = "div") => {
    const made = document.createElement(tag);
    made.className = kind;
    parent.append(made);
    return made;
  };
  const known = new Map([...host.querySelectorAll(".row")].map((row) => [row.dataset.label, row]));
  const { limit } = data;
  host.classList.toggle("close", data.close);
  const totals = data.rows.map((row) => row.parts.reduce((sum, part) => sum + part.size, 0));
  const largest = Math.max(1, limit?.drawn ? limit.size : 0, ...totals);
  const shown = data.rows.map((one) => {
    let row = known.get(one.label);
    if (!row) {
      row = child(host, "row");
      row.dataset.label = one.label;
      const head = child(row, "head");
      child(head, "label", "span").textContent = one.label;
      child(head, "size", "span");
      child(head, "badge", "span");
      child(row, "track").setAttribute("aria-hidden", "true");
      child(row, "note");
    }
    row.querySelector(".size").textContent = one.text;
    const badge = row.querySelector(".badge");
    badge.textContent = one.source;
    badge.className = `badge ${one.source}`;
    badge.hidden = !one.source;
    const note = row.querySelector(".note");
    note.textContent = one.note;
    note.hidden = !one.note;
    const track = row.querySelector(".track");
    const have = new Map([...track.querySelectorAll("i")].map((part) => [part.dataset.name, part]));
    for (const part of data.legend) {
      const bar = have.get(part.name) ?? child(track, "", "i");
      bar.dataset.name = part.name;
      bar.style.background = part.colour;
      const size = one.parts.find((its) => its.name === part.name);
      bar.title = size ? `${part.name}: ${size.text}` : "";
      const width = `${(100 * (size?.size ?? 0)) / largest}%`;
      if (have.has(part.name)) bar.style.width = width;
      else { bar.getBoundingClientRect(); bar.style.width = width; }
    }
    const line = track.querySelector(".limit") ?? child(track, "limit", "b");
    line.hidden = !limit?.drawn;
    line.style.left = limit?.drawn ? `calc(${(100 * limit.size) / largest}% - 2px)` : "";
    for (const [name, part] of have) if (!data.legend.some((its) => its.name === name)) part.remove();
    return row;
  });
  for (const row of known.values()) if (!shown.includes(row)) row.remove();
  const legend = host.querySelector(".legend") ?? child(host, "legend");
  legend.replaceChildren(...data.legend.map((part) => {
    const entry = document.createElement("span");
    child(entry, "", "i").style.background = part.colour;
    entry.append(part.name);
    return entry;
  }));
  const words = host.querySelector(".limit-words") ?? child(host, "limit-words");
  words.hidden = !limit;
  words.textContent = limit?.text ?? "";
  if (limit?.drawn) words.prepend(document.createElement("i"));
  host.replaceChildren(words, ...shown, legend);
}
"""

_mount = st.components.v2.component("peft_grown_bars", html=HTML, css=CSS, js=JS)


@dataclass(frozen=True)
class Bar:
    """One row.

    Attributes:
        parts: bytes by part of the memory; empty while there is no figure, which ``note`` then explains.
        source: where the figures come from.
    """

    label: str
    parts: Mapping[str, int]
    source: Source
    note: str = ""

    @property
    def total(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Limit:
    """A line across all rows: bytes, and what stands for it in the head."""

    size: int
    text: str


def grown_bars(bars: Sequence[Bar], key: str, limit: Limit | None = None, close: bool = False) -> None:
    """Draw the rows on one scale, with a legend of the parts that are in them.

    With ``close`` a row is its label, its bar and its size beside each other; the page says where all are from.
    """
    legend = [
        {"name": name, "colour": theme.MEMORY[name]}
        for name in theme.MEMORY
        if any(bar.parts.get(name) for bar in bars)
    ]
    rows = [
        {
            "label": bar.label,
            "parts": [
                {"name": name, "size": size, "text": units.size(size)} for name, size in bar.parts.items()
            ],
            "text": units.size(bar.total) if bar.parts else "–",
            "source": str(bar.source) if bar.parts else "",
            "note": bar.note,
        }
        for bar in bars
    ]
    line = None
    if limit is not None:
        # A limit far beyond the bars would shrink them to nothing: it is named only.
        drawn = limit.size <= FAR * max((bar.total for bar in bars), default=0)
        line = {"size": limit.size, "text": limit.text, "drawn": drawn}
    _mount(key=key, data={"rows": rows, "legend": legend, "limit": line, "close": close})
