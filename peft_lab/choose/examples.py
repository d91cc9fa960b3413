"""Models and devices that stand for an answer which the lab finds itself: clicking on *encoder* takes one.

What the simulation says about each is noted here so that a click is answered at once; a test asks the simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peft_lab.choose import counted
from peft_lab.errors import BadInput
from peft_lab.models.catalogue import get_model, resolve


@dataclass(frozen=True)
class Example:
    """A model on a device, with the simulation's answers at the situation's usual batch and length."""

    model: str
    device: str
    base: str
    full: str
    devices: int = 1
    link: str = ""

    def agrees(self, wanted: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether the lab would find these answers."""
        shape = get_model(self.model).shape
        found = {**counted.answers(shape), "base": self.base, "full": self.full}
        return all(found[key] in values for key, values in wanted.items())


FIRST = Example("llama-3.2-3b", "rtx-4090", "sixteen", "no")
EXAMPLES = (
    FIRST,
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


def find(
    wanted: Mapping[str, tuple[str, ...]], model: str | None = None, device: str | None = None
) -> Example:
    """The first example for which the lab finds these answers; with ``model`` or ``device``, one that has them.

    A named model that no example has is checked by what is counted on it; what is simulated is left to the simulation.

    Raises:
        BadInput: no such example, or answers that contradict the named model.
    """
    if model is not None:
        shape = resolve(model).shape
        found = counted.answers(shape)
        for key, values in wanted.items():
            if key in found and found[key] not in values:
                raise BadInput(
                    f"{counted.phrase(key, shape)}, so {key}={values[0]} does not hold for it.", key
                )
    for example in EXAMPLES:
        named = model in (None, example.model) and device in (None, example.device)
        if named and example.agrees(wanted):
            return example
    if model is not None or device is not None:
        return Example(model or FIRST.model, device or FIRST.device, "", "")
    asked = ", ".join(f"{key}={values[0]}" for key, values in wanted.items())
    raise BadInput(f"No example model is like that ({asked}); name a model and a device.", next(iter(wanted)))
