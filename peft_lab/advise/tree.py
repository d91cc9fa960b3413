"""The decision tree as data: the questions in their order, and where each answer leads.

The most fundamental questions come first: whether training is needed, how many tasks share one base, what kind of
model it is. Then whether a step fits; the objective, the data and what may be forgotten decide the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from peft_lab.advise import leaves
from peft_lab.advise.leaves import ADVICE
from peft_lab.core.errors import BadInput
from peft_lab.models.catalogue import get_model, resolve
from peft_lab.models.shapes import KIND_NAMES

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


_QUESTIONS = (
    Question(
        "prompting", "Training needed?", "Is training needed, or does a good prompt or looking things up do?",
        "Write down the target, then measure a prompt with a few examples in it on held-out rows. What is missing may "
        "be facts: those are looked up. No training is cheaper than any training.",
        {"yes": "A prompt does it", "retrieval": "Looking up does", "no": "Yes"}, "you",
    ),
    Question(
        "tasks", "How many tasks?", "How many tasks or customers are served from one base?",
        "Tasks whose requests arrive mixed share one base in memory; what differs is swapped for each request.",
        {"one": "One", "many": "Several"}, "you",
    ),
    Question(
        "kind", "Which type?", "Is the model an encoder, a decoder, or both?",
        "Read from its config.",
        {kind: KIND_NAMES[kind].capitalize() for kind in ("encoder", "causal-lm", "seq2seq")}, "counted",
    ),
    Question(
        "base", "Does a step fit?", "Does a LoRA step fit, and with how many bits a weight?",
        "From the memory simulation: LoRA on all linear maps, the base in 16 bits and in 4 bits, with smaller batches "
        "and checkpointing, down to a single row; on several devices, split over them as well.",
        {"sixteen": "In 16 bits", "four": "In 4 bits only", "none": "Not even then"}, "simulated", "simulated",
    ),
    Question(
        "objective", "What to learn?", "What is trained?",
        "Answers, labels, vectors and a style are learnt from examples; continued pretraining reads raw text; "
        "preferences and rewards judge what the model writes.",
        {
            "sft": "Instructions", "style": "A style", "classification": "Classes", "extraction": "Extraction",
            "embedding": "Embeddings", "cpt": "Raw text", "preference": "Preferences", "rl": "Rewards",
        }, "you",
    ),
    Question(
        "rows", "How many rows?", "How many training rows are there?",
        "Good rows, without duplicates. The upper line is where LoRA of a small rank fell behind in published results, "
        "the lower one was chosen by this lab; neither is a sharp edge.",
        {"few": "Few", "some": "Some", "many": "Very many"}, "you", "cited", ("few", "some"),
    ),
    Question(
        "amount", "LoRA too small?", "Are there more tokens to learn than LoRA can hold?",
        "Tokens of the data against parameters of LoRA of a large rank on every linear map, each by the bits that "
        "it is worth.",
        {"holds": "No", "exceeds": "Yes"}, "counted", "cited",
    ),
    Question(
        "forgetting", "May it forget?", "May the model lose some of what it could do before?",
        "What full fine-tuning learns more it pays for with what the base could do. Measure both on held-out rows.",
        {"ok": "Yes", "matters": "No"}, "you",
    ),
    Question(
        "full", "Full tuning fits?", "Would full fine-tuning fit?",
        "From the memory simulation: every parameter trained with AdamW, weights remembered in float32 where there is "
        "room; on several devices, split over them.",
        {"yes": "Yes", "no": "No"}, "simulated", "simulated",
    ),
    Question(
        "storage", "Room per task?", "How much may one task store?",
        "Tight means less than LoRA stores on this model at its defaults, at four bytes per number.",
        {"tight": "Tight", "roomy": "Roomy"}, "you", "counted",
    ),
    Question(
        "latency", "Slower allowed?", "May a request take longer than on the base?",
        "Compared with what adapter layers added in a published measurement, one row at a time.",
        {"strict": "No", "relaxed": "Yes"}, "you", "cited",
    ),
    Question(
        "serving", "Served by what?", "What answers the requests?",
        "vLLM and servers like it apply LoRA for each request, and no bottleneck adapters.",
        {"plain": "Own code", "vllm": "vLLM or alike"}, "you", "cited",
    ),
    Question(
        "biases", "Any biases?", "Do the model's linear maps have biases?",
        "Counted on the model: every linear map inside the layers has to have one.",
        {"yes": "Yes", "no": "No"}, "counted",
    ),
    Question(
        "scale", "A large base?", "Is the base large enough for Prompt Tuning to work?",
        "The number of parameters, compared with the size at which Prompt Tuning came near full fine-tuning.",
        {"large": "Yes", "small": "No"}, "counted", "cited",
    ),
)  # fmt: skip
QUESTIONS: Mapping[str, Question] = {question.key: question for question in _QUESTIONS}

_NODES = (
    Node("prompting", "prompting", (
        Branch(("yes",), "prompt-only"), Branch(("retrieval",), "retrieval"), Branch(("no",), "tasks"),
    )),
    Node("tasks", "tasks", (Branch(("one",), "kind"), Branch(("many",), "many-kind"))),
    # one task
    Node("kind", "kind", (
        Branch(("causal-lm",), "base"), Branch(("encoder",), "encoder-rows"), Branch(("seq2seq",), "both-rows"),
    )),
    Node("base", "base", (
        Branch(("none",), "nothing"), Branch(("four",), "qlora"), Branch(("sixteen",), "objective"),
    )),
    Node("objective", "objective", (
        Branch(("cpt",), "amount"), Branch(("preference", "rl"), "lora-reward", "Judgements"),
        Branch(("sft", "style", "classification", "extraction", "embedding"), "text-rows", "Examples"),
    )),
    Node("amount", "amount", (Branch(("holds",), "lora-large"), Branch(("exceeds",), "text-forgetting"))),
    Node("text-forgetting", "forgetting", (Branch(("ok",), "text-full"), Branch(("matters",), "lora-keeping"))),
    Node("text-full", "full", (Branch(("yes",), "full-text"), Branch(("no",), "lora-large"))),
    Node("text-rows", "rows", (
        Branch(("few",), "lora-few"), Branch(("some",), "lora"), Branch(("many",), "lora-large"),
    )),
    Node("encoder-rows", "rows", (
        Branch(("few",), "lora-few"), Branch(("some", "many"), "encoder-forgetting", "Enough"),
    )),
    Node("encoder-forgetting", "forgetting", (Branch(("ok",), "encoder-full"), Branch(("matters",), "lora"))),
    Node("encoder-full", "full", (Branch(("yes",), "full-small"), Branch(("no",), "lora"))),
    Node("both-rows", "rows", (
        Branch(("few",), "lora-few"), Branch(("some",), "lora"), Branch(("many",), "both-forgetting"),
    )),
    Node("both-forgetting", "forgetting", (Branch(("ok",), "both-full"), Branch(("matters",), "lora-keeping"))),
    Node("both-full", "full", (Branch(("yes",), "full-small"), Branch(("no",), "lora-large"))),
    # several tasks
    Node("many-kind", "kind", (
        Branch(("causal-lm",), "many-base"), Branch(("encoder", "seq2seq"), "many-latency", "With an encoder"),
    )),
    Node("many-base", "base", (
        Branch(("none",), "nothing"), Branch(("four",), "qlora-tenants"), Branch(("sixteen",), "many-storage"),
    )),
    Node("many-storage", "storage", (Branch(("roomy",), "lora-tenants"), Branch(("tight",), "many-scale"))),
    Node("many-scale", "scale", (Branch(("large",), "many-served"), Branch(("small",), "lora-tiny"))),
    Node("many-served", "serving", (Branch(("plain",), "prompt"), Branch(("vllm",), "lora-tiny"))),
    Node("many-latency", "latency", (Branch(("strict",), "many-biases"), Branch(("relaxed",), "many-serving"))),
    Node("many-biases", "biases", (Branch(("yes",), "bitfit-many"), Branch(("no",), "ia3-many"))),
    Node("many-serving", "serving", (Branch(("plain",), "adapters"), Branch(("vllm",), "lora-tenants"))),
)  # fmt: skip
NODES: Mapping[str, Node] = {node.id: node for node in _NODES}


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
