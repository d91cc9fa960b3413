"""One recorded run on one order, whose step the learner moves in the browser, and the base's answer to their own order.

The browser draws every step from the record alone. The server is asked for what it cannot know of an order that was
typed: its tokens, 60 ms after a key, and what the untrained model answers, 400 ms after the last one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from typing import Any

import streamlit as st

from peft_lab.core import palette
from peft_lab.core.errors import PeftLabError
from peft_lab.core.inspector import Worker, get_inspector
from peft_lab.drawing.trajectory.sentence import SentenceRun
from peft_lab.models.catalogue import get_model
from peft_lab.models.loading import split_text
from peft_lab.runs import respond
from peft_lab.training.marking import marked
from peft_lab.training.tasks.orders import FIELDS, first_object, prompt
from peft_lab.ui import state, web
from peft_lab.ui.components.block import record
from peft_lab.ui.components.waiting import look

#: Characters of an order.
LONGEST = 200
_COLOURS = palette.variables(
    ink=palette.INK, soft=palette.SOFT, page=palette.PAGE, panel=palette.PANEL, card=palette.PAGE, frame=palette.FRAME,
    line=palette.LINE, edge=palette.EDGE, frozen=palette.FROZEN, trained=palette.TRAINED, accent=palette.ACCENT,
    forward=palette.FORWARD, right=palette.RIGHT, wrong=palette.WRONG, counted=palette.COUNTED,
    simulated=palette.SIMULATED,
)  # fmt: skip
_LETTERS = {"right": "r", "wrong": "w", "neutral": "n"}


def mounted(name: str) -> Any:
    """Return the component of that name, a view of recorded runs: its own files, and what such views share."""
    return st.components.v2.component(
        f"peft_{name}",
        html=web.read(f"{name}.html"),
        css=web.read("recorded.css", COLOURS=_COLOURS, MARK_TINT=palette.MARK_TINT) + web.read(f"{name}.css"),
        js=web.read("recorded.js") + web.read(f"{name}.js"),
    )


_mount = mounted("sentence")


def sentence(run: SentenceRun, scope: str, editable: str = "") -> None:
    """Show the run; a part of its page, so that typing redraws nothing else. ``scope``: where the learner's order is
    remembered (:func:`order_of`). ``editable``: why no other order can be typed; empty if it can."""
    key = f"{scope}-sentence"

    def typed() -> None:
        told = (st.session_state.get(key) or {}).get("order")
        if isinstance(told, Mapping) and isinstance(text := told.get("order"), str):
            text = text[:LONGEST]
            state.remember(scope, "order", None if text.strip() in ("", run.sentence) else text)
            state.remember(scope, "asked", text if told.get("answer") else None)

    order = order_of(run, scope)
    own = None if order == run.sentence else _own(run, order, order == state.remembered(scope, "asked", ""))
    whole = sent(run)
    with st.container(gap=None):
        record(whole, f"{key}-record")
        _mount(
            key=key,
            data=[
                {"record": whole["id"], "order": order, "own": own, "editable": not editable, "why": editable}
            ],
            on_order_change=typed,
            on_look_change=lambda: None,
        )


def order_of(run: SentenceRun, scope: str) -> str:
    """Return the learner's order, or the recorded one."""
    return str(state.remembered(scope, "order", run.sentence))


def _own(run: SentenceRun, order: str, asked: bool) -> dict[str, Any]:
    """Return what is known of the learner's order: tokens, and the base's answer or why there is none yet."""
    model, text = run.spec["model"], prompt(order)
    try:
        found: dict[str, Any] = {"order": order, "tokens": split_text(model, text)}
        if not asked:
            return found
        future = get_inspector(Worker.ANSWERS).submit(respond.base_answer, model, run.spec["task"], text)
    except PeftLabError as error:
        return {"order": order, "problem": str(error)}
    seen = look(future)
    if seen.error is not None:
        return found | {"problem": str(seen.error)}
    return found | ({"pending": True} if seen.answer is None else _described(seen.answer))


def _described(answer: str) -> dict[str, Any]:
    """Return the answer, and what can be said of it without knowing the right one."""
    made = first_object(answer)
    named = sum(name in made for name in FIELDS) if made is not None else 0
    cut = " …" if "{" in answer and not _closed(answer) else ""
    return {
        "answer": f"{answer}{cut}" or "(nothing)",
        "says": "no valid JSON" if made is None else f"{named} of {len(FIELDS)} fields named",
    }


def _closed(answer: str) -> bool:
    """Return whether an answer came to its end; else it was cut off, and might still have named a field."""
    return answer.rstrip().endswith("}")


def sent(run: SentenceRun) -> dict[str, Any]:
    """Return the run as plain data for ``web/sentence.js``: with marked answers, equal ones in one row."""
    where = ", ".join(str(run.machine[name]) for name in ("processor", "device") if run.machine.get(name))
    short = re.sub(r"\((R|TM)\)| (Processor|CPU)\b.*", "", where.partition(",")[0])  # it has one line
    title = get_model(run.spec["model"]).title
    day, made = run.recorded[:10], f"{len(run.loss)} steps of {run.spec['batch']} rows"
    return {
        "id": f"sentence-{run.recorded}",
        **{name: value for name, value in asdict(run).items() if name in _SENT},
        "order": run.sentence,
        "ending": run.order.removeprefix(run.sentence),
        "model": title,
        # the first token of the first field's name: what a model that never saw this format cannot know
        "place": 1,
        "rows": [
            {"steps": [answer.step for answer in same], **row(same[0].text, run.right)}
            for same in (list(group) for _, group in groupby(run.answers, lambda answer: answer.text))
        ],
        "answers": [{"step": answer.step, "likeliest": answer.likeliest} for answer in run.answers],
        "where": f"{day}, {short}",
        "about": f"Measured in a real run of {title}, {made}, recorded on {day}, {where}.",
    }


_SENT = ("order_tokens", "right_tokens", "words", "loss", "moved", "surprise", "first")


def row(answer: str, right: str) -> dict[str, Any]:
    """Return an answer as plain data for ``marks`` of ``web/recorded.js``, and how many of its fields are right."""
    found, closed = marked(answer, right), _closed(answer)
    pieces = [[piece.text, _LETTERS[piece.verdict]] for piece in found.pieces]
    if not answer.strip():
        pieces = [["(nothing)", "n"]]
    elif not closed:
        pieces.append([" …", "n"])
    return {
        "pieces": pieces,
        "missing": found.missing if closed else (),
        "right": found.right,
        "total": found.total,
    }
