"""Take away: the code of what was done, a script and a notebook that repeat a run, and the adapter itself."""

from __future__ import annotations

import streamlit as st

from peft_lab import export
from peft_lab.errors import PeftLabError
from peft_lab.runs import store
from peft_lab.ui.inside.lora import pick_run
from peft_lab.ui.knobs import Choice
from peft_lab.ui.runs import finished_of


def take_away(choice: Choice) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("#### These settings as code")
        if choice.valid:
            st.code(
                export.config_code(choice.spec, choice.entry, choice.values), language=None, wrap_lines=True
            )
        else:
            st.info("A setting cannot work as it is; the message stands at its control.")
    with right:
        st.markdown("#### A finished run to take along")
        runs = finished_of(choice.spec.slug)
        if not runs:
            st.info("Train once on the Train tab; script, notebook and adapter of that run are offered here.")
            return
        _downloads(pick_run(choice.spec.slug, runs))


def _downloads(identity: str) -> None:
    run = store.get(identity)
    files = (
        (
            "Script",
            lambda: export.script(run),
            f"{identity}.py",
            "text/x-python",
            "Repeats the run with the plain libraries.",
        ),
        (
            "Notebook",
            lambda: export.notebook(run),
            f"{identity}.ipynb",
            "application/x-ipynb+json",
            "The same, cell by cell.",
        ),
        (
            "Adapter",
            lambda: export.adapter_zip(run),
            f"{identity}.zip",
            "application/zip",
            "The PEFT folder (safetensors) with its model card.",
        ),
    )
    for label, make, name, mime, text in files:
        button, told = st.columns([2, 3], vertical_alignment="center")
        try:
            button.download_button(
                label,
                make,
                file_name=name,
                mime=mime,
                width="stretch",
                icon=":material/download:",
                on_click="ignore",
            )
            told.markdown(text)
        except PeftLabError as error:
            told.markdown(f":red[:material/error: {error}]")
