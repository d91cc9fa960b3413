"""What a preview says in sentences, for the page and for the command line."""

from __future__ import annotations

from peft_lab.runs.preview import Preview, Shown, Token

_NAMED = 5  # lines that a sentence names
_LONGEST = 160  # characters of what a template adds


def headline(found: Preview) -> str:
    """How much of it is learned."""
    rows = "conversations" if found.chat else "rows"
    return (
        f"{found.trained:,} of the {found.tokens:,} tokens in {found.rows:,} {rows} are learned; the others are only "
        "read."
    )


def notes(found: Preview) -> list[str]:
    """What else there is to know, a sentence or two each."""
    said = [_length(found)]
    if found.chat:
        said += [_format(found), *_opening(found), _end(found), *_spelt(found)]
    return said


def heading(row: Shown) -> str:
    """What stands over a row that is shown, with its counts."""
    where = f"Line {row.line:,}" if row.line else "A row"
    part = "held out" if row.held_out else "to train on"
    cut = f", {row.cut:,} more cut off" if row.cut else ""
    return f"{where}, {part}: {row.trained:,} of {len(row.tokens):,} tokens learned{cut}"


def visible(token: Token) -> str:
    """The text of a token with its line breaks and tabs to be seen."""
    return token.text.replace("\n", "↵").replace("\t", "⇥")


def _length(found: Preview) -> str:
    if not found.cut:
        return f"The longest has {found.longest:,} tokens; from {found.max_length:,} on they would be cut."
    side = "end" if found.chat else "start of their prompts"
    return (
        f"{found.cut:,} are longer than {found.max_length:,} tokens, the longest {found.longest:,}, and lose the "
        f"{side}: {found.lost:,} tokens in all."
    )


def _format(found: Preview) -> str:
    cost = f"{found.around:,} tokens around each question and its answer"
    if found.own_template:
        return f"Written by the tokenizer's own chat template: {cost}."
    return (
        f"This tokenizer has no chat template, so the messages are written in role lines ('User: …', 'Assistant: …'): "
        f"{cost}. They are words rather than new marks, whose embeddings PEFT would leave untrained."
    )


def _opening(found: Preview) -> list[str]:
    if not found.opened:
        return []
    text = found.opening.replace("\n", "↵")
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return [
        f"The template puts {found.opening_tokens:,} tokens of its own before the {found.opened:,} that bring no "
        f"system message: {text}"
    ]


def _end(found: Preview) -> str:
    if found.end:
        return f"Each answer is learned with {found.end}, which ends it; a written answer stops there."
    return "No token ends an answer in this format, so the model does not learn where to stop."


def _spelt(found: Preview) -> list[str]:
    if not found.spelt:
        return []
    lines = ", ".join(f"{line:,}" for line in found.spelt[:_NAMED])
    more = f" and {len(found.spelt) - _NAMED:,} more" if len(found.spelt) > _NAMED else ""
    return [
        f"The words of line{'s' if len(found.spelt) > 1 else ''} {lines}{more} hold a mark of the tokenizer, which is "
        "read as the mark it is."
    ]
