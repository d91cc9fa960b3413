"""A run's record in the browser: sent once, as a part that shows nothing; the drawing beside it names it and finds it.

Streamlit sends a part that has changed whole, and one that has not by its hash alone. Within the drawing's part the
record went along whenever a knob was moved: 262 of 382 kB, on each learner's network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

#: The drawing reads the same name (``living/js/block.js``). The newest of a few are kept: a run that goes on has
#: another at each of its steps.
_JS = """
const KEPT = 8;
export default function ({ data: [run] }) {
  const records = (globalThis.peftRecords ??= new Map());
  records.delete(run.id);
  records.set(run.id, run);
  for (const old of [...records.keys()].slice(0, -KEPT)) records.delete(old);
  window.dispatchEvent(new CustomEvent("peft-record", { detail: run.id }));
}
"""

_mount = st.components.v2.component("peft_record", html="<span hidden></span>", js=_JS, isolate_styles=False)


def record(run: Mapping[str, Any], key: str) -> None:
    """Let the browser have a record (:func:`peft_lab.living.sent.sent`), for whoever asks for its ``id``."""
    # In a list Streamlit looks for no tables, for which it would import pandas.
    _mount(key=key, data=[run], height=0)
