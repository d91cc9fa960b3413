"""The decision tree as data: what is asked in which order, and where each answer leads.

The source text's six leaves are all there (QLoRA, LoRA, adapters, IA³ or Prompt Tuning, BitFit, Prefix Tuning). It asks
one thing each; what it lacked stands before and between: is training needed, does the step fit, is the model able to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from peft_lab.choose.advice import ADVICE

ROOT = "prompting"
#: Below so many rows the tree takes what was made for few. The line is the lab's own: BitFit's paper speaks of small to
#: medium data, the one on IA³ trains on dozens of examples, and neither says where that ends.
FEW_ROWS = 1_000


@dataclass(frozen=True)
class Question:
    """One thing to know.

    Attributes:
        short: as it stands in the drawing. full: as it is asked.
        help: how to find out, and why it matters.
        answers: value -> words.
        by: ``you`` for what only the person knows, ``counted`` or ``simulated`` for what the lab finds itself.
        line: where the line between the answers comes from; empty where none is drawn.
        own: answers that end at a line which the lab drew itself.
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
        """Which source drew the line that an answer ends at; empty where there is none, or where the lab drew it."""
        return "" if value in self.own else self.line


@dataclass(frozen=True)
class Branch:
    """Where answers lead: ``to`` is a node or a piece of advice. ``label`` names them together."""

    values: tuple[str, ...]
    to: str
    label: str = ""


@dataclass(frozen=True)
class Node:
    """A place in the tree where a question is asked."""

    id: str
    question: str
    branches: tuple[Branch, ...]


_QUESTIONS = (
    Question(
        "prompting", "Prompt enough?", "Does a good prompt already reach the target?",
        "Write down the target, then measure a prompt with a few examples in it on held-out rows. No training is "
        "cheaper than any training.",
        {"yes": "Yes, measured", "no": "No"}, "you",
    ),
    Question(
        "base", "Does a step fit?", "Does a training step fit on the device?",
        "From the memory simulation: a LoRA step with the base in 16 bits and in 4 bits, with and without gradient "
        "checkpointing, down to a single row.",
        {"sixteen": "Yes, in 16 bits", "four": "In 4 bits only", "none": "Not even then"}, "simulated", "simulated",
    ),
    Question(
        "tasks", "How many tasks?", "How many tasks are served from one base?",
        "Tasks whose requests arrive mixed share one base in memory; what differs is swapped for each request.",
        {"one": "One", "many": "Several"}, "you",
    ),
    Question(
        "latency", "Slower allowed?", "May a request take longer than on the base?",
        "Compared with what adapter layers added in a published measurement, one row at a time.",
        {"strict": "No", "relaxed": "Yes"}, "you", "cited",
    ),
    Question(
        "biases", "Any biases?", "Do the model's linear maps have biases?",
        "Counted on the model: every linear map inside the layers has to have one.",
        {"yes": "Yes", "no": "No"}, "counted",
    ),
    Question(
        "storage", "Room per task?", "How much may one task store?",
        "Tight means less than LoRA stores on this model at its defaults, at four bytes per number.",
        {"tight": "Tight", "roomy": "Roomy"}, "you", "counted",
    ),
    Question(
        "scale", "A large base?", "Is the base large enough for Prompt Tuning to work?",
        "The number of parameters, compared with the size at which Prompt Tuning came near full fine-tuning.",
        {"large": "Yes", "small": "No"}, "counted", "cited",
    ),
    Question(
        "output", "What comes out?", "Does the model choose a class or write text?",
        "Encoders choose a class; decoders and encoder-decoders can do both.",
        {"classification": "A class", "generation": "Text"}, "you",
    ),
    Question(
        "rows", "How many rows?", "How many training rows are there?",
        "Good rows, without duplicates. The upper limit is where LoRA fell behind in published results, the lower one "
        "was chosen by this lab; neither is a sharp edge.",
        {"few": "Few", "some": "Some", "many": "Very many"}, "you", "cited", ("few", "some"),
    ),
    Question(
        "kind", "Which type?", "Is the model an encoder, a decoder, or both?",
        "Read from its config.",
        {"encoder": "Encoder", "causal-lm": "Decoder", "seq2seq": "Encoder-decoder"}, "counted",
    ),
    Question(
        "full", "Full tuning fits?", "Would even full fine-tuning fit?",
        "From the memory simulation: every parameter trained in bfloat16 with AdamW.",
        {"yes": "Yes", "no": "No"}, "simulated", "simulated",
    ),
)  # fmt: skip
QUESTIONS: Mapping[str, Question] = {question.key: question for question in _QUESTIONS}

_NODES = (
    Node("prompting", "prompting", (Branch(("yes",), "prompt-only"), Branch(("no",), "base"))),
    Node("base", "base", (
        Branch(("none",), "nothing"), Branch(("four",), "qlora"), Branch(("sixteen",), "tasks"),
    )),
    Node("tasks", "tasks", (Branch(("many",), "many-latency"), Branch(("one",), "output"))),
    Node("many-latency", "latency", (
        Branch(("strict",), "many-biases"), Branch(("relaxed",), "many-storage"),
    )),
    Node("many-biases", "biases", (Branch(("yes",), "bitfit-many"), Branch(("no",), "ia3-many"))),
    Node("many-storage", "storage", (Branch(("roomy",), "adapters"), Branch(("tight",), "many-scale"))),
    Node("many-scale", "scale", (Branch(("large",), "prompt"), Branch(("small",), "ia3-small"))),
    Node("output", "output", (
        Branch(("classification",), "class-rows"), Branch(("generation",), "text-kind"),
    )),
    Node("class-rows", "rows", (
        Branch(("few",), "class-biases"), Branch(("some",), "class-storage"), Branch(("many",), "class-full"),
    )),
    Node("class-biases", "biases", (Branch(("yes",), "bitfit"), Branch(("no",), "ia3"))),
    Node("class-storage", "storage", (Branch(("roomy",), "lora"), Branch(("tight",), "class-kind"))),
    Node("class-kind", "kind", (
        Branch(("causal-lm",), "ptuning"), Branch(("encoder", "seq2seq"), "ia3-small", "With an encoder"),
    )),
    Node("class-full", "full", (Branch(("yes",), "full"), Branch(("no",), "lora-large"))),
    Node("text-kind", "kind", (
        Branch(("seq2seq",), "both-rows"), Branch(("causal-lm",), "text-rows"),
    )),
    Node("both-rows", "rows", (
        Branch(("few",), "ia3"), Branch(("some",), "both-latency"), Branch(("many",), "both-full"),
    )),
    Node("both-latency", "latency", (Branch(("relaxed",), "prefix"), Branch(("strict",), "lora"))),
    Node("both-full", "full", (Branch(("yes",), "full"), Branch(("no",), "lora-large"))),
    Node("text-rows", "rows", (
        Branch(("few",), "ia3"), Branch(("some",), "text-storage"), Branch(("many",), "text-full"),
    )),
    Node("text-storage", "storage", (Branch(("roomy",), "lora"), Branch(("tight",), "ia3-small"))),
    Node("text-full", "full", (Branch(("yes",), "full"), Branch(("no",), "lora-large"))),
)  # fmt: skip
NODES: Mapping[str, Node] = {node.id: node for node in _NODES}


def label(branch: Branch, question: Question) -> str:
    """What stands on a branch."""
    return branch.label or " or ".join(question.answers[value] for value in branch.values)


@dataclass(frozen=True)
class Place:
    """A node or a leaf with the way to it: ``(node, value)`` pairs from the root. One for each place of the drawing."""

    target: str
    way: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def leaf(self) -> bool:
        """Whether it gives an advice and asks nothing more."""
        return self.target in ADVICE

    @property
    def id(self) -> str:
        """Unique: the node's own name, or the parent's with the answer for a leaf."""
        if not self.leaf:
            return self.target
        parent, values = self.way[-1]
        return f"{parent}.{values[0]}"


@cache
def places() -> tuple[Place, ...]:
    """Every place of the tree, depth first, the root first."""
    return tuple(_below(ROOT, ()))


def _below(target: str, way: tuple[tuple[str, tuple[str, ...]], ...]) -> Iterator[Place]:
    yield Place(target, way)
    if target in NODES:
        for branch in NODES[target].branches:
            yield from _below(branch.to, (*way, (target, branch.values)))
