"""Export: the settings' code, files that repeat a run, the adapter itself, and interview questions."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from peft_lab import takeaway
from peft_lab.core.errors import PeftLabError
from peft_lab.runs import store
from peft_lab.runs.store import Run
from peft_lab.ui import pages, theme
from peft_lab.ui.components.frame import error_line, errors_boxed
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.method.idea import interview_questions
from peft_lab.ui.method.scratch import FILES, from_scratch
from peft_lab.ui.method.settings import example_task
from peft_lab.ui.runs.shown import finished_of, pick_run

LINES = 40  # of code that stand on the page at once
HEIGHT = 480  # pixels that longer code gets


def take_away(choice: Choice, selected: str | None) -> None:
    left, right = st.columns([17, 11], gap="small")  # the longest line of code fits at 1280
    with left:
        st.markdown("#### These settings as code")
        if choice.valid:
            _settings(choice)
        else:
            st.info("One of the settings does not work; the message below it says why.")
    with right:
        st.markdown("#### Files of a finished run")
        runs = finished_of(choice.spec.slug)
        ran = pick_run(choice.spec.slug, runs, choice.entry.name) if runs else ""
        if ran:
            _downloads(ran)
        else:
            st.info(
                "Train once on the Train tab. Then you can download the run's script, notebook, adapter and page here."
            )
    if choice.valid and choice.spec.slug in FILES:
        st.divider()
        from_scratch(choice, selected)
    st.divider()
    interview_questions(choice)
    pages.link("ship", "Ship it: where the adapter runs", query={"run": ran} if ran else None)


def _settings(choice: Choice) -> None:
    """Draw the code. If long definitions follow the essential part, it scrolls. The container scrolls, not the code
    block: it holds the copy button, so that a keyboard reaches it."""
    with errors_boxed():
        code = takeaway.config_code(choice.spec, choice.entry, choice.values, example_task(choice))
        lines = code.count("\n")
        long = lines > LINES
        room = None if long else f"lines-{min(lines + 1, theme.MOST_LINES)}-settings"
        with st.container(height=HEIGHT if long else "content", border=long, key=room):
            st.code(code, language=None, wrap_lines=True)
        if long:
            st.caption(f"{lines} lines: scroll for the definitions, or copy them all.")


# Label, what makes it, ending, type, what it is. Each is made when it is offered, so that what cannot be exported says
# why in its place instead of failing on the click.
_ZIP = ("zip", "application/zip")
_FILES: tuple[tuple[str, Callable[[Run], str | bytes], str, str, str], ...] = (
    ("Script", takeaway.script, "py", "text/x-python", "Repeats the run with the plain libraries."),
    ("Notebook", takeaway.notebook, "ipynb", "application/x-ipynb+json", "Repeats the run, cell by cell."),
    ("Adapter", takeaway.adapter_zip, *_ZIP, "The adapter folder (safetensors) with its model card."),
    ("Page", takeaway.living_html, "html", "text/html",
     "The drawing with this run's steps: one file that plays without a server."),
)  # fmt: skip
_LIBRARY = (
    "For the adapters library", takeaway.library_zip, *_ZIP,
    "The same adapter, as a folder that this library reads with `model.load_adapter(folder)`.",
)  # fmt: skip


def _downloads(identity: str) -> None:
    run = store.get(identity)
    files = (*_FILES, _LIBRARY) if run.spec.method == "adapters" else _FILES
    for label, make, ending, mime, text in files:
        button, message = st.columns(2, vertical_alignment="center")
        try:
            data = make(run)
        except PeftLabError as error:
            error_line(f"{label}: {error}", message)
            continue
        button.download_button(
            label,
            data,
            file_name=f"{identity}{'-for-adapters' * (label == _LIBRARY[0])}.{ending}",
            mime=mime,
            width="stretch",
            icon=":material/download:",
            on_click="ignore",
        )
        message.markdown(text)
