"""Answers from another process that may take a while: the page is drawn without them and refreshes itself.

Every check costs the server some milliseconds: it reruns the script, if only one part of it. The more pages
wait, as when a class opens its first page, the less often each checks, or the checks would delay the answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from peft_lab.core.errors import PeftLabError, RunError
from peft_lab.core.inspector import Failed
from peft_lab.ui.components.frame import error_line, errors_here, part

LOOKS = (0.25, 0.4375, 0.875, 1.75)  # seconds between looks at an answer that is still to come
#: Looks a second of all pages together, if all had the interval that a page gets. An interval stays what it was when
#: its page began to wait, so thirty that come one after the other look 40 times a second, not 120.
MOST = 16
_lock = threading.Lock()
_waiting: dict[str, tuple[Future[Any], ...]] = {}  # by session


Answer = TypeVar("Answer")
Drawn = TypeVar("Drawn")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Look(Generic[Answer]):
    """A page's view of an answer: the answer, an error, or neither while it is ``open``."""

    answer: Answer | None = None
    error: PeftLabError | None = None
    open: Future[Answer] | None = None

    def why(self, doing: str) -> str:
        """Return the text to show in place of the answer: ``doing``, or the error's message."""
        return doing if self.error is None else str(self.error)


def look(asked: Future[Answer], patience: float = 0) -> Look[Answer]:
    """Return the state of an answer, after at most ``patience`` seconds. It is open while still pending, and also if
    newer questions pushed it out of its queue."""
    if patience:
        wait([asked], timeout=patience)
    if not asked.done() or asked.cancelled():
        return Look(open=asked)
    try:
        return Look(asked.result())
    except PeftLabError as error:
        return Look(error=error)


def shown(
    asked: Future[Answer] | Callable[[], Future[Answer]],
    draw: Callable[[Answer], Drawn],
    doing: str,
    *,
    patience: float = 0,
    where: str = "",
) -> Drawn | None:
    """Draw an answer and return the result of ``draw``; without one, draw the reason and return None.

    Until the answer arrives, the page shows ``doing`` and refreshes itself. An error, also from ``draw`` or
    from asking, is drawn in the same place, with a button to ask again if it may pass.

    Args:
        where: keeps the button keys of two answers with the same ``doing`` apart.
    """
    with errors_here():
        asked = asked if isinstance(asked, Future) else asked()
        seen = look(asked, patience)
        if seen.open is not None:
            st.markdown(doing)
            come_back(seen)
        elif seen.error is not None:
            error_line(seen.error)
            if isinstance(seen.error, RunError) and st.button(
                "Try again", key=f"again-{doing}-{where}", icon=":material/replay:", type="tertiary"
            ):
                if isinstance(asked, Failed):
                    asked.expire()
                st.rerun()
        else:
            return draw(asked.result())
    return None


@dataclass(frozen=True)
class Answers(Generic[Key, Answer]):
    """Several answers by key: those that arrived, the messages of errors, and the number still pending."""

    found: Mapping[Key, Answer]
    refused: Mapping[Key, str]
    waiting: int

    @property
    def asked(self) -> int:
        return len(self.found) + len(self.refused) + self.waiting


def collect(asked: Mapping[Key, Future[Answer]], patience: float = 0) -> Answers[Key, Answer]:
    """Sort answers, after ``patience`` seconds or once all arrived; refresh the page while some are open."""
    if patience:
        wait(asked.values(), timeout=patience)
    seen = {key: look(future) for key, future in asked.items()}
    with st.container():  # also when all have arrived: what follows keeps its place in the browser
        come_back(*seen.values())
    refused = {key: str(one.error) for key, one in seen.items() if one.error is not None}
    waiting = sum(one.open is not None for one in seen.values())
    found = {key: asked[key].result() for key, one in seen.items() if one.open is None and one.error is None}
    return Answers(found, refused, waiting)


def progress(answers: Answers[Any, Any], what: str) -> None:
    """Draw a bar while some of the answers are pending."""
    if answers.waiting:
        done = 1 - answers.waiting / answers.asked
        st.progress(done, text=f"Simulating: {answers.waiting} of {answers.asked} {what} to go")


def come_back(*looks: Look[Any]) -> None:
    """Redraw the page as soon as one of the open answers arrives, or has arrived since the page looked. Answers that
    the page has seen do not redraw it, or it would loop for ever."""
    undrawn = tuple(one.open for one in looks if one.open is not None)
    # What was pushed out is asked for again with the next answer; where none is to come, at once.
    open_ = tuple(future for future in undrawn if not future.cancelled()) or undrawn
    if not open_:
        return

    seen = False

    def watch() -> None:
        nonlocal seen
        # Not while the page itself is drawn: that would begin it again before a press has come to its button.
        if seen and any(future.done() for future in open_):
            st.rerun()
        seen = True

    context = get_script_run_ctx(suppress_warning=True)
    with _lock:
        for session in [name for name, asked in _waiting.items() if any(one.done() for one in asked)]:
            del _waiting[session]
        _waiting[context.session_id if context is not None else ""] = open_
        pages = len(_waiting)
    part(watch, every=every(pages))


def every(pages: int) -> float:
    """Return the seconds between a page's checks while ``pages`` pages wait."""
    return next((seconds for seconds in LOOKS if pages / seconds <= MOST), LOOKS[-1])
