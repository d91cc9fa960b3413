"""The decision tree as data: the questions in their order, and where each answer leads.

The most fundamental questions come first: whether training is needed, how many tasks share one base, what kind of
model it is. Then whether a step fits; the objective, the data and what may be forgotten decide the rest. They stand in
``content/tree/questions.yaml``, the ways between them in ``nodes.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from peft_lab.advise import leaves
from peft_lab.advise.leaves import ADVICE
from peft_lab.core.content import Table, read_table
from peft_lab.core.errors import BadInput
from peft_lab.models.catalogue import get_model, resolve

ROOT = "prompting"
#: Below this many rows, results depend on seeds more than on settings. The lab's own limit: the paper on
#: few-sample tuning has up to a thousand rows, the one on IA³ dozens, and neither names a limit.
FEW_ROWS = 1_000


@dataclass(frozen=True)
class Question:
    """A question of the tree.

    Attributes:
        short: its text in the drawing. full: its full text.
        help: how to find the answer, and why it matters.
        answers: the text of each value.
        by: ``you`` if only the user knows the answer, ``counted`` or ``simulated`` if the lab finds it.
        line: the source of the threshold between the answers; empty if there is none.
        own: answers whose threshold the lab chose itself.
    """

    key: str
    short: str
    full: str
    help: str
    answers: Mapping[str, str]
    by: str
    line: str = ""
    own: tuple[str, ...] = ()

    def drawn(self, value: str) -> str:
        """Return the source of the threshold that an answer ends at; empty if there is none or it is ours."""
        return "" if value in self.own else self.line


@dataclass(frozen=True)
class Branch:
    """Answers that lead to ``to``, a node or a piece of advice. ``label``: their common name, if any."""

    values: tuple[str, ...]
    to: str
    label: str = ""


@dataclass(frozen=True)
class Node:
    """A place in the tree where a question is asked."""

    id: str
    question: str
    branches: tuple[Branch, ...]


QUESTIONS: Mapping[str, Question] = Table(
    lambda: read_table([leaves.CONTENT / "questions.yaml"], Question, "key")
)
NODES: Mapping[str, Node] = Table(lambda: read_table([leaves.CONTENT / "nodes.yaml"], Node, "id"))


def label(branch: Branch, question: Question) -> str:
    """Return the text on a branch."""
    return branch.label or " or ".join(question.answers[value] for value in branch.values)


@dataclass(frozen=True)
class Place:
    """A node or leaf of the drawing, with the path to it: ``(node, answers)`` pairs from the root."""

    target: str
    way: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def leaf(self) -> bool:
        """Return whether it gives advice and asks nothing more."""
        return self.target in ADVICE

    @property
    def id(self) -> str:
        """Return its unique id: the node's own name, or for a leaf the parent's name with the first answer."""
        if not self.leaf:
            return self.target
        parent, values = self.way[-1]
        return f"{parent}.{values[0]}"

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """Return the answers on the path, by question."""
        return {NODES[node].question: values for node, values in self.way}


@cache
def places() -> tuple[Place, ...]:
    """Return all places of the tree, depth first, starting with the root."""
    return tuple(_below(ROOT, ()))


def _below(target: str, way: tuple[tuple[str, tuple[str, ...]], ...]) -> Iterator[Place]:
    yield Place(target, way)
    if target in NODES:
        for branch in NODES[target].branches:
            yield from _below(branch.to, (*way, (target, branch.values)))


# ----------------------------------------
# Example models and devices for answers that the lab finds itself: clicking on *encoder* picks one.
#
# The simulation's answers are stored with them, so that a click responds at once; a test checks them.


@dataclass(frozen=True)
class Example:
    """A model on a device, with the simulation's answers at the usual batch and length."""

    model: str
    device: str
    base: str
    full: str
    devices: int = 1
    link: str = ""

    def agrees(self, wanted: Mapping[str, tuple[str, ...]]) -> bool:
        """Return whether the lab would find these answers."""
        shape = get_model(self.model).shape
        found = {**leaves.counted_answers(shape), "base": self.base, "full": self.full}
        return all(found[key] in values for key, values in wanted.items())


FIRST_EXAMPLES = Example("llama-3.2-3b", "rtx-4090", "sixteen", "no")
EXAMPLES = (
    FIRST_EXAMPLES,
    Example("llama-3.2-3b", "a100-80", "sixteen", "yes"),
    Example("bert-base", "t4", "sixteen", "yes"),
    Example("t5-base", "t4", "sixteen", "yes"),
    Example("t5-base", "2GB", "sixteen", "no"),
    Example("roberta-large", "2GB", "sixteen", "no"),
    Example("gpt2", "t4", "sixteen", "yes"),
    Example("llama-3.1-8b", "rtx-3060", "four", "no"),
    Example("llama-3.1-70b", "rtx-4090", "none", "no"),
    Example("llama-3.1-70b", "h200", "sixteen", "no", 4, "nvlink"),
)


def find_example(
    wanted: Mapping[str, tuple[str, ...]], model: str | None = None, device: str | None = None
) -> Example:
    """Return the first example with these answers and, where they are named, this ``model`` and ``device``.

    Without an example of that name one is made: its model is checked by counting, the rest left to simulation.

    Raises:
        BadInput: there is no such example and nothing is named, or the answers contradict the named model.
    """
    if model is not None:
        shape = resolve(model).shape
        found = leaves.counted_answers(shape)
        for key, values in wanted.items():
            if key in found and found[key] not in values:
                raise BadInput(
                    f"{leaves.phrase(key, shape)}, so {key}={values[0]} does not hold for it.", key
                )
    for example in EXAMPLES:
        named = model in (None, example.model) and device in (None, example.device)
        if named and example.agrees(wanted):
            return example
    if model is not None or device is not None:
        return Example(model or FIRST_EXAMPLES.model, device or FIRST_EXAMPLES.device, "", "")
    asked = ", ".join(f"{key}={values[0]}" for key, values in wanted.items())
    raise BadInput(f"No example model is like that ({asked}); name a model and a device.", next(iter(wanted)))
