"""One held-out row while the model learns: its answers at a few steps, each marked against the right one."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from peft_lab.core import palette
from peft_lab.core.units import Source, several
from peft_lab.drawing.trajectory.format import Example, RecordedAnswer, Trajectory, asked_states
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import RunView, Status
from peft_lab.training.marking import Marked, marked, marked_tags
from peft_lab.training.tasks import tags
from peft_lab.ui import web
from peft_lab.ui.components import figures

_COLOURS = palette.variables(
    soft=palette.SOFT, frame=palette.FRAME, trained=palette.TRAINED, right=palette.RIGHT, wrong=palette.WRONG
)  # fmt: skip
SAMPLE_CSS = f"<style>{web.read('sample.css', colours=_COLOURS, tint=palette.MARK_TINT)}</style>"
_ORDERS = ("json", "fields", "tags")  # tasks whose rows are orders


def sample(trajectory: Trajectory | None, spec: RunSpec, seen: RunView) -> None:
    """Draw the card, from a run's start on; nothing for a run without held-out rows, or one of images."""
    going = not seen.status.final
    if trajectory is None:
        if not going or seen.status is Status.QUEUED or spec.task_object().images:
            return
    elif trajectory.example is None:
        return
    st.markdown(
        f"#### The model's answers to one {_noun(spec.task)}, during training {figures.badge(Source.MEASURED)}"
    )
    example, answers = (trajectory.example, trajectory.answers) if trajectory else (None, ())
    card(example, answers, asked_states(spec.steps, spec.watched), seen.step, going)


def card(
    example: Example | None,
    answers: Sequence[RecordedAnswer],
    due: set[int],
    step: int,
    going: bool = False,
) -> None:
    """Draw the card's body, as :func:`sample_html`."""
    st.html(SAMPLE_CSS + sample_html(example, answers, due, step, going))


def recorded_sample(trajectory: Trajectory | None, task: str) -> None:
    """Draw the card of a recorded run on this task, while the learner has none: its first answer, one on the way and
    the last. Nothing without a recording."""
    if trajectory is None or trajectory.example is None or trajectory.spec["task"] != task:
        return
    st.markdown(f"#### A recorded run, on one {_noun(task)} {figures.badge(Source.MEASURED)}")
    card(trajectory.example, trajectory.answers, {10}, trajectory.spec["steps"])


def _noun(task: str) -> str:
    return "order" if task in _ORDERS else "row"


def sample_html(
    example: Example | None, answers: Sequence[RecordedAnswer], due: set[int], step: int, going: bool
) -> str:
    """Return the card's body. While the run goes on, its answers scroll in a room that keeps its height.

    Args:
        example: the row; ``None`` while the run is being prepared.
        answers: of the run; those between the steps at which it has to answer, ``due``, are left out.
        step: that the run has reached. going: whether it goes on.
    """
    shown = [one for one in answers if one.step in due or one in (answers[0], answers[-1])]
    boxes = "".join(_box(example, one, one is shown[-1], going) for one in shown) if example else ""
    to_come = [state for state in sorted(due) if state > max(step, answers[-1].step if answers else -1)]
    following = f"the model is asked again at step {to_come[0]}" if going and shown and to_come else ""
    if going:
        wait = f'<p class="wait">The first answer comes at step {min(due - {0})}.</p>'
        boxes = f'<div class="along" role="group" tabindex="0" aria-label="Answers"><div>{boxes or wait}</div></div>'
    order = example.text.removesuffix("\nJSON:").removesuffix(" Fields:") if example else ""
    quoted = f"“{html.escape(order)}”" if example else "Preparing the run…"
    return (
        f'<div class="sample"><p class="order">{quoted}</p>{boxes}'
        '<p class="key"><span class="right">right</span><span class="wrong">wrong</span>'
        f'<span class="next">{following}</span></p></div>'
    )


def _box(example: Example, answer: RecordedAnswer, newest: bool, going: bool) -> str:
    found = marked(answer.text, example.expected)
    if example.metric == tags.TASK.metric:
        found = marked_tags(example.text, answer.text, example.expected)
    when = f"Step {answer.step}{', now' if newest and going else ''}"
    verdict = f"{found.right} of {several(found.total, found.unit)} right"
    if answer.score >= 1 or found.total == 1:
        verdict = "right" if answer.score >= 1 else "wrong"
    return (
        f'<div class="answer{" now" if newest else ""}"><p class="head"><b>{when}</b>'
        f'<span>{verdict}</span></p><p class="text">{pieces_html(found)}</p></div>'
    )


def pieces_html(found: Marked) -> str:
    """Return an answer's pieces as HTML for ``sample.css``, and what it lacks if some of it is right."""
    spans = ""
    for piece in found.pieces:
        text, tag = html.escape(piece.text), f" <small>{html.escape(piece.tag)}</small>" if piece.tag else ""
        spans += text if piece.verdict == "neutral" else f'<span class="{piece.verdict}">{text}{tag}</span>'
    missing = "".join(f' <span class="missing">{html.escape(name)} missing</span>' for name in found.missing)
    return f"{spans or '(nothing)'}{missing if found.right else ''}"
