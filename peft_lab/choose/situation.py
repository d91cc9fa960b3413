"""What a recommendation is asked for: a model, a device, and what only the person knows; read from text and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from peft_lab import units
from peft_lab.choose import examples
from peft_lab.choose.cited import MANY_ROWS
from peft_lab.choose.tree import FEW_ROWS, QUESTIONS
from peft_lab.errors import BadInput, UnknownName
from peft_lab.memory.devices import GIB, TAKEN, Device, devices, get_device, sold_as
from peft_lab.methods import get_method
from peft_lab.models.catalogue import looks_external, resolve
from peft_lab.models.shapes import ModelShape

BYTES = 4  # of a stored number: adapters are saved in float32
SHARE_OF_LORA = 4  # ``tight`` stands for this part of what LoRA stores at its defaults
_DIGITS = re.compile(r"[0-9][0-9_,]*(\.[0-9]+)?(e[0-9]+)?")
_SIZE = re.compile(r"([0-9][0-9_,]*(?:\.[0-9]+)?)\s*(b|kb|mb|gb|gib)?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "gib": GIB}
_ALIASES = {"gpu": "device", "memory": "device", "prompt": "prompting", "size": "storage"}
MOST = {"batch": 4096, "seq": 131_072, "tasks": 10**6, "rows": 10**10}


@dataclass(frozen=True)
class Situation:
    """Everything a recommendation depends on.

    Attributes:
        prompting: whether a prompt reaches the target already.
        device: a name from the list of devices, or a size such as ``24GB``.
        batch, seq: rows of a training step and tokens of a row.
        output: ``classification`` or ``generation``; empty for what suits the model.
        latency: percent that a request may take longer than on the base; ``None`` without a limit.
        storage: bytes that one task may store; ``None`` without a limit.
    """

    prompting: str = "no"
    model: str = examples.FIRST.model
    device: str = examples.FIRST.device
    batch: int = 4
    seq: int = 512
    tasks: int = 1
    output: str = ""
    rows: int = 10_000
    latency: float | None = None
    storage: int | None = None

    @property
    def shape(self) -> ModelShape:
        """The model's shape."""
        return resolve(self.model).shape

    @property
    def hardware(self) -> Device:
        """The device, as the simulation knows it."""
        return device_of(self.device)

    @property
    def comes_out(self) -> str:
        """What the model puts out: as said, or what its kind is used for."""
        return self.output or ("classification" if self.shape.kind == "encoder" else "generation")

    @property
    def objective(self) -> str:
        """What the model is trained for, as recipes call it: a class is its own, text is an answer to a prompt."""
        return "classification" if self.comes_out == "classification" else "sft"

    def check(self) -> Situation:
        """Itself. Raises BadInput for what contradicts itself, UnknownName for names that are none."""
        self.hardware  # noqa: B018 (raises for an unknown name)
        shape = self.shape
        if shape.kind == "encoder" and self.output == "generation":
            raise BadInput(
                f"{shape.title} is an encoder and writes no text: choose output=classification or another model.",
                "output",
            )
        limit = shape.max_positions
        if limit is not None and self.seq > limit:
            raise BadInput(
                f"{shape.title} has {limit:,} positions, so rows of {self.seq:,} do not fit.", "seq"
            )
        return self


#: What a word stands for. ``tight`` depends on the model and is worked out when it is known.
WORDS: Mapping[str, Mapping[str, Any]] = {
    "prompting": {"yes": "yes", "no": "no"},
    "tasks": {"one": 1, "many": 20},
    "output": {"classification": "classification", "generation": "generation"},
    "rows": {"few": FEW_ROWS // 10, "some": 10_000, "many": int(MANY_ROWS.value)},
    "latency": {"strict": 0.0, "relaxed": None},
    "storage": {"roomy": None},
}
KEYS = tuple(field.name for field in fields(Situation))
FOUND = tuple(key for key, question in QUESTIONS.items() if question.by != "you")


def device_of(text: str) -> Device:
    """A device by name, or one that only has a size.

    Raises:
        UnknownName: no device and no size. BadInput: another unit, or a size with no room for a step.

    >>> device_of("24MB")
    Traceback (most recent call last):
    peft_lab.errors.BadInput: '24MB' is not a memory size; write it as 24GB.
    """
    match = _SIZE.fullmatch(text.strip())
    if text in devices():
        return get_device(text)
    if match is None or not match[2]:
        raise UnknownName("device", text, (*devices(), "or a size such as 24GB"), "device")
    if match[2].lower() not in ("gb", "gib"):
        raise BadInput(f"'{text}' is not a memory size; write it as 24GB.", "device")
    card = sold_as(text, float(match[1].replace(",", "").replace("_", "")))
    if card.memory <= 0:
        raise BadInput(
            f"A device with {text} has no memory left for training: the driver and its context take "
            f"{units.size(TAKEN)}.",
            "device",
        )
    return card


def lora_bytes(shape: ModelShape) -> int:
    """What LoRA at its defaults stores on a model: the line between tight and roomy."""
    return stored_bytes(shape, "lora", {})


def stored_bytes(shape: ModelShape, method: str, values: Mapping[str, Any]) -> int:
    """Bytes of one task's parameters by the method's formula, without the file's header.

    Raises:
        BadInput: the method cannot be applied so.
    """
    spec = get_method(method)
    return spec.formula(shape, spec.require(shape, values)).stored * BYTES


def parse(pairs: Iterable[tuple[str, str]]) -> tuple[Situation, dict[str, str]]:
    """The situation that ``key=value`` answers describe, and what they claim the lab would find.

    An answer to a question that the lab answers itself, such as ``biases=no``, chooses an example model or device
    where none is named, and is checked against the named one elsewhere.

    Raises:
        BadInput, UnknownName: a key or value that is none, twice the same key, or answers that contradict each other.
    """
    given: dict[str, str] = {}
    for key, value in pairs:
        name = _ALIASES.get(key.strip().lower(), key.strip().lower())
        if name not in KEYS and name not in FOUND:
            raise UnknownName("question", key, (*KEYS, *FOUND), "answer")
        if name in given:
            raise BadInput(f"'{name}' is answered twice; answer it once.", name)
        given[name] = value.strip()
    claims = {name: _found_word(name, given.pop(name)) for name in FOUND if name in given}
    if claims:
        example = examples.find(
            {key: (value,) for key, value in claims.items()}, given.get("model"), given.get("device")
        )
        given.setdefault("model", example.model)
        given.setdefault("device", example.device)
        if "kind" in claims and claims["kind"] == "encoder":
            given.setdefault("output", "classification")
    return read(Situation(), given).check(), claims


def read(start: Situation, given: Mapping[str, str]) -> Situation:
    """``start`` with fields as their texts say. Raises BadInput for a text that cannot be read."""
    values = {
        name: read_value(name, text) for name, text in given.items() if (name, text) != ("storage", "tight")
    }
    situation = replace(start, **values)
    if given.get("storage") == "tight":
        situation = replace(situation, storage=tight(situation.shape))
    return situation


def tight(shape: ModelShape) -> int:
    """A storage limit that stands for ``tight`` on this model."""
    return lora_bytes(shape) // SHARE_OF_LORA


def read_value(name: str, text: str) -> Any:
    """A field's value from its text: a word, a number, a size. Raises BadInput, UnknownName."""
    if name == "model":
        if not looks_external(text):
            resolve(text)
        return text
    if name == "device":
        return device_of(text) and text
    words = WORDS.get(name, {})
    if text in words:
        return words[text]
    if name in ("prompting", "output"):
        raise _no_value(name, text, words)
    if name == "storage":
        return _size(text)
    return _number(name, text, words)


def _number(name: str, text: str, words: Mapping[str, Any]) -> float | int:
    bare = text.removesuffix("%") if name == "latency" else text
    match = _DIGITS.fullmatch(bare.strip())
    if match is None:
        raise _no_value(name, text, words)
    value = float(bare.replace(",", "").replace("_", ""))
    if name == "latency":
        return value
    if value != int(value) or not 1 <= value <= MOST[name]:
        raise BadInput(f"{name} is a whole number from 1 to {MOST[name]:,}; '{text}' is not.", name)
    return int(value)


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    size = (
        float(match[1].replace(",", "").replace("_", "")) * _UNITS[(match[2] or "").lower()] if match else 0
    )
    if size < 1:
        message = (
            f"storage is tight, roomy or a size in bytes, such as 500000 or 0.5MB; '{text[:40]}' is not."
        )
        raise BadInput(message, "storage")
    return int(size)


def _no_value(name: str, text: str, words: Mapping[str, Any]) -> BadInput:
    more = "" if name in ("prompting", "output") else " or a number" if words else "a number"
    return BadInput(f"{name} is {', '.join(words)}{more}; '{text[:40]}' is not.", name)


def _found_word(name: str, text: str) -> str:
    answers = {**QUESTIONS[name].answers, **({"decoder": ""} if name == "kind" else {})}
    if text not in answers:
        raise BadInput(f"{name} is {', '.join(QUESTIONS[name].answers)}; '{text[:40]}' is not.", name)
    return "causal-lm" if text == "decoder" else text
