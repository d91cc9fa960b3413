"""Show a learner's file as the tokens that a model will read: which of them are trained on, and what is cut.

The tokens and their labels are those of the training (:func:`peft_lab.training.batches.encode` and
:func:`~peft_lab.training.batches.wanted`). Called through an inspector, as a tokenizer needs torch's libraries.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_lab.classroom import places
from peft_lab.core import inspector
from peft_lab.core.asking import in_person
from peft_lab.core.errors import BadInput
from peft_lab.models import loading
from peft_lab.models.catalogue import resolve
from peft_lab.training import batches
from peft_lab.training.batches import IGNORED, Encoded
from peft_lab.training.tasks import apart
from peft_lab.training.tasks.base import Row, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 3  # rows that are shown token by token
_UNCUT = 10**9  # tokens, more than any row has


@dataclass(frozen=True)
class Token:
    """One token that is shown, whether the loss covers it, and whether a template or tokenizer adds it (``mark``)."""

    text: str
    trained: bool
    mark: bool


@dataclass(frozen=True)
class PreviewRow:
    """A row that is shown. ``cut``: tokens left out for its length. ``held_out``: not trained on."""

    line: int
    held_out: bool
    tokens: tuple[Token, ...]
    cut: int

    @property
    def trained(self) -> int:
        return sum(token.trained for token in self.tokens)


@dataclass(frozen=True)
class Preview:
    """Token counts over all rows of a file, and some rows token by token.

    Attributes:
        rows: in the file, held-out ones included. tokens: read from them. trained: those of them with a loss.
        max_length: maximum tokens of a row. cut: number of longer rows. lost: tokens cut off them.
        longest: tokens of the longest row, uncut.
        tagging: whether a tag is learned at each word's first token.
        chat: whether the rows are conversations; the fields below apply only to those.
        own_template: whether the tokenizer has a chat template; else ``batches.ROLE_LINES`` are used.
        around: tokens that the format adds around an exchange of two messages, opening and closing them.
        opening: text that the template adds before a conversation without a system message, beyond what it
            adds before any message; may be empty. opening_tokens: its tokens. opened: rows that get it.
        end: the token that ends an answer; empty if the format has none.
    """

    rows: int
    tokens: int
    trained: int
    max_length: int
    cut: int
    lost: int
    longest: int
    sample: tuple[PreviewRow, ...]
    tagging: bool = False
    chat: bool = False
    own_template: bool = True
    around: int = 0
    opening: str = ""
    opening_tokens: int = 0
    opened: int = 0
    end: str = ""


def require(model: str, path: str, max_length: int) -> None:
    """Check that every row of a file is trained on. Raises BadInput with the first one that is not."""
    found = ask(model, path, max_length).result()
    if isinstance(found, str):
        raise BadInput(found, "own_data")


def ask(model: str, path: str, max_length: int) -> Future[Preview | str]:
    """Start :func:`look` in the inspector process. Raises BadInput: in a class, another's file."""
    places.require_mine(path)
    return inspector.get_inspector(inspector.Worker.ANSWERS).submit(look, model, path, max_length)


@in_person
def look(model: str, path: str, max_length: int) -> Preview | str:
    """Return the preview of a file for a model, or why its rows cannot be trained on: returned, so that the worker
    caches it. Imports torch."""
    places.require_mine(path)
    task = apart.load_file(path)
    tokenizer = loading.load_tokenizer(loading.weights_of(model))
    try:
        return preview(task, tokenizer, max_length, loading.decoder_start(resolve(model)))
    except BadInput as refusal:
        return str(refusal)


def preview(
    task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int, start: int | None = None
) -> Preview:
    """Return what a training on the task reads and learns. ``start``: as in :func:`~peft_lab.training.batches.encode`.
    Raises BadInput (rows that cannot be trained on, or whose label is one of the whole row)."""
    if not task.writes and not task.per_token:
        raise BadInput(
            "There is nothing to preview: the model learns labels, not tokens, from labelled rows.",
            "task",
        )
    splits = task.load()
    rows = [*splits.train, *splits.test]
    encoded = batches.encode(task, rows, tokenizer, max_length, start)
    full = [at for at, each in enumerate(encoded) if len(each) == max_length]
    again = batches.encode(task, [rows[at] for at in full], tokenizer, _UNCUT, start) if full else []
    beyond = [0] * len(rows)
    for at, whole in zip(full, again, strict=True):
        beyond[at] = len(whole) - max_length
    chosen = [*range(min(SHOWN - 1, len(splits.train))), len(splits.train)]
    marks = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return Preview(
        rows=len(rows),
        tokens=sum(map(len, encoded)),
        trained=sum(sum(mask_of(each)) for each in encoded),
        max_length=max_length,
        cut=sum(each > 0 for each in beyond),
        lost=sum(beyond),
        longest=max(len(each) + more for each, more in zip(encoded, beyond, strict=True)),
        tagging=task.per_token,
        sample=tuple(
            PreviewRow(
                rows[at].line, at >= len(splits.train), _tokens(tokenizer, encoded[at], marks), beyond[at]
            )
            for at in chosen
        ),
        **(_of_chats(tokenizer, rows) if task.kind == "chat" else {}),
    )


def mask_of(row: Encoded) -> list[bool]:
    """Return, for each token of a row, whether the loss covers it."""
    if row.tags:
        return [tag != IGNORED for tag in row.tags]
    return [False] * row.prompt + [token != IGNORED for token in batches.wanted(row)]


def _tokens(tokenizer: PreTrainedTokenizerBase, row: Encoded, marks: set[int]) -> tuple[Token, ...]:
    pairs = zip(row.ids, mask_of(row), strict=True)
    return tuple(
        Token(str(tokenizer.decode([number])), trained, number in marks) for number, trained in pairs
    )


def _of_chats(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> dict[str, Any]:
    opening = _opening(tokenizer)
    once = (("user", "a"), ("assistant", "b"))
    lengths = [len(batches.read_chat(tokenizer, once * times)[0]) for times in (1, 2)]
    around = (
        lengths[1] - lengths[0] - 2
    )  # of a second exchange, besides question and answer of one token each
    end = batches.end_of_answer(tokenizer)
    return {
        "chat": True,
        "own_template": bool(tokenizer.chat_template),
        "around": around,
        "opening": opening,
        "opening_tokens": len(tokenizer(opening, add_special_tokens=False)["input_ids"]) if opening else 0,
        "opened": sum(row.turns[0][0] != "system" for row in rows) if opening else 0,
        "end": "" if end is None else str(tokenizer.decode([end])),
    }


def _opening(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what the template adds before the first message only, except a beginning-of-sequence token."""
    exchange = (("user", "\x01"), ("assistant", "\x02"))
    try:
        whole, once = (batches.write_chat(tokenizer, exchange * times) for times in (2, 1))
    except ValueError:
        return ""
    first, later = whole.partition("\x01")[0], whole[len(once) :].partition("\x01")[0]
    if not whole.startswith(once) or not first.endswith(later):
        return ""
    opening = first[: len(first) - len(later)]
    return "" if opening.strip() in ("", tokenizer.bos_token) else opening


# ----------------------------------------
# A preview in sentences, for the page and the command line.


_LONGEST = 160  # most characters shown of what a template adds


def headline(found: Preview) -> str:
    """Return how many tokens are learned, or tagged (the first of each word), in one sentence."""
    rows, learns = "conversations" if found.chat else "rows", "tags" if found.tagging else "learns"
    return (
        f"The model {learns} {found.trained:,} of the {found.tokens:,} tokens in {found.rows:,} {rows} and only reads "
        "the others."
    )


def notes(found: Preview) -> list[str]:
    """Return further remarks on a preview, one or two sentences each."""
    if not found.cut:
        said = [f"The longest row has {found.longest:,} tokens; the limit is {found.max_length:,}."]
    else:
        side = "end" if found.chat or found.tagging else "start of their prompts"
        said = [
            f"{found.cut:,} rows exceed the limit of {found.max_length:,} tokens (the longest has {found.longest:,}) "
            f"and lose the {side}: {found.lost:,} tokens in all."
        ]
    if not found.chat:
        return said
    cost = f"adds {found.around:,} tokens around each question and its answer"
    if found.own_template:
        said.append(f"The tokenizer's chat template marks the messages and {cost}.")
    else:
        said.append(
            "This tokenizer has no chat template, so role lines ('User: …', 'Assistant: …') mark the messages. This "
            f"{cost}. Role lines are ordinary words, because PEFT would not train the embeddings of new tokens."
        )
    if found.opened:
        text = found.opening.replace("\n", "↵")
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
        said.append(
            f"The template adds {found.opening_tokens:,} tokens to the {found.opened:,} conversations without a "
            f"system message: {text}"
        )
    if found.end:
        said.append(f"Each answer ends with {found.end}, which the model learns, so generation stops there.")
    else:
        said.append("No token ends an answer in this format, so the model does not learn where to stop.")
    return said


def heading(row: PreviewRow) -> str:
    """Return the heading of a row that is shown, with its counts."""
    where = f"Line {row.line:,}" if row.line else "A row"
    part = "held-out" if row.held_out else "training"
    cut = f", {row.cut:,} more cut off" if row.cut else ""
    return f"{where}, {part}: {row.trained:,} of {len(row.tokens):,} tokens learned{cut}"


def visible(token: Token) -> str:
    """Return a token's text with its line breaks and tabs made visible."""
    return token.text.replace("\n", "↵").replace("\t", "⇥")
