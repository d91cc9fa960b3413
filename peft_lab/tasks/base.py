"""What a task is: fixed rows to train and test on, and a way to score predictions.

A task never sees a model. The training code feeds :attr:`Row.text` to one and hands the label names or the generated
text back to :meth:`Task.score`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["classification", "generation", "chat"]
#: Messages of a conversation, each a role (``system``, ``user``, ``assistant``) and what was said.
Turns = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Row:
    """One example.

    Attributes:
        text: what the model reads: the sentence (classification), the prompt without a chat template (generation), or
            the conversation up to its last answer, as a person would read it (chat). Of an image, its name.
        target: the label's name (classification), the completion (generation), or the last answer (chat).
        turns: of a chat, the messages before its last answer; those of the assistant among them are trained too.
        line: where it stands in the learner's file; 0 where that is not known.
    """

    text: str
    target: str
    turns: Turns = ()
    line: int = field(default=0, compare=False)

    @property
    def conversation(self) -> Turns:
        """Of a chat, all messages, its last answer included."""
        return (*self.turns, ("assistant", self.target))


@dataclass(frozen=True)
class Splits:
    """The fixed split of a task. Both parts are in an order that says nothing about the label or the source, so any
    prefix of them is a fair sample."""

    train: tuple[Row, ...]
    test: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A data set with its metric.

    Attributes:
        name: how the command line and the run store call it.
        title: how a page calls it.
        kind: ``classification`` (predict one of ``labels``), ``generation`` (write the completion) or ``chat`` (write
            every answer of a conversation).
        model_kinds: the kinds of model it runs on, such as ``("encoder",)`` or ``("causal-lm",)``.
        labels: the label names in the order of the head's outputs; empty where text is written.
        metric: the headline metric, a key of what :meth:`score` returns; between 0 and 1, higher is better.
        metric_help: what the metric means and what to expect of it, for a learner.
        description: what the rows are.
        source: citation of the data.
        license: of the data.
        max_length: tokens that hold every row but the rarest: the sentence, or prompt and completion together.
        max_new_tokens: how many tokens to generate for one answer; 0 for classification.
        samples: three inputs to offer a learner who wants to try the model; none where they are images.
        asset: what its rows are read from, where that has to be fetched.
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

    @property
    def images(self) -> bool:
        """Whether its rows are images, each with a name for its text."""
        return "vision" in self.model_kinds

    @property
    def each(self) -> str:
        """What one of its rows is called where they are counted; several take an s."""
        return "image" if self.images else "row"

    def pictures(self, names: Iterable[str]) -> Iterator[bytes]:
        """The files of images by their names. Raises BadInput for one that is gone, ValueError where there are none."""
        raise ValueError(f"the rows of '{self.name}' are no images")

    @abstractmethod
    def load(self) -> Splits:
        """The rows. Cached, the same on every machine, no text in both parts.

        Raises:
            AssetError: the data has to be fetched and is not there.
        """

    def rows(self) -> int:
        """How many rows there are, train and test together. Raises what :meth:`load` raises."""
        splits = self.load()
        return len(splits.train) + len(splits.test)

    def inputs(self) -> dict[str, dict[str, str]]:
        """SHA-256 by file, by asset, of what the rows were read from; empty for rows that are made here.

        Raises what :meth:`load` raises.
        """
        return {}

    @abstractmethod
    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Compare ``predictions`` (label names, or generated text) with the targets of ``rows``, in the same order.

        Returns shares between 0 and 1 by metric name, the headline metric among them.

        Raises:
            ValueError: nothing to score, or not one prediction for each row.
        """


def check_paired(predictions: Sequence[str], rows: Sequence[Row]) -> None:
    """Raise ValueError unless there is one prediction for each of at least one row."""
    if not rows or len(predictions) != len(rows):
        raise ValueError(
            f"{len(predictions)} predictions for {len(rows)} rows: need one for each, at least one"
        )
