"""Make an adapter's files for an engine in a worker process, and hand them out as one zip."""

from __future__ import annotations

import streamlit as st

from peft_lab.core import inspector
from peft_lab.models.shapes import ModelEntry
from peft_lab.takeaway.ship import convert
from peft_lab.takeaway.ship.adapter import Adapter
from peft_lab.ui import state
from peft_lab.ui.components import figures, waiting

#: Engines whose files are as small as the adapter; the merged model is made on the command line.
HERE = ("vllm", "sglang", "llama.cpp", "mlx")


def make_files(scope: str, engine: str, adapter: Adapter, base: ModelEntry | None) -> None:
    """Draw the button that makes the files, then their download; of an upload or a merged model, the command."""
    named = f" --base {base.name}" if base else ""
    if engine not in HERE or adapter.folder is None:
        if engine != "peft":
            st.caption("Make its files on the command line:")
            st.code(f"peft-lab ship ADAPTER{named} --to {engine} --out DIR", language=None, wrap_lines=True)
        return
    if st.button("Make the files", key=f"ship-make-{engine}", icon=":material/download:", type="tertiary"):
        state.remember(scope, "made", adapter.name, engine)
    if state.remembered(scope, "made", "", engine) == adapter.name:
        worker = inspector.get_inspector(inspector.Worker.ANSWERS)
        source, on = str(adapter.folder), base.name if base else ""
        asked = worker.submit(convert.packed, source, on, engine)
        doing = f"Writing {len(adapter.tensors):,} tensors, and reading each back…"
        waiting.shown(asked, lambda made: _drawn(engine, made), doing, where=engine)


def _drawn(engine: str, made: convert.Packed) -> None:
    difference = made.compared["max_difference"]
    st.markdown(
        f":small[{made.compared['tensors']:,.0f} tensors read back; largest difference {difference:.1g}] "
        f"{figures.badge('counted')}"
    )
    st.download_button(
        "Download", made.content, f"adapter-{engine}.zip", "application/zip", key=f"ship-zip-{engine}",
        icon=":material/download:", on_click="ignore",
    )  # fmt: skip
