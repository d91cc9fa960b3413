"""Read a learner's own data: CSV or JSON Lines with ``text,label`` (classification) or ``prompt,completion``, JSON
Lines of conversations, tagged words as JSON Lines or CoNLL (:mod:`peft_lab.training.tasks.tags`), or images
(:mod:`peft_lab.training.tasks.pictures`); and name a run's task on screen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.training.tasks import all_tasks, pictures, records, tags
from peft_lab.training.tasks.base import (
    Kind,
    Row,
    Splits,
    Task,
    check_paired,
    different_texts,
    is_blank,
    label_scores,
    same_text,
    split_groups,
    stated_fields,
    word_f1,
)
from peft_lab.training.tasks.records import (
    Record,
    RecordTable,
    bad,
    half_a_character,
    read,
    reader_of,
    require_unlike,
    shorten,
)

# ----------------------------------------
# Conversations in a learner's file: ``messages`` with role and content, or ShareGPT's ``conversations`` with from and
# value. One line of JSON Lines is one conversation. An error is one sentence that names the line and the message.


#: The columns that hold conversations, and what their messages call the role and the words.
CHAT_COLUMNS = {"messages": ("role", "content"), "conversations": ("from", "value")}
ROLES = ("system", "user", "assistant")
#: Our roles by ShareGPT's names.
_SHARED = {"human": "user", "gpt": "assistant"}
#: Keys that would change what is read or trained; a message that has one is refused.
_NOT_READ = (
    "tool_calls", "function_call", "tool_call_id", "reasoning_content", "thinking", "weight", "train", "training",
)  # fmt: skip
MAX_MESSAGES = 100


def chat_row(record: Record, column: str, longest: int) -> Row:
    """Return the conversation in one line of a file. ``longest``: the most characters of a message. Raises BadInput
    naming line and message."""
    where = f"line {record.number:,}"
    value = record.values.get(column)
    if not isinstance(value, list) or not value:
        raise bad(f"The column '{column}' does not contain a list of messages in {where}.")
    if len(value) > MAX_MESSAGES:
        raise bad(f"{where} has {len(value):,} messages; at most {MAX_MESSAGES} are allowed.")
    turns = [
        _turn(message, CHAT_COLUMNS[column], f"Message {number} in {where}", longest)
        for number, message in enumerate(value, start=1)
    ]
    roles = [role for role, _ in turns]
    if "assistant" not in roles:
        raise bad(f"{where} has no message from the assistant, so there is no answer to learn.")
    if roles[-1] != "assistant":
        raise bad(f"The last message in {where} is the {roles[-1]}'s and has no answer. Remove it.")
    if len(turns) == 1:
        raise bad(f"The answer in {where} comes before any message. Add a message before it.")
    *before, (_, answer) = turns
    text = before[0][1] if len(before) == 1 else "\n".join(f"{role}: {words}" for role, words in before)
    return Row(text, answer, tuple(before), record.number)


def _turn(message: Any, names: tuple[str, str], where: str, longest: int) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        raise bad(f"{where} is not an object with '{names[0]}' and '{names[1]}'.")
    for name in _NOT_READ:
        if message.get(name) is not None:
            raise bad(f"{where} has '{name}', which PEFT Lab does not support. Remove it.")
    role, roles = message.get(names[0]), list(ROLES)
    if names[0] == "from":
        role, roles = _SHARED.get(role, role) if isinstance(role, str) else role, [*_SHARED, *ROLES]
    if role not in ROLES:
        given = message.get(names[0])
        named = f"the role '{shorten(given)}'" if isinstance(given, str) and given.strip() else "no role"
        raise bad(f"{where} has {named}, but '{names[0]}' must be {', '.join(roles)}.")
    words = message.get(names[1])
    if not isinstance(words, str):
        raise bad(f"{where} has no text as its '{names[1]}'.")
    if is_blank(words) and role != "system":
        raise bad(f"{where} is blank: {'an answer' if role == 'assistant' else 'a message'} needs words.")
    if len(words) > longest:
        raise bad(f"{where} is longer than {longest:,} characters.")
    if half_a_character(words):
        raise bad(f"{where} contains half a character (a lone surrogate).")
    return role, words.strip()


NAME = "own"
MAX_BYTES = 5_000_000
MIN_ROWS = 8
MAX_ROWS = records.MAX_ROWS
MIN_LABELS = 2
MAX_LABELS = 20
#: Names of spans, each with the labels B- and I-.
MAX_NAMES = 50
#: Different texts a label needs: one to learn from and one to test on.
MIN_TEXTS_PER_LABEL = 2
#: Characters of one text, prompt or completion; labels are shorter.
MAX_CHARS = 4_000
MAX_LABEL_CHARS = 60
TEST_SHARE = 0.2
#: The most texts that are tested on: a test takes time, and a larger one would tell little more.
MAX_TEST_TEXTS = 500
#: Tokens after which rows are cut, and the most tokens of an answer.
MAX_TOKENS = 256
MAX_CHAT_TOKENS = 512
MAX_NEW_TOKENS = 128
#: Low for English, so that an answer is not cut off.
CHARS_PER_TOKEN = 2
#: The columns of each kind of task: what the model reads, and what it has to answer.
COLUMNS: dict[Kind, tuple[str, str]] = {
    "classification": ("text", "label"),
    "generation": ("prompt", "completion"),
    "tagging": ("tokens", "tags"),
}
_PAIRS = " or ".join(f"{text},{target}" for text, target in COLUMNS.values())
_EXPECTED = f"{_PAIRS}, or messages (conversations, as JSON Lines)"
_TITLE = "Your file "
_NAMED = 5  # how many row numbers a message names


@dataclass(frozen=True, kw_only=True)
class OwnTask(Task):
    """The rows of one uploaded file. ``sha256``: of its bytes. ``place``: the folder or zip that images are in."""

    splits: Splits = field(repr=False)
    sha256: str
    place: str = ""

    def load(self) -> Splits:
        return self.splits

    def inputs(self) -> dict[str, dict[str, str]]:
        return {NAME: {self.title.removeprefix(_TITLE).removeprefix(pictures.TITLE): self.sha256}}

    def pictures(self, names: Iterable[str]) -> Iterator[bytes]:
        return pictures.files(self.place, names)

    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Return ``accuracy`` and ``macro_f1`` (classification), those of spans (tagging), or ``exact_match`` up to
        spacing (generation, chat); for a chat ``word_f1`` of the last answers too."""
        if self.kind == "tagging":
            return tags.span_scores(predictions, rows)
        if self.kind == "classification":
            return label_scores(predictions, rows, self.labels)
        check_paired(predictions, rows)
        hits = sum(guess.split() == row.target.split() for guess, row in zip(predictions, rows, strict=True))
        exact = {"exact_match": hits / len(rows)}
        if self.kind != "chat":
            return exact
        shares = [word_f1(guess, row.target) for guess, row in zip(predictions, rows, strict=True)]
        return {"word_f1": sum(shares) / len(rows), **exact}


@dataclass(frozen=True)
class Content:
    """The content of a file, whatever its name. ``rewritten``: tags that were written in another scheme than BIO."""

    kind: Kind
    labels: tuple[str, ...]
    splits: Splits = field(repr=False)
    images: bool = False
    rewritten: int = 0


def parse(data: bytes, filename: str) -> OwnTask:
    """Return the task in an uploaded file, a .csv, .jsonl, .conll, .txt or .zip by its name; other columns are
    ignored.

    The split depends on the texts alone: about a fifth is held out, at most ``MAX_TEST_TEXTS`` texts, from
    every label (with tags: of the sentences with spans and of those without), with repeated texts kept together. For
    untrusted files: :mod:`peft_lab.training.tasks.apart`.

    Raises BadInput with one sentence: what is wrong, where, and what would work.
    """
    return task_of(filename, data, content(data, filename))


def check(data: bytes, filename: str) -> None:
    """Check a file's name and size before it is read. Raises BadInput."""
    if filename.lower().endswith(pictures.ZIP):
        pictures.check(len(data))
    elif len(data) > MAX_BYTES:
        raise too_large(len(data))
    else:
        reader_of(filename)


def content(data: bytes, filename: str) -> Content:
    """Return the kind, labels and split rows of an uploaded file. Raises BadInput as :func:`parse` does."""
    check(data, filename)
    if filename.lower().endswith(pictures.ZIP):
        return Content("classification", *pictures.rows_of(data), images=True)
    table = read(data, filename, {*CHAT_COLUMNS, *(name for names in COLUMNS.values() for name in names)})
    kind = _kind(table)
    rewritten = 0
    if kind in ("chat", "tagging") and table.unit == "row":
        raise bad("Conversations and tagged words are read from JSON Lines (.jsonl), not from CSV.")
    if kind == "tagging":
        rows, rewritten = tags.own_rows(table, MAX_CHARS)
    else:
        column = next((name for name in CHAT_COLUMNS if name in table.columns), "")
        rows = (
            [chat_row(each, column, MAX_CHARS) for each in table.records]
            if kind == "chat"
            else _rows(table, kind)
        )
    texts = different_texts(rows)
    if texts < MIN_ROWS:
        repeated = f" with {texts} different texts" if texts < len(rows) else ""
        raise bad(f"The file has {len(rows)} rows{repeated}; at least {MIN_ROWS} different rows are needed.")
    reader = {"classification": _labels, "tagging": _tags}.get(kind)
    return Content(kind, () if reader is None else reader(rows), _split(rows, kind), rewritten=rewritten)


def too_large(size: int) -> BadInput:
    """Return the error for a file of that many bytes."""
    amount, most = units.unlike(size, MAX_BYTES)
    return bad(f"The file has {amount}; at most {most} are allowed. Keep a sample of it.")


def _kind(table: RecordTable) -> Kind:
    kinds = [kind for kind, columns in COLUMNS.items() if set(columns) <= set(table.columns)]
    kinds += ["chat" for column in CHAT_COLUMNS if column in table.columns]
    if len(kinds) == 1:
        return kinds[0]
    names = shorten(",".join(table.columns))
    if kinds:
        raise bad(f"The columns {names} fit two kinds of task. Keep either {_EXPECTED}.")
    raise bad(f"The file has the columns '{names}' but needs {_EXPECTED}.")


def _rows(table: RecordTable, kind: Kind) -> list[Row]:
    text, target = COLUMNS[kind]
    texts = _column(table, text, MAX_CHARS)
    targets = _column(table, target, MAX_LABEL_CHARS if kind == "classification" else MAX_CHARS)
    return [Row(*pair) for pair in zip(texts, targets, strict=True)]


def _column(table: RecordTable, name: str, longest: int) -> list[str]:
    """Return the cells of one column as stripped text. Raises BadInput naming the rows with a fault."""
    cells = [_cell(record.values.get(name)) for record in table.records]
    faults: dict[str, list[int]] = {}
    for record, cell in zip(table.records, cells, strict=True):
        if fault := _fault(cell, longest):
            faults.setdefault(fault, []).append(record.number)
    for fault, numbers in faults.items():
        listed = ", ".join(f"{number:,}" for number in numbers[:_NAMED])
        more = f" and {len(numbers) - _NAMED:,} more" if len(numbers) > _NAMED else ""
        where = f"{table.unit}{'s' if len(numbers) > 1 else ''} {listed}{more}"
        raise bad(f"The column '{name}' {fault} in {where}.")
    return [cell for cell in cells if cell is not None]


def _cell(value: Any) -> str | None:
    """Return the text of a cell, '' for a missing one, None for what is not text. A whole number, true and false become
    text as they are written: labels are often 0 and 1."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip() if isinstance(value, str | int) else None


def _fault(cell: str | None, longest: int) -> str | None:
    if cell is None:
        return "contains neither text nor a whole number"
    if is_blank(cell):
        return "is blank"
    if len(cell) > longest:
        return f"is longer than {longest:,} characters"
    if half_a_character(cell):
        return "contains half a character (a lone surrogate)"
    return None


def _by_label(rows: Iterable[Row], kind: Kind = "classification") -> dict[str, list[Row]]:
    """Group rows by label, or tagged ones by whether they have a span, ``True`` or ``False``. All rows of a
    repeated text go with its first label, to stay in one part of the split."""
    first: dict[str, str] = {}
    groups: dict[str, list[Row]] = {}
    for row in rows:
        label = row.target if kind == "classification" else str(bool(tags.spans(tags.tags_in(row.target))))
        groups.setdefault(first.setdefault(same_text(row.text), label), []).append(row)
    return groups


def _tags(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the labels: O, then those of each name that occur, B- before I-. Raises BadInput."""
    used = {tags.OUTSIDE, *(tag for row in rows for tag in tags.tags_in(row.target))}
    names = {tag[2:] for tag in used} - {""}
    require_unlike("labels", sorted(names), "Write them alike.")
    texts = different_texts(_by_label(rows, "tagging").get("True", ()))
    if texts < MIN_TEXTS_PER_LABEL:
        raise bad(
            f"{units.several(texts, 'sentence')} with a tag other than O; at least {MIN_TEXTS_PER_LABEL} are needed, "
            "one to train on and one to test on."
        )
    if len(names) > MAX_NAMES:
        raise bad(f"The tags have {len(names):,} different names; at most {MAX_NAMES} are allowed.")
    return tuple(sorted(used, key=lambda tag: (tag[2:], tag)))


def _labels(rows: Sequence[Row]) -> tuple[str, ...]:
    labels = sorted({row.target for row in rows})
    require_unlike("labels", labels, "Write them alike.")
    if len(labels) < MIN_LABELS:
        raise bad(
            f"Every row has the label '{labels[0]}'; at least {MIN_LABELS} different labels are needed."
        )
    if len(labels) > MAX_LABELS:
        raise bad(
            f"The column 'label' contains {len(labels):,} different labels; at most {MAX_LABELS} are allowed. For free "
            "answers, name the columns prompt,completion."
        )
    groups = _by_label(rows)
    for label in labels:
        texts = different_texts(groups.get(label, ()))
        if texts < MIN_TEXTS_PER_LABEL:
            plural = "" if texts == 1 else "s"
            raise bad(
                f"The label '{label}' has {texts} text{plural} of its own; each label needs at least "
                f"{MIN_TEXTS_PER_LABEL}, one to train on and one to test on. Texts that differ only in case, spaces, "
                "punctuation or emoji count as one, with the label that comes first."
            )
    return tuple(labels)


def _split(rows: Sequence[Row], kind: Kind) -> Splits:
    labelled = kind in ("classification", "tagging")
    groups = _by_label(rows, kind).values() if labelled else [rows]
    share = min(TEST_SHARE, MAX_TEST_TEXTS / different_texts(rows))
    return split_groups(groups, share)


def task_of(filename: str, data: bytes, found: Content) -> OwnTask:
    """Return the task of a file with this name and content."""
    kind, splits = found.kind, found.splits
    sha256 = hashlib.sha256(data).hexdigest()
    if found.images:
        said = pictures.fields(Path(filename).stem, found.labels, splits)
        return OwnTask(name=NAME, license="yours", splits=splits, sha256=sha256, **said)
    name, writes, chats = Path(filename).name, kind in ("generation", "chat"), kind == "chat"
    changed = units.several(found.rewritten, "tag")
    note = f"{changed} rewritten as BIO: B- begins a span, I- continues it." if found.rewritten else ""
    longest = max(len(row.target) for row in (*splits.train, *splits.test))
    tokens = MAX_CHAT_TOKENS if chats else MAX_TOKENS
    what = {"chat": "The conversations", "tagging": "The tagged words"}.get(kind) or (
        "The columns '{}' and '{}'".format(*COLUMNS[kind])
    )
    # what to suggest asking: a row's text, or a conversation's last message before the answer
    asked = (row.turns[-1][1] if row.turns else row.text for row in (*splits.test, *splits.train))
    return OwnTask(
        name=NAME,
        title=f"{_TITLE}{name}",
        kind=kind,
        labels=found.labels,
        **stated_fields(f"own {kind}"),
        description=(
            f"{what} of {name}: {len(splits.train):,} {'conversations' if chats else 'rows'} to train on, "
            f"{len(splits.test):,} held out. Longer ones are cut to {tokens} tokens.{note and f' {note}'}"
        ),
        source="Your own file. It stays on this machine.",
        license="yours",
        max_length=tokens,
        max_new_tokens=min(MAX_NEW_TOKENS, longest // CHARS_PER_TOKEN + 8) if writes else 0,
        samples=tuple(dict.fromkeys(asked))[:3],
        word=tags.OWN_WORD,
        note=note,
        splits=splits,
        sha256=sha256,
    )


OWN_FILE = "Your own file"


def task_title(name: str) -> str:
    """Return a task's title, also for a learner's file; for an unknown task its name, which a page must escape.

    >>> task_title("json")
    'Orders to JSON'
    >>> task_title("own")
    'Your own file'
    """
    titles = {task.name: task.title for task in all_tasks()} | {NAME: OWN_FILE}
    return titles.get(name, name)


def each_of(name: str) -> str:
    """Return the noun for one of a task's rows; ``row`` for an unknown task.

    >>> each_of("digits"), each_of("json")
    ('image', 'row')
    """
    return next((task.each for task in all_tasks() if task.name == name), "row")
