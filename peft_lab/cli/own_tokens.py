"""``train --preview``: the rows of a learner's file as tokens, and which of them are learned."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from peft_lab.cli import output
from peft_lab.errors import BadInput
from peft_lab.runs import preview
from peft_lab.runs.preview import Preview, Shown
from peft_lab.runs.preview_words import heading, headline, notes, visible
from peft_lab.runs.spec import RunSpec

_LEARNED = ("«", "»")  # around what is learned, as colours are lost in a pipe
_KEY = f"Learned tokens stand in {_LEARNED[0]} {_LEARNED[1]}, tokens are parted by |."


def show(spec: RunSpec, as_json: bool) -> None:
    """Print what a training of this spec would read and learn.

    Raises:
        BadInput: no file of the learner's, one with labels, images, or rows that cannot be trained on.
    """
    if spec.own_data is None:
        raise BadInput(
            "--preview shows the tokens of your own data: give the file with --own FILE.", "preview"
        )
    if spec.task_object().images:
        raise BadInput("--preview shows tokens, and images have none: leave it out.", "preview")
    found = preview.ask(spec.model, spec.own_data, spec.max_length).result()
    if isinstance(found, str):
        raise BadInput(found, "own_data")
    output.show(found, as_json, human=lambda: lines(found))


def lines(found: Preview) -> list[Any]:
    """The preview for a person."""
    parts: list[Any] = [headline(found), *notes(found), _KEY]
    for row in found.sample:
        parts += ["", heading(row), _tokens(row)]
    return parts


def _tokens(row: Shown) -> Text:
    text = Text()
    before = False
    for number, token in enumerate(row.tokens):
        if token.trained != before:
            text.append(_LEARNED[before])
        elif number:
            text.append("|", "dim")
        before = token.trained
        text.append(visible(token), "bold dark_orange" if token.trained else "bold" if token.mark else "dim")
    text.append(_LEARNED[1] if before else "")
    return text
