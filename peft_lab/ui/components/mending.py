"""Flaws of Streamlit's own, on every page, mended in the browser: two of its side bar, one of what opens over a page,
one of the browser's Back.

With sections the navigation puts blocks between its list and the entries, so that neither is a list any more: each
section is made a list of its own, named by its heading. On a phone the side bar lies over the page, and stayed there
for seconds after a page was chosen in it: it is closed at once. What opens over a page stands beside the app in the
document, and only the app says which theme holds: in the dark one its labels had the light one's ink. Each address that
a page was given became a step of Back, which brings no knob back: who had moved five went back five times before they
left the page. It replaces the one before, but where it leads to another stop of a path, as going back to that does.
"""

from __future__ import annotations

import streamlit as st

_JS = """
const stop = (address) => new URLSearchParams(address.search).get("stop");
const step = (to) => to.pathname !== location.pathname || stop(to) !== stop(location);
if (!history.pushState.mended) {
  const push = history.pushState.bind(history);
  history.pushState = (kept, title, to) =>
    step(new URL(to ?? "", location)) ? push(kept, title, to) : history.replaceState(kept, title, to);
  history.pushState.mended = true;
}
export default function () {
  const mend = () => {
    const all = document.querySelector('[data-testid="stSidebarNavItems"]');
    if (all === null) return;
    for (const section of all.querySelectorAll(":scope > div:not([role])")) {
      const heading = section.querySelector("header");
      if (heading === null) continue;
      all.setAttribute("role", "presentation");
      section.setAttribute("role", "list");
      section.setAttribute("aria-label", heading.innerText.split("\\n")[0]);
      heading.setAttribute("role", "presentation");
    }
  };
  const close = (event) => {
    if (innerWidth > 768 || !event.target.closest?.('[data-testid="stSidebarNavLink"]')) return;
    setTimeout(() => document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click());
  };
  const app = document.querySelector(".stApp");
  const shade = () => { document.body.style.colorScheme = getComputedStyle(app).colorScheme; };
  const themes = new MutationObserver(shade);
  if (app !== null) {
    shade();
    themes.observe(app, { attributes: true, attributeFilter: ["class"] });
  }
  mend();
  document.addEventListener("click", close);
  const watcher = new MutationObserver(mend);
  watcher.observe(document.body, { childList: true, subtree: true });
  return () => {
    watcher.disconnect();
    themes.disconnect();
    document.removeEventListener("click", close);
  };
}
"""

_mount = st.components.v2.component("peft_mending", html="<span></span>", js=_JS)


def mend() -> None:
    """Called once per run, before the page is drawn: a page that fails is mended as well."""
    with st.sidebar:
        _mount(key="mending", height=0)
