"""The leaves of the tree and their fallbacks: a method with its settings and the reasons for it.

They stand in ``content/tree/advice.yaml``, reasons that several of them give in ``reasons.yaml`` beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NewType

from peft_lab.advise.cited import PROMPT_SCALE
from peft_lab.core import units
from peft_lab.core.content import Converters, Table, Through, by_name, cite, read_table
from peft_lab.core.errors import BadInput
from peft_lab.core.units import Source
from peft_lab.methods import get_method
from peft_lab.methods.shared import targets
from peft_lab.models.shapes import ModelShape, a_model

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
_SHORT = {PROMPTING: "Prompting", RETRIEVAL: "Retrieval", NOTHING: "Too large", "full": "Full tuning"}


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
        named: its name in the drawing, if the method's name says too little.
    """

    id: str
    method: str
    reasons: tuple[Reason, ...]
    others: tuple[str, ...] = ()
    instead: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    named: str = ""

    @property
    def title(self) -> str:
        """Return the method's name, or what to do if no method is advised."""
        return _TITLES.get(self.method) or get_method(self.method).title

    @property
    def short(self) -> str:
        """Return its name in the drawing."""
        return self.named or _SHORT.get(self.method) or self.title

    def knobs(self, shape: ModelShape) -> dict[str, Any]:
        """Return the knobs for a model. ``query-value`` becomes LoRA's default targets, ``keys`` and ``value``
        the map of these; all linear maps of a mixture of experts: each but the router, and the experts' stacks.

        Raises:
            BadInput: the advice names a map that the model does not have.
        """
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
                raise BadInput(
                    f"{shape.title} has no map of {named[0]} that PEFT Lab recognises.", "target_modules"
                )
            values["target_modules"] = (shape.target_name(block[role]),)
        return values


@dataclass(frozen=True)
class _Own(Reason):
    """A reason that only one piece of advice gives."""


@dataclass(frozen=True, kw_only=True)
class _Shared(Reason):
    name: str


def _origin(text: Any) -> Origin:
    """Return a citation for what begins with the name of a reference; else the text itself."""
    return Origin(cite(text) if str(text).partition(",")[0].isupper() else text)


def _when(stated: Any) -> When:
    if not isinstance(stated, Mapping) or len(stated) != 1:
        raise ValueError("it is one question with its answer: {tasks: many}")
    ((question, answer),) = stated.items()
    return When((question, str(answer)))


def _plain(own: Reason) -> Reason:
    return Reason(own.text, own.source, own.kind, own.when)


def _read_advice() -> dict[str, Advice]:
    converters: Converters = {Origin: _origin, When: _when}
    shared = {
        name: _plain(reason)
        for name, reason in read_table([CONTENT / "reasons.yaml"], _Shared, "name", converters).items()
    }

    def reason(stated: str | Reason) -> Reason:
        return (
            by_name(shared, "reason in reasons.yaml")(stated) if isinstance(stated, str) else _plain(stated)
        )

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
