"""The result of a mock interview: strengths, five things to study next, and a transcript as one HTML file."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from peft_lab.core import palette
from peft_lab.interview.anki import to_html
from peft_lab.interview.bank import get_question
from peft_lab.interview.computed import wilson
from peft_lab.interview.mock import WEAK, Interview, Reply, Report, Tally, report
from peft_lab.interview.question import topics

MOST = 5  # things to study next
SEVERAL = 2  # questions of a topic; with fewer it is not called a strength
NO_STRENGTH = "No topic yet with 70% of the points of two questions or more."
_FULL = 0.999  # of a point, with room for rounding: ticked shares are fractions
_STYLE = f"""
:root {{ color-scheme: light; }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: {palette.INK.light}; background: {palette.WHITE};
  max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.2rem; margin-top: 2rem; }}
h3 {{ font-size: 1rem; margin-bottom: .2rem; }}
section {{ border-top: 1px solid {palette.FRAME.light}; padding-top: .5rem; margin-top: 1.2rem; }}
blockquote {{ margin: .4rem 0; padding: .2rem .8rem; border-left: 4px solid {palette.SOFT.light}; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
code {{ font-size: .9em; background: {palette.PANEL.light}; padding: 0 .2em; }}
small {{ color: {palette.SOFT.light}; }}
@page {{ margin: 18mm; }}
@media print {{ body {{ margin: 0; max-width: none; font-size: 11pt; }} section {{ break-inside: avoid; }} }}
"""


@dataclass(frozen=True)
class Next:
    """One thing to study: the question it came up in, and what was missing there."""

    question: str
    topic: str
    points: float
    why: tuple[str, ...]


def strengths(interview: Interview) -> tuple[str, ...]:
    """Return topics with at least 70% of the points of two questions or more, in teaching order."""
    held = report(interview).topics
    return tuple(
        topic
        for topic in topics()
        if topic in held and held[topic].questions >= SEVERAL and held[topic].share >= WEAK
    )


def look_next(interview: Interview) -> tuple[Next, ...]:
    """Return up to five questions that lost points, fewest points first, then in the order asked."""
    given = {reply.question: reply for reply in interview.replies}
    lost = [name for name in interview.plan.questions if _points(given.get(name)) < _FULL]
    lost.sort(key=lambda name: _points(given.get(name)))
    return tuple(
        Next(name, get_question(name).topic, _points(given.get(name)), _why(name, given.get(name)))
        for name in lost[:MOST]
    )


def between(tally: Tally) -> str:
    """Return the confidence interval of a tally, in words."""
    low, high = wilson(tally.points, tally.questions)
    return f"95% interval {low:.0%} to {high:.0%}"


def in_words(topic: str, summed: Report) -> str:
    """Return a topic with its points and their interval."""
    tally = summed.topics[topic]
    return f"{topics()[topic]} ({tally.points:.2g} of {tally.questions}, {between(tally)})"


def _points(reply: Reply | None) -> float:
    return reply.points if reply else 0.0


def _why(name: str, reply: Reply | None) -> tuple[str, ...]:
    """Return what was forgotten; for a rated free answer the points not ticked; else all points to listen for."""
    if reply and reply.forgot:
        return (f"You forgot {reply.forgot}.",)
    question = get_question(name)
    if reply and reply.ticked is not None:
        return tuple(point for point in question.listen_for if point not in reply.ticked)
    return question.listen_for


def transcript(interview: Interview) -> str:
    """Return the interview as one self-contained HTML page, with styles for printing."""
    summed = report(interview)
    good = ", ".join(in_words(topic, summed) for topic in strengths(interview)) or NO_STRENGTH
    parts = [
        f"<h1>Mock interview, {interview.started:%d %B %Y}</h1>",
        f"<p>{summed.total.points:.3g} of {summed.total.questions} points ({between(summed.total)}). "
        "Numbers and choices are marked by PEFT Lab; "
        "the points of a free answer were ticked by whoever gave it.</p>",
        f"<h2>Strengths</h2><p>{html.escape(good)}</p>",
        "<h2>To look at next</h2>",
    ]
    ahead = look_next(interview)
    parts += [
        "<ol>"
        + "".join(
            f"<li><b>{html.escape(topics()[each.topic])}</b>: {_text(_asked(interview, each.question))}"
            f"<ul>{''.join(f'<li>{_text(why)}</li>' for why in each.why)}</ul></li>"
            for each in ahead
        )
        + "</ol>"
        if ahead
        else "<p>Every question had all of its points.</p>"
    ]
    parts.append("<h2>Transcript</h2>")
    given = {reply.question: reply for reply in interview.replies}
    for number, name in enumerate(interview.plan.questions, start=1):
        parts.append(_section(interview, number, name, given.get(name)))
    title = f"Mock interview, {interview.started:%Y-%m-%d}"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    body = "".join(parts)
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>\n'


def _asked(interview: Interview, name: str) -> str:
    return get_question(name).ask(interview.plan.model_for(name))


def _section(interview: Interview, number: int, name: str, reply: Reply | None) -> str:
    question, model = get_question(name), interview.plan.model_for(name)
    said = reply.text if reply else ""
    if question.kind == "choice" and said:
        said = question.choices(model)[int(said) - 1]
    time = f", {reply.seconds:.0f} s" if reply else ""
    return (
        f"<section><h3>{number}. {html.escape(topics()[question.topic])}, {question.level}</h3>"
        f"<p>{_text(question.ask(model))}</p>"
        f"<blockquote>{html.escape(said) or 'No answer'}</blockquote>"
        f"<p><small>{_points(reply):.2g} of 1 point{time}</small></p>"
        f"<p><b>Model answer.</b> {_text(question.explain(question.compute(model), model))}</p></section>"
    )


def _text(text: str) -> str:
    r"""Return text as HTML with formulas as code: a library to draw them would have to be fetched."""
    return re.sub(r"\\\((.*?)\\\)", r"<code>\1</code>", to_html(text))
