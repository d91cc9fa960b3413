"""The tree as a Streamlit component: a click, or Enter on the place that the arrow keys led to, chooses a place."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab.ui.choose import picture

NARROW_BELOW = 760  # CSS pixels: under this the whole tree's text would be too small to read

CSS = f"""
.host {{ container-type: inline-size; width: 100%; font-family: var(--st-font); color: var(--st-text-color); }}
.tree svg {{ width: 100%; height: auto; display: block; }}
.narrow {{ display: none; }}
@container (max-width: {NARROW_BELOW}px) {{ .narrow {{ display: block; }} .tree {{ display: none; }} }}
.edge {{ fill: none; stroke: color-mix(in srgb, currentColor 28%, transparent); stroke-width: 1.2; }}
.edge.lit {{ stroke: var(--st-primary-color); stroke-width: 2.6; }}
svg .place {{ cursor: pointer; outline: none; }}
svg .place rect {{ fill: var(--st-background-color); stroke: color-mix(in srgb, currentColor 30%, transparent); }}
svg .place.leaf rect {{ fill: var(--st-secondary-background-color); }}
svg .place text {{ text-anchor: middle; font-size: 13.2px; fill: currentColor; }}
svg .place .answer {{ font-size: 12.2px; fill: color-mix(in srgb, currentColor 72%, transparent); }}
svg .place.leaf .says {{ font-weight: 650; }}
svg .place.lit rect {{ stroke: var(--st-primary-color); stroke-width: 2.2;
  fill: color-mix(in srgb, var(--st-primary-color) 10%, var(--st-background-color)); }}
svg .place.end.leaf rect {{ fill: var(--st-primary-color); }}
svg .place.end.leaf text {{ fill: var(--st-background-color); }}
svg .place:hover rect {{ stroke: currentColor; }}
svg .place:focus-visible rect {{ stroke: currentColor; stroke-width: 3; }}
@media (prefers-reduced-motion: no-preference) {{
  .edge.new {{ stroke-dasharray: 1; animation: draw 0.25s ease-out both; animation-delay: calc(var(--at) * 0.18s); }}
  .place.new rect {{ animation: arrive 0.2s both; animation-delay: calc(var(--at) * 0.18s + 0.2s); }} }}
@keyframes draw {{ from {{ stroke-dashoffset: 1; }} to {{ stroke-dashoffset: 0; }} }}
/* not the fill itself: between a plain colour and a mixed one Chromium passes through yellow */
@keyframes arrive {{ from {{ fill-opacity: 0; stroke-width: 1; }} }}
.path p {{ margin: 0.7rem 0 0.35rem; font-size: 0.95rem; }}
.path .found {{ display: inline-block; margin-top: 1rem; padding: 0.5rem 0.9rem; border-radius: 0.5rem;
  font-weight: 650; background: var(--st-primary-color); color: var(--st-background-color); }}
.path button {{ font: inherit; font-size: 0.92rem; color: inherit; margin: 0 0.4rem 0.4rem 0; padding: 0.4rem 0.8rem;
  border-radius: 0.5rem; cursor: pointer; background: var(--st-background-color);
  border: 1px solid color-mix(in srgb, currentColor 35%, transparent); }}
.path button.lit {{ border: 2px solid var(--st-primary-color);
  background: color-mix(in srgb, var(--st-primary-color) 10%, var(--st-background-color)); font-weight: 600; }}
.path button:focus-visible {{ outline: 3px solid currentColor; outline-offset: 1px; }}
"""

HTML = '<div class="host"><div class="tree"></div><div class="narrow"></div></div>'

# One place of the tree can be reached by Tab; from there the arrows lead on, as the pattern for trees has it. The
# pictures are replaced only when they changed, and the focus then goes to the place it was on.
JS = """
export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".host");
  const root = host.getRootNode();
  const find = (within, id) => within.querySelector(`[data-place="${id}"]`);

  const show = (spot, content) => {
    if (spot.drawn === content) return;
    const focused = spot.contains(root.activeElement) ? root.activeElement.dataset.place : null;
    const names = (one) => one.dataset.place ?? one.getAttribute("d");
    const before = new Set([...spot.querySelectorAll("svg .lit")].map(names));
    spot.innerHTML = content;
    spot.drawn = content;
    // What is lit now and was not is drawn from the root on: the path is seen to be walked.
    for (const kind of [".edge", ".place"]) {
      const fresh = [...spot.querySelectorAll(`svg ${kind}.lit`)].filter((one) => !before.has(names(one)));
      fresh.forEach((one, at) => {
        one.classList.add("new");
        one.setAttribute("pathLength", 1);
        one.style.setProperty("--at", at);
      });
    }
    if (focused) move(find(spot, focused));
  };
  const move = (place) => {
    if (!place) return;
    if (place.getAttribute("role") === "treeitem") {
      const inside = place.ownerSVGElement.querySelectorAll('[tabindex="0"]');
      for (const other of inside) other.setAttribute("tabindex", "-1");
      place.setAttribute("tabindex", "0");
    }
    place.focus({ preventScroll: true });
  };

  show(host.querySelector(".tree"), data.tree);
  show(host.querySelector(".narrow"), data.path);

  const choose = (place) => {
    if (place && data.offered) setTriggerValue("chosen", place.dataset.place);
  };
  host.onclick = (event) => {
    const place = event.target.closest("[data-place]");
    if (place?.getAttribute("role") === "treeitem") move(place);
    choose(place);
  };
  host.onkeydown = (event) => {
    const place = event.target.closest('[role="treeitem"]');
    if (!place) return;
    const all = [...place.ownerSVGElement.querySelectorAll('[role="treeitem"]')];
    const level = (each) => Number(each.getAttribute("aria-level"));
    const column = all.filter((each) => level(each) === level(place));
    const at = column.indexOf(place);
    const below = all.filter((each) => each.dataset.parent === place.dataset.place && level(each) === level(place) + 1);
    const steps = {
      ArrowRight: () => below.find((each) => each.classList.contains("lit")) ?? below[0],
      ArrowLeft: () => find(place.ownerSVGElement, place.dataset.parent || place.dataset.place),
      ArrowDown: () => column[at + 1],
      ArrowUp: () => column[at - 1],
      Home: () => all[0],
      End: () => all.findLast((each) => each.classList.contains("lit")),
    };
    if (event.key === "Enter" || event.key === " ") choose(place);
    else if (event.key in steps) move(steps[event.key]());
    else return;
    event.preventDefault();
  };
}
"""

_mount = st.components.v2.component("peft_tree", html=HTML, css=CSS, js=JS)


def walk(lit: Sequence[str], key: str = "tree") -> str | None:
    """Show the tree with the path lit.

    Returns:
        The id of the place that was just chosen, in the one script run that this choice caused; else ``None``.
    """
    result = _mount(
        key=key,
        data={"tree": picture.tree(lit), "path": picture.path(lit), "offered": True},
        on_chosen_change=lambda: None,
    )
    chosen: str | None = result.chosen
    return chosen
