"""The editor of an exercise, CodeMirror or a plain field, and the learner's text in it.

The text is stored with the learner after each pause in typing, and with each run. The server never writes into the
editor but when another exercise is opened, or the text was changed elsewhere (in the plain field).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from peft_lab.core import palette
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.write import judge
from peft_lab.interview.write.exercises import Exercise, exercises
from peft_lab.ui import state, web
from peft_lab.ui.components.frame import part
from peft_lab.ui.components.waiting import look
from peft_lab.ui.server.door import root
from peft_lab.ui.write.results import SCOPE, in_words, last_run, start

KEY = "write-editor"
#: Characters of a program: the editor takes no more.
LONGEST = 20_000
HEIGHT = 480  # pixels of the plain field
_SCRIPT = f"static/js/{web.CODEMIRROR.name}"
_COLOURS = palette.variables(
    ink=palette.INK, soft=palette.SOFT, page=palette.PAGE, panel=palette.PANEL, card=palette.PAGE, frame=palette.FRAME,
    edge=palette.EDGE, accent=palette.ACCENT, wrong=palette.WRONG, counted=palette.COUNTED, simulated=palette.SIMULATED,
)  # fmt: skip
_mount = st.components.v2.component(
    "peft_write",
    html=web.read("write.html"),
    css=web.read("write.css", COLOURS=_COLOURS),
    js=web.read("write.js", LONGEST=str(LONGEST)),
)


@dataclass(frozen=True)
class Desk:
    """Where a learner writes. Texts and runs of each ``slot`` (the page, an interview) are kept apart."""

    file: Learners
    learner: str
    slot: str = "write"

    def text(self, exercise: Exercise) -> str:
        """Return the learner's text, or the stub."""
        text = self.file.kept(self.learner, self._key(exercise))
        return text if isinstance(text, str) else exercise.stub

    def keep(self, exercise: Exercise, text: str) -> None:
        """Store the learner's text if it has changed."""
        if len(text) <= LONGEST and text != self.text(exercise):
            self.file.keep(self.learner, self._key(exercise), text)

    def clear(self, exercise: Exercise) -> None:
        """Forget the learner's text."""
        self.file.keep(self.learner, self._key(exercise), None)

    def _key(self, exercise: Exercise) -> str:
        return f"{self.slot}/{exercise.id}"


def editor(desk: Desk, exercise: Exercise, plain: bool = False) -> None:
    """Draw the editor of an exercise, in a part of its own: typing redraws nothing else. ``plain``: whether to draw a
    plain field."""
    off = bool(judge.refusal())

    def take(what: str) -> Callable[[], None]:
        def told() -> None:
            sent = (st.session_state.get(KEY) or {}).get(what)
            if not isinstance(sent, Mapping) or not isinstance(text := sent.get("text"), str):
                return
            about = exercises().get(str(sent.get("id")))
            if about is None:
                return
            desk.keep(about, text)
            state.remember(SCOPE, "count", sent.get("count"), desk.slot, about.id)
            if what == "run" and not off:
                start(desk.slot, about, text)

        return told

    def drawn() -> None:
        run = last_run(desk.slot, exercise)
        verdict = look(run.verdict).answer if run is not None else None
        busy = run is not None and verdict is None and not run.verdict.done()
        if plain or state.remembered(SCOPE, "no-script", False):
            _field(desk, exercise, busy or off)
            return
        data: dict[str, Any] = {
            "script": root() + _SCRIPT,
            "id": exercise.id,
            "version": f"{desk.learner}/{desk.slot}/{state.remembered(SCOPE, 'version', 0)}",
            "file": f"{exercise.id.replace('-', '_')}.py",
            "label": f"Your program: {exercise.title}",
            "text": desk.text(exercise),
            "stub": exercise.stub,
            "count": state.remembered(SCOPE, "count", 0, desk.slot, exercise.id),
            "run": run.number if run else 0,
            "ran": run.program if run else "",
            "line": verdict.line or 0 if verdict else 0,
            "said": in_words(verdict) if verdict else "",
            "busy": busy,
            "off": off,
            "where": f"Ctrl + Enter. {judge.protection()}",
        }
        result = _mount(
            key=KEY,
            data=data,
            height="stretch",
            on_text_change=take("text"),
            on_run_change=take("run"),
            on_failed_change=lambda: state.remember(SCOPE, "no-script", True),
        )
        if result.run or result.failed:
            st.rerun()

    part(drawn)


def _field(desk: Desk, exercise: Exercise, shut: bool) -> None:
    """Draw a plain field with the same buttons."""
    if state.remembered(SCOPE, "no-script", False):
        st.caption("This browser could not load the editor, so here is a plain field.")
    key = state.widget_key(SCOPE, "text", desk.slot, desk.learner, exercise.id)

    def store(text: str) -> None:
        desk.keep(exercise, text)
        state.remember(SCOPE, "version", int(state.remembered(SCOPE, "version", 0)) + 1)

    def reset() -> None:
        store(exercise.stub)
        state.renew(SCOPE)

    st.text_area(
        "Your program", value=desk.text(exercise), key=key, height=HEIGHT, max_chars=LONGEST,
        on_change=lambda: store(str(st.session_state[key])),
        help="Ctrl + Enter stores the text. Indent with four spaces; Tab leaves the field.",
    )  # fmt: skip
    with st.container(horizontal=True):
        if st.button("Run the tests", type="primary", icon=":material/play_arrow:", disabled=shut):
            start(desk.slot, exercise, desk.text(exercise))
            st.rerun()
        with st.popover("Reset", icon=":material/restart_alt:"):
            st.markdown("Replace your text with the stub?")
            st.button("Replace", on_click=reset, key="write-reset")
