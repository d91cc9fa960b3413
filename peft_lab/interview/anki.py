"""Export the bank as an Anki deck, with genanki. Computed answers are rendered for each question's own model."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from peft_lab.core.errors import BadInput
from peft_lab.interview.computed import Answer
from peft_lab.interview.question import FollowUp, Question, topics

if TYPE_CHECKING:
    import genanki  # type: ignore[import-untyped]

# Never change: Anki identifies decks and note types by these numbers, so a later export updates the same cards.
DECK_ID = 1_736_204_881
NOTE_TYPE_ID = 1_736_204_882
_STYLE = """.card { font-family: sans-serif; font-size: 18px; text-align: left; max-width: 40em; margin: 1em auto; }
h4 { margin-bottom: 0; }"""


def write_deck(
    path: Path,
    questions: Iterable[Question],
    answers: dict[str, Answer] | None = None,
    model: str | None = None,
) -> int:
    """Write an ``.apkg`` file.

    Args:
        questions: the questions to export, one card each, tagged by topic and level.
        answers: computed answers by question id, for those that need torch; others are computed here.
        model: ask about this model wherever a question accepts it.

    Returns:
        the number of cards. A question whose answer needs torch and is not given is left out.

    Raises:
        BadInput: genanki is not installed, there is no question to export, or the file cannot be written.
    """
    try:
        import genanki
    except ImportError as error:
        raise BadInput("Anki decks need the package genanki: pip install genanki.") from error
    deck = genanki.Deck(
        DECK_ID, "PEFT Lab", "Parameter-efficient fine-tuning: interview questions with computed answers."
    )
    note_type = _note_type()
    for question in questions:
        own = model if model and question.accepts(model) else None
        answer = (answers or {}).get(question.id)
        if answer is None and question.needs == "torch":
            continue
        answer = answer or question.compute(own)
        fields = [front(question, own), back(question, answer, own)]
        tags = [question.topic, question.level]
        deck.add_note(
            genanki.Note(note_type, fields, guid=genanki.guid_for("peft-lab", question.id), tags=tags)
        )
    if not deck.notes:
        raise BadInput("There is no question to export.")
    try:
        genanki.Package(deck).write_to_file(str(path))
    except OSError as error:
        raise BadInput(f"The deck cannot be written to {path}: {error.strerror}.", "file") from error
    return len(deck.notes)


def front(question: Question, model: str | None = None) -> str:
    """Return the question as HTML, with its options below."""
    parts = [f"<p>{to_html(question.ask(model))}</p>"]
    options = question.choices(model)
    if options:
        parts.append("<ol type='a'>" + "".join(f"<li>{to_html(option)}</li>" for option in options) + "</ol>")
    parts.append(
        f"<p><small>{html.escape(topics().get(question.topic, question.topic))}, {question.level}</small></p>"
    )
    return "".join(parts)


def back(question: Question, answer: Answer | None, model: str | None = None) -> str:
    """Return the answer as HTML: text, working, and what an interviewer listens for."""
    parts = [f"<p>{to_html(question.explain(answer, model))}</p>"]
    if answer:
        parts.append("".join(f"<p>{to_html(step)}</p>" for step in answer.working))
    for title, lines in (
        ("Listen for", question.listen_for),
        ("Often wrong", question.wrong),
        ("Follow-up", [_follow_up(question, each, model) for each in question.follow_ups]),
        ("Wrong options", question.thoughts(answer, model) if question.explained else ()),
        ("Defend it", _defence(question, model)),
        ("Sources", question.sources),
    ):
        if not lines:
            continue
        parts.append(
            f"<h4>{title}</h4><ul>" + "".join(f"<li>{to_html(entry)}</li>" for entry in lines) + "</ul>"
        )
    return "".join(parts)


def _follow_up(question: Question, follow_up: FollowUp, model: str | None) -> str:
    """Return the follow-up with its answer; if it leads to another question, the answer is on that one's card."""
    asked, answer = question.explain_follow_up(follow_up, model)
    return f"{asked} {answer}" if answer else asked


def _defence(question: Question, model: str | None) -> tuple[str, ...]:
    """Return the doubt about the answer, and the right reaction to it."""
    if question.doubt is None:
        return ()
    said, objection, because = question.explain_doubt(question.doubt, model)
    reaction = "Hold to it." if question.doubt.holds else "Give way."
    return (f"You have said: {said}", objection, f"{reaction} {because}")


def to_html(text: str) -> str:
    r"""Return text with ``$formulas$`` and backticked code as HTML with MathJax's ``\( \)``, which Anki renders."""
    pieces = re.split(r"(\$[^$]+\$|`[^`]+`)", text)
    done = []
    for piece in pieces:
        if piece.startswith("$") and len(piece) > 1:
            done.append(rf"\({html.escape(piece[1:-1], quote=False)}\)")
        elif piece.startswith("`") and len(piece) > 1:
            done.append(f"<code>{html.escape(piece[1:-1])}</code>")
        else:
            done.append(html.escape(piece))
    return "".join(done)


def _note_type() -> genanki.Model:
    import genanki

    template = {"name": "Card", "qfmt": "{{Question}}", "afmt": "{{FrontSide}}<hr id=answer>{{Answer}}"}
    fields = [{"name": "Question"}, {"name": "Answer"}]
    return genanki.Model(NOTE_TYPE_ID, "PEFT Lab question", fields=fields, templates=[template], css=_STYLE)
