"""What a leaf is: a method with its configuration, the reasons for it, and what comes next when it cannot be.

Texts are templates; ``{name}`` is filled by :mod:`peft_lab.choose.words` with figures of the situation, each
computed or cited there. Reasons carry what they rest on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peft_lab.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.shared import experts
from peft_lab.models.shapes import ModelShape
from peft_lab.units import Source

PROMPTING, RETRIEVAL, NOTHING = (
    "prompting",
    "retrieval",
    "none",
)  # outcomes that are no method of the registry
UNTRAINED = (PROMPTING, RETRIEVAL, NOTHING)
ALL = ("all-linear",)
# These stand for the architecture's own names, see :meth:`Advice.knobs`.
QUERY_VALUE = ("query-value",)
KEYS, VALUE = ("keys",), ("value",)
#: Roles of the block whose map has the keys, or the values, in it.
_ROLES = {KEYS: ("k", "qkv"), VALUE: ("v", "qkv")}
_TITLES = {
    PROMPTING: "Prompting, no training", RETRIEVAL: "Retrieval, no training", NOTHING: "Another model or device",
}  # fmt: skip
_SHORT = {PROMPTING: "Prompting", RETRIEVAL: "Retrieval", NOTHING: "Too large", "full": "Full tuning"}


@dataclass(frozen=True)
class Reason:
    """Why: a text, where it comes from, and which kind of source that is.

    Attributes:
        kind: ``None`` for what follows from a definition: there is nothing to count or to cite.
        when: a question and the answer with which alone this is a reason; ``None`` for a reason that always is one.
            Advice is also what others fall back on, so not every reason holds wherever the advice is given.
    """

    text: str
    source: str
    kind: Source | None = Source.CITED
    when: tuple[str, str] | None = None


@dataclass(frozen=True)
class Advice:
    """One piece of advice.

    Attributes:
        method: slug, or one of :data:`UNTRAINED`.
        values: knobs that differ from the method's defaults.
        reasons: why it is right where the tree leads to it.
        others: advice to fall back on, best first; the first that can be is also the runner-up.
        instead: when it is better than what was chosen, as the runner-up's text.
        named: as it stands in the drawing, where the method's name says too little.
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
        """The method's name, or what to do when no method is advised."""
        return _TITLES.get(self.method) or get_method(self.method).title

    @property
    def short(self) -> str:
        """As it stands in the drawing."""
        return self.named or _SHORT.get(self.method) or self.title

    def knobs(self, shape: ModelShape) -> dict[str, Any]:
        """The values for a model: ``query-value`` is what LoRA adapts there by default, ``keys`` its map of keys; every
        linear map of a mixture of experts is each but its router, and the experts' stacks.

        Raises:
            BadInput: a model without such a map, where the advice names it.
        """
        values = dict(self.values)
        named = values.get("target_modules")
        if named == QUERY_VALUE:
            values["target_modules"] = get_method("lora").defaults(shape)["target_modules"]
        usual = ALL if self.method == "qlora" else None
        if shape.mixtures and values.get("target_modules", usual) == ALL:
            values |= experts.every_map(shape)
        if named in _ROLES:
            block = shape.block
            role = next((role for role in _ROLES[named] if role in block), None)
            if role is None:
                raise BadInput(
                    f"{shape.title} has no map of {named[0]} that PEFT Lab recognises.", "target_modules"
                )
            values["target_modules"] = (shape.target_name(block[role]),)
        return values
