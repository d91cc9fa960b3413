"""Define what a task is: fixed rows to train and test on, and a way to score predictions.

A task never sees a model. The training code gives :attr:`Row.text` to one and hands the label names or the generated
text back to :meth:`Task.score`.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from peft_lab.core import content
from peft_lab.models.heads import TaskType, task_type
from peft_lab.models.shapes import ModelKind

Kind = Literal["classification", "tagging", "generation", "chat"]
#: A word to tag, as a regular expression; a punctuation mark is a word.
WORD = r"\w+|[^\w\s]"
#: Messages of a conversation, each a role (``system``, ``user``, ``assistant``) and a text.
Turns = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Row:
    """One example.

    Attributes:
        text: what the model reads: a sentence, a prompt without a chat template, a conversation up to its last answer
            as a person would read it, or an image's name.
        target: the label's name, the tagged text (:mod:`peft_lab.training.tasks.tags`), or the answer.
        turns: for a chat, the messages before its last answer; the assistant's among them are trained too.
        line: its line in the learner's file; 0 if unknown.
    """

    text: str
    target: str
    turns: Turns = ()
    line: int = field(default=0, compare=False)

    @property
    def conversation(self) -> Turns:
        """Return all messages of a chat, its last answer included."""
        return (*self.turns, ("assistant", self.target))


@dataclass(frozen=True)
class Splits:
    """The fixed split of a task. The order of both parts says nothing about label or source, so any prefix of them is a
    fair sample."""

    train: tuple[Row, ...]
    test: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A data set with its metric.

    Attributes:
        name: on the command line and in the run store; title: on pages.
        kind: ``classification`` (predict one of ``labels``), ``tagging`` (predict one for each word), ``generation``
            (write the completion) or ``chat`` (write every answer of a conversation).
        labels: in the order of the head's outputs; empty if the model writes text.
        metric: the headline metric, a key of what :meth:`score` returns; between 0 and 1, higher is better.
        max_length: tokens that hold every row but the rarest: the sentence, or prompt and completion together.
        max_new_tokens: how many tokens to generate for one answer; 0 where a task head answers.
        samples: three inputs to offer a learner who wants to try the model; none for images.
        asset: the asset that its rows are read from; empty if nothing must be downloaded.
        start_text: the text that virtual tokens start from; if empty, the method's for the kind of model.
        word: a word to tag, as a regular expression.
        note: what was changed in a learner's file, as a sentence; empty if nothing was.
    """

    name: str
    title: str
    kind: Kind
    model_kinds: tuple[str, ...]
    labels: tuple[str, ...] = ()
    metric: str
    metric_help: str
    description: str
    source: str
    license: str
    max_length: int
    max_new_tokens: int = 0
    samples: tuple[str, ...]
    asset: str = ""
    start_text: str = ""
    word: str = WORD
    note: str = ""

    @property
    def images(self) -> bool:
        """Return whether its rows are images; the text of a row is then the image's name."""
        return "vision" in self.model_kinds

    @property
    def writes(self) -> bool:
        """Return whether the model writes its answers; if not, a new task head chooses among ``labels``."""
        return self.kind in ("generation", "chat")

    @property
    def per_token(self) -> bool:
        """Return whether the task head labels every token rather than the whole row."""
        return self.kind == "tagging"

    def task_type(self, kind: ModelKind) -> TaskType:
        """Return PEFT's task type for this task on a model of that kind."""
        return task_type(kind, not self.writes, self.per_token)

    @property
    def each(self) -> str:
        """Return the noun for one of its rows, ``image`` or ``row``; the plural adds an s."""
        return "image" if self.images else "row"

    def pictures(self, names: Iterable[str]) -> Iterator[bytes]:
        """Yield the bytes of images by name. Raises BadInput for a missing file, ValueError for text rows."""
        raise ValueError(f"the rows of '{self.name}' are not images")

    @abstractmethod
    def load(self) -> Splits:
        """Return the rows. They are cached, the same on every machine, and no text is in both parts. Raises AssetError
        (the data must be downloaded first)."""

    def rows(self) -> int:
        """Return the number of rows, train and test together. Raises what :meth:`load` raises."""
        splits = self.load()
        return len(splits.train) + len(splits.test)

    def inputs(self) -> dict[str, dict[str, str]]:
        """Return the SHA-256 of the files that the rows were read from, by asset and then by file name; empty for
        generated rows. Raises what :meth:`load` raises."""
        return {}

    @abstractmethod
    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Score ``predictions`` (label names, tagged or generated text) against the targets of ``rows``: values between
        0 and 1 by metric name. Raises ValueError (no rows, or not one prediction for each)."""


T = TypeVar("T", bound=Task)


@cache
def _stated() -> Mapping[str, Mapping[str, Any]]:
    stated: Mapping[str, Mapping[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("tasks.yaml").read_text("utf-8")
    )
    return stated


def stated_fields(name: str, /, **figures: object) -> dict[str, Any]:
    """Return what ``tasks.yaml`` states under a name, lists as tuples; ``figures`` stand for the names in braces."""
    return {
        key: value.format(**figures)
        if isinstance(value, str)
        else tuple(value)
        if isinstance(value, list)
        else value
        for key, value in _stated()[name].items()
    }


def stated_task(kind: type[T], name: str, /, **figures: object) -> T:
    """Return the task of that name in ``tasks.yaml``; arguments as those of :func:`stated_fields`."""
    fields = {"name": name, **stated_fields(name, **figures)}
    return kind(**content.read_typed(kind, fields, f"The task '{name}'"))


def check_paired(predictions: Sequence[str], rows: Sequence[Row]) -> None:
    """Raise ValueError unless there is at least one row, and one prediction for each."""
    if not rows or len(predictions) != len(rows):
        raise ValueError(
            f"{len(predictions)} predictions for {len(rows)} rows: give one per row, and at least one row"
        )


# ----------------------------------------
# Scores shared by the tasks whose answer is a label.


def label_scores(predictions: Sequence[str], rows: Sequence[Row], labels: Sequence[str]) -> dict[str, float]:
    """Return ``accuracy``, and ``macro_f1``: the mean F1 of those ``labels`` that occur in a target or prediction. A
    prediction that is none of the labels is a wrong answer. Raises ValueError as :meth:`Task.score` does."""
    check_paired(predictions, rows)
    targets = [row.target for row in rows]
    hits = [guess for guess, target in zip(predictions, targets, strict=True) if guess == target]
    f1 = [
        2 * hits.count(label) / seen
        for label in labels
        if (seen := predictions.count(label) + targets.count(label))
    ]
    return {"accuracy": len(hits) / len(rows), "macro_f1": sum(f1) / len(f1)}


# ----------------------------------------
# Fixed splits: which rows are held out depends on their text alone, never on a random state or on the file's order.


_NOT_WORDS = re.compile(r"\W+")


def same_text(text: str) -> str:
    """Return a text without case, spacing and punctuation; texts equal in this belong to one part of a split."""
    return _NOT_WORDS.sub(" ", text.casefold()).strip() or text.strip()


def rank(text: str) -> bytes:
    """Return a sort key that is the same on every machine and says nothing about the text's meaning."""
    return sha256(same_text(text).encode()).digest()


def in_fair_order(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return the rows ordered by :func:`rank`, so that any prefix of them is a sample of the whole."""
    return tuple(sorted(rows, key=lambda row: (rank(row.text), row.text, row.target)))


def different_texts(rows: Iterable[Row]) -> int:
    """Return the number of texts, counting those that :func:`same_text` equates once."""
    return len({same_text(row.text) for row in rows})


def hold_out(rows: Iterable[Row], texts: int) -> Splits:
    """Hold out the first ``texts`` different texts by :func:`rank` for testing, with all their repetitions."""
    groups: dict[str, list[Row]] = {}
    for row in in_fair_order(rows):
        groups.setdefault(same_text(row.text), []).append(row)
    parts = tuple(groups.values())
    return Splits(tuple(chain.from_iterable(parts[texts:])), tuple(chain.from_iterable(parts[:texts])))


def split_groups(groups: Iterable[Sequence[Row]], share: float) -> Splits:
    """Hold out a share of the different texts of every group, at least one."""
    parts = [hold_out(group, max(1, round(share * different_texts(group)))) for group in groups]
    return Splits(
        in_fair_order(row for part in parts for row in part.train),
        in_fair_order(row for part in parts for row in part.test),
    )


# ----------------------------------------
# The words that a free answer shares with the expected one.


def word_f1(answer: str, target: str) -> float:
    """Return the harmonic mean of two shares: of the answer's words that are in the target, and of the target's that
    are in the answer; 1 for two texts without words (SQuAD's F1, Rajpurkar et al. 2016, arXiv 1606.05250).

    >>> word_f1("the cat sat", "a cat sat down")  # 2 of 3 words, and 2 of 4
    0.5714285714285714
    """
    words, expected = Counter(answer.lower().split()), Counter(target.lower().split())
    if not words and not expected:
        return 1.0
    return 2 * (words & expected).total() / (words.total() + expected.total())


# ----------------------------------------
# Labels that look alike but differ: a model treats them as two classes, a reader as one.


# Invisible, though not of the category "format": joiners and fillers of some scripts.
_UNSEEN = {"\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u3164", "\uffa0"}


def _unseen(char: str) -> bool:
    selects = "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
    return char in _UNSEEN or selects or unicodedata.category(char) == "Cf"


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character."""
    return not text.strip() or (not text.isascii() and all(_unseen(char) or char.isspace() for char in text))


def looks(text: str) -> str:
    """Return a text as a reader sees it: one form of accents, every space the same, no invisible characters."""
    if text.isascii():
        return " ".join(text.split())
    shown = "".join(char for char in unicodedata.normalize("NFC", text) if not _unseen(char))
    return " ".join(unicodedata.normalize("NFC", shown).split())


def alike(labels: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two different labels that look the same, characters beyond ASCII by number, or ``None``."""
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.setdefault(looks(label), label)
        if other != label:
            return ascii(other)[1:-1], ascii(label)[1:-1]
    return None
