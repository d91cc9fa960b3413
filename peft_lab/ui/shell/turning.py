"""Projector mode: on and back by keys, as a presenter's clicker sends them.

On a path they lead to its stops, elsewhere to the pages in the order of the navigation."""

from __future__ import annotations

import streamlit as st

from peft_lab.ui import pages

# Arrow keys belong to whatever has the focus and knows them; page keys scroll only what was written for scrolling.
JS = """
export default function ({ parentElement }) {
  const host = parentElement.querySelector(".turning");
  const KEYS = { ArrowRight: "next", PageDown: "next", ArrowLeft: "back", PageUp: "back" };
  const OWN = 'input, textarea, select, [contenteditable="true"], [role="slider"], [role="tab"], [role="radio"], ' +
    '[role="combobox"], [role="listbox"], [role="option"], [role="grid"], [role="dialog"]';
  const turn = (event) => {
    const to = KEYS[event.key];
    if (!to || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    if (event.composedPath().some((one) => one.matches?.(OWN))) return;
    const link = document.querySelector(`.st-key-turn-${to} a, .st-key-turn-page-${to} a`);
    if (!link) return;
    event.preventDefault();
    link.click();
  };
  host.ending?.();
  document.addEventListener("keydown", turn);
  host.ending = () => document.removeEventListener("keydown", turn);
  return host.ending;
}
"""
_mount = st.components.v2.component("peft_turning", html='<span class="turning" hidden></span>', js=JS)


def turning(page: str) -> None:
    """At the foot of a page in projector mode: links to the pages before and after it, and keys that follow them."""
    titles = list(pages.titles().items())
    at = next(index for index, (name, _) in enumerate(titles) if name == page)
    with st.container(horizontal=True, vertical_alignment="center", key="turn"):
        for way, other, icon in (("back", at - 1, "arrow_back"), ("next", at + 1, "arrow_forward")):
            if 0 <= other < len(titles):
                with st.container(key=f"turn-page-{way}", width="content"):
                    name, title = titles[other]
                    st.page_link(pages.page(name, title), label=title, icon=f":material/{icon}:")
        st.markdown(":small[Keys: → on, ← back; a presenter's clicker too.]", width="content")
    _mount(key="turning")
