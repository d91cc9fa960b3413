"""Read the decision tree: questions in their order, leaves with their reasons and fallbacks, and the figures cited.

The most fundamental questions come first: whether training is needed, how many tasks share one base, what kind of
model it is. Then whether a step fits; the objective, the data and what may be forgotten decide the rest. They stand
in ``content/tree/questions.yaml``, the ways between them in ``nodes.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NewType

from peft_lab.core import references as src
from peft_lab.core import units
from peft_lab.core.content import Converters, Table, Through, by_name, cite, read_entries, read_table
from peft_lab.core.errors import BadInput
from peft_lab.core.units import Finding, Source
from peft_lab.engine import published
from peft_lab.engine.published import literature
from peft_lab.methods import get_method
from peft_lab.methods.shared import targets
from peft_lab.models.catalogue import get_model, resolve
from peft_lab.models.shapes import ModelShape, a_model


def _cited(name: str) -> Finding:
    """Return a figure as its paper prints it."""
    row = literature()[name]
    return Finding(row.value, row.unit, Source.CITED, f"{getattr(src, row.paper)}, {row.place}")


def _right(experiment: str) -> Finding:
    """Return the percentage of right answers of a published row."""
    accuracy = published.rows()[experiment].accuracy
    return Finding(100 * accuracy, "percent", Source.CITED, f"{src.BENCH}, prompt_tuning rows")


def _longer(with_adapters: str) -> Finding:
    """Return by how many percent adapters lengthened a forward pass."""
    plain, slow = _cited("gpt2-medium-plain"), _cited(with_adapters)
    return Finding(100 * (slow.value / plain.value - 1), "percent", Source.CITED, slow.note)


def _biases(model: str) -> Finding:
    """Return the percentage of a model's parameters that BitFit trains."""
    entry, bitfit = get_model(model), get_method("bitfit")
    trained = bitfit.formula(entry.shape, bitfit.complete(entry.shape, {})).trainable
    return Finding(100 * trained / entry.parameters, "percent", Source.COUNTED, entry.title)


#: Percentage of BERT base that BitFit trains: its biases.
BIASES_OF_BERT = _biases("bert-base")
#: Rows with which low-rank LoRA fell behind full fine-tuning.
MANY_ROWS = _cited("instruction-rows")
#: Rank with which LoRA hardly fell behind on those rows.
HIGH_RANK = _cited("high-rank")
#: Highest rank that vLLM accepts by default.
VLLM_RANK = _cited("vllm-rank")
#: Bits to learn in a token, and bits that a parameter of LoRA holds.
BITS_A_TOKEN, BITS_A_PARAMETER = _cited("bits-a-token"), _cited("bits-a-parameter")
#: Parameters of the base from which Prompt Tuning comes near full fine-tuning.
PROMPT_SCALE = _cited("prompt-scale")
#: Prompt Tuning's other published rows: with a learning rate of 1e-3 instead of the default 1e-4, and with that
#: rate and a start from the vocabulary.
PROMPT_RATE = _right("prompt_tuning--llama-3.2-3B-lr_0.001")
PROMPT_VOCABULARY = _right("prompt_tuning--llama-3.2-3B-sample_vocab-lr_0.001")
#: Percent that adapters added to GPT-2 medium's forward pass, one row of 128 tokens, smaller and larger kind.
ADAPTER_LATENCY = _longer("gpt2-medium-one-adapter")
ADAPTER_LATENCY_MOST = _longer("gpt2-medium-two-adapters")


# They stand in ``content/tree/advice.yaml``, reasons that several of them give in ``reasons.yaml`` beside it.


# ----------------------------------------
# A leaf: a method with its configuration, the reasons for it, and the fallbacks if it does not work.
#
# Texts are templates; :mod:`peft_lab.advise.words` fills ``{name}`` with a figure of the situation, computed or
# cited there. Each reason carries its source.


CONTENT = Path(__file__).with_name("content") / "tree"
PROMPTING, RETRIEVAL, NOTHING = (
    "prompting",
    "retrieval",
    "none",
)  # outcomes that are no methods of the registry
UNTRAINED = (PROMPTING, RETRIEVAL, NOTHING)
ALL = ("all-linear",)
# Placeholders for the architecture's own names, see :meth:`Advice.knobs`.
QUERY_VALUE = ("query-value",)
KEYS, VALUE = ("keys",), ("value",)
#: Roles of a block whose linear map computes the keys, or the values.
_ROLES = {KEYS: ("k", "qkv"), VALUE: ("v", "qkv")}
_TITLES = {
    PROMPTING: "Prompting, no training", RETRIEVAL: "Retrieval, no training", NOTHING: "Another model or device",
}  # fmt: skip
_SHORT = {PROMPTING: "Prompting", RETRIEVAL: "Retrieval", NOTHING: "Does not fit", "full": "Full tuning"}


#: A citation, or what the lab did to find it out.
Origin = NewType("Origin", str)
#: A question and an answer.
When = NewType("When", tuple[str, str])


@dataclass(frozen=True)
class Reason:
    """A reason: its text, where it comes from, and which kind of source that is.

    Attributes:
        kind: ``None`` if the text follows from a definition: there is nothing to count or to cite.
        when: a question and the answer under which this is a reason; ``None`` if it always is. Advice also serves
            as a fallback, so not every reason holds wherever the advice is given.
    """

    text: str
    source: Origin
    kind: Source | None = Source.CITED
    when: When | None = None


@dataclass(frozen=True)
class Advice:
    """One piece of advice.

    Attributes:
        method: slug, or one of :data:`UNTRAINED`.
        values: knobs that differ from the method's defaults.
        reasons: why it is right where the tree leads to it.
        others: fallback advice, best first; the first that works is also the runner-up.
        instead: as the runner-up: when it is better than what was chosen.
        four: the same over a base in 4 bits, for where that trains faster; empty if there is none.
        named: its name in the drawing, if the method's name says too little.
    """

    id: str
    method: str
    reasons: tuple[Reason, ...]
    others: tuple[str, ...] = ()
    instead: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    named: str = ""
    four: str = ""

    @property
    def title(self) -> str:
        """Return the method's name, or what to do if no method is advised."""
        return _TITLES.get(self.method) or get_method(self.method).title

    @property
    def short(self) -> str:
        """Return its name in the drawing."""
        return self.named or _SHORT.get(self.method) or self.title

    def knobs(self, shape: ModelShape) -> dict[str, Any]:
        """Return the knobs for a model. As targets, ``query-value`` becomes LoRA's defaults, ``keys`` or ``value`` that
        map; all linear maps of a mixture of experts become every map but the router, and the experts' stacks. Raises
        BadInput if the advice names a map that the model does not have."""
        values = dict(self.values)
        named = values.get("target_modules")
        if named == QUERY_VALUE:
            values["target_modules"] = get_method("lora").defaults(shape)["target_modules"]
        usual = ALL if self.method == "qlora" else None
        if shape.mixtures and values.get("target_modules", usual) == ALL:
            values |= targets.every_map(shape)
        if named in _ROLES:
            block = shape.block
            role = next((role for role in _ROLES[named] if role in block), None)
            if role is None:
                raise BadInput(f"PEFT Lab finds no map of {named[0]} in {shape.title}.", "target_modules")
            values["target_modules"] = (shape.target_name(block[role]),)
        return values


@dataclass(frozen=True)
class _Own(Reason):
    """A reason that only one piece of advice gives, or one of ``reasons.yaml``, which has a name."""

    name: str = ""


def _origin(text: Any) -> Origin:
    """Return a citation for what begins with the name of a reference; else the text itself."""
    return Origin(cite(text) if str(text).partition(",")[0].isupper() else text)


def _when(stated: Any) -> When:
    if not isinstance(stated, Mapping) or len(stated) != 1:
        raise ValueError("it is one question with its answer: {tasks: many}")
    ((question, answer),) = stated.items()
    return When((question, str(answer)))


def _read_advice() -> dict[str, Advice]:
    converters: Converters = {Origin: _origin, When: _when}
    shared = read_table([CONTENT / "reasons.yaml"], _Own, "name", converters)

    def reason(stated: str | Reason) -> Reason:
        return by_name(shared, "reason in reasons.yaml")(stated) if isinstance(stated, str) else stated

    resolved: Converters = {**converters, Reason: Through(str | _Own, reason)}
    return read_table([CONTENT / "advice.yaml"], Advice, "id", resolved)


ADVICE: Mapping[str, Advice] = Table(_read_advice)


# ----------------------------------------
# Answers that follow from a model's shape.


def counted_answers(shape: ModelShape) -> dict[str, str]:
    """Return the answers that are counted on the model, by question."""
    return {
        "kind": shape.kind,
        "biases": "yes" if biased(shape) == len(_inside(shape)) else "no",
        "scale": "large" if shape.total >= PROMPT_SCALE.value else "small",
    }


def phrase(key: str, shape: ModelShape) -> str:
    """Return the count behind an answer, as a sentence without its full stop."""
    if key == "kind":
        return f"{shape.title} is {a_model(shape.kind)}"
    if key == "biases":
        return f"{biased(shape)} of the {len(_inside(shape))} linear maps in a layer of {shape.title} have biases"
    return f"{shape.title} has {units.short_count(shape.total)} parameters"


def _inside(shape: ModelShape) -> list[bool]:
    return [group.bias > 0 for group in shape.matrices if group.layers]


def biased(shape: ModelShape) -> int:
    """Return the number of linear maps in a layer that have a bias."""
    return sum(_inside(shape))


ROOT = "prompting"
#: Below this many rows, results depend on seeds more than on settings. The lab's own limit: the paper on
#: few-sample tuning has up to a thousand rows, the one on IA³ dozens, and neither names a limit.
FEW_ROWS = 1_000


@dataclass(frozen=True)
class TreeQuestion:
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
        """Return the source of the threshold that bounds an answer; empty if there is none or the lab chose it."""
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


QUESTIONS: Mapping[str, TreeQuestion] = Table(
    lambda: read_table([CONTENT / "questions.yaml"], TreeQuestion, "key")
)
NODES: Mapping[str, Node] = Table(lambda: read_table([CONTENT / "nodes.yaml"], Node, "id"))


def label(branch: Branch, question: TreeQuestion) -> str:
    """Return the text on a branch."""
    return branch.label or " or ".join(question.answers[value] for value in branch.values)


@dataclass(frozen=True)
class TreePlace:
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
def places() -> tuple[TreePlace, ...]:
    """Return all places of the tree, depth first, starting with the root."""
    return tuple(_below(ROOT, ()))


def _below(target: str, way: tuple[tuple[str, tuple[str, ...]], ...]) -> Iterator[TreePlace]:
    yield TreePlace(target, way)
    if target in NODES:
        for branch in NODES[target].branches:
            yield from _below(branch.to, (*way, (target, branch.values)))


# ----------------------------------------
# Example models and devices for answers that the lab finds itself: clicking on *encoder* picks one.
#
# The simulation's answers are stored with them, so that a click responds at once; a test checks them.


@dataclass(frozen=True)
class ExampleModel:
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
        found = {**counted_answers(shape), "base": self.base, "full": self.full}
        return all(found[key] in values for key, values in wanted.items())


EXAMPLES = read_entries(CONTENT.parent / "examples.yaml", ExampleModel)
FIRST_EXAMPLES = EXAMPLES[0]


def find_example(
    wanted: Mapping[str, tuple[str, ...]], model: str | None = None, device: str | None = None
) -> ExampleModel:
    """Return the first example with these answers and, where they are named, this ``model`` and ``device``.

    Without an example of that name one is made: its model is checked by counting, the rest left to simulation.

    Raises:
        BadInput: there is no such example and nothing is named, or the answers contradict the named model.
    """
    if model is not None:
        shape = resolve(model).shape
        found = counted_answers(shape)
        for key, values in wanted.items():
            if key in found and found[key] not in values:
                raise BadInput(f"{phrase(key, shape)}, so {key}={values[0]} is not true for this model.", key)
    for example in EXAMPLES:
        named = model in (None, example.model) and device in (None, example.device)
        if named and example.agrees(wanted):
            return example
    if model is not None or device is not None:
        return ExampleModel(model or FIRST_EXAMPLES.model, device or FIRST_EXAMPLES.device, "", "")
    asked = ", ".join(f"{key}={values[0]}" for key, values in wanted.items())
    raise BadInput(
        f"No example model matches these answers ({asked}). Name a model and a device.", next(iter(wanted))
    )
