"""The input of a recommendation: a model, devices, and what only the user knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from peft_lab.advise import tree
from peft_lab.advise.cited import MANY_ROWS
from peft_lab.advise.recipes.job import OF_ENCODERS
from peft_lab.advise.tree import FEW_ROWS, QUESTIONS
from peft_lab.core import units
from peft_lab.core.errors import BadInput, UnknownName, echoed
from peft_lab.engine.devices import GIB, TAKEN, Device, devices, get_device, sold_as, spelt
from peft_lab.methods import get_method
from peft_lab.models import images
from peft_lab.models.catalogue import looks_external, resolve
from peft_lab.models.shapes import ModelShape

BYTES = 4  # of a stored number: adapters are saved in float32
SIZE = re.compile(r"([0-9][0-9_,]{0,40}(?:\.[0-9]{1,40})?)\s*(b|kb|mb|gb|gib)?", re.IGNORECASE)
MOST = {
    "batch": 4096, "seq": 131_072, "tasks": 10**6, "rows": 10**10, "devices": 1024, "row_tokens": 131_072,
    "latency": 10**6, "deadline_hours": 10**6, "storage": 10**15,
}  # fmt: skip
MOST_GB = 100_000  # of a device: a hundred times the largest there is
LINKS = {"pcie": "PCIe", "nvlink": "NVLink"}


@dataclass(frozen=True)
class Situation:
    """Everything a recommendation depends on.

    Attributes:
        prompting: whether a prompt alone reaches the target, or ``retrieval`` does.
        device: a name from the list of devices, or a size such as ``24GB``. devices: how many of it.
        link: what connects them, of :data:`LINKS`; empty if unknown.
        batch: minimum rows of one update over all devices; ``None``: as many as the sources use. How many go
            through the model at once is searched. seq: tokens of a row there.
        rows, row_tokens: training rows, and their average length in tokens; ``None``: as many as ``seq``.
        output: ``classification`` or ``generation``; empty: what suits the model.
        objective: the training goal, of the tree's question; empty: what suits the model and ``output``.
        latency: percent that a request may take longer than on the base; ``None`` without a limit.
        storage: bytes that one task may store; ``None`` without a limit.
        serving: ``vllm`` for servers of that kind, ``plain`` for one's own code.
        forgetting: ``matters`` if what the base model can do must not get worse, else ``ok``.
        deadline_hours: maximum training time in hours; ``None`` without a limit.
    """

    prompting: str = "no"
    model: str = tree.FIRST_EXAMPLES.model
    device: str = tree.FIRST_EXAMPLES.device
    batch: int | None = None
    seq: int = 512
    tasks: int = 1
    output: str = ""
    rows: int = 10_000
    latency: float | None = None
    storage: int | None = None
    devices: int = 1
    link: str = ""
    objective: str = ""
    row_tokens: int | None = None
    serving: str = "plain"
    forgetting: str = "ok"
    deadline_hours: float | None = None

    @property
    def shape(self) -> ModelShape:
        """Return the model's shape."""
        return resolve(self.model).shape

    @property
    def hardware(self) -> Device:
        """Return the device, as the simulation knows it."""
        return device_of(self.device)

    @property
    def comes_out(self) -> str:
        """Return the model's output: as given, or what models of its kind are used for."""
        return self.output or ("classification" if self.shape.kind == "encoder" else "generation")

    @property
    def purpose(self) -> str:
        """Return the training objective: as given, or what suits the model and its output."""
        return self.objective or ("classification" if self.comes_out == "classification" else "sft")

    @property
    def tokens(self) -> int:
        """Return the tokens of the training data, each counted once."""
        return self.rows * (self.row_tokens or self.seq)

    @property
    def pairs(self) -> int:
        """Return the number of sequences per row: two for a preference, else one."""
        return 2 if self.purpose == "preference" else 1

    def check(self) -> Situation:
        """Return the situation. Raises BadInput if it contradicts itself, UnknownName if a name is unknown."""
        self.hardware  # noqa: B018 (raises for an unknown name)
        shape = self.shape
        images.require_text(shape, "Choose")
        if shape.kind == "encoder" and self.output == "generation":
            raise BadInput(
                f"{shape.title} is an encoder and writes no text: choose output=classification or another model.",
                "output",
            )
        if shape.kind == "encoder" and self.objective and self.objective not in OF_ENCODERS:
            raise BadInput(
                f"{shape.title} is an encoder and writes no text: choose objective={', '.join(OF_ENCODERS)} or "
                "another model.",
                "objective",
            )
        if self.devices > 1 and self.hardware.kind != "cuda":
            raise BadInput("Several devices are several GPUs: name one with device=NAME or 24GB.", "devices")
        limit = shape.max_positions
        if limit is not None and self.seq > limit:
            raise BadInput(
                f"{shape.title} has {limit:,} positions, so rows of {self.seq:,} do not fit.", "seq"
            )
        return self


#: Values that words stand for. ``tight`` depends on the model and is computed once that is known.
WORDS: Mapping[str, Mapping[str, Any]] = {
    "prompting": {"yes": "yes", "no": "no", "retrieval": "retrieval"},
    "tasks": {"one": 1, "many": 20},
    "output": {"classification": "classification", "generation": "generation"},
    "rows": {"few": FEW_ROWS // 10, "some": 10_000, "many": int(MANY_ROWS.value)},
    "latency": {"strict": 0.0, "relaxed": None},
    "storage": {"roomy": None},
    "objective": {name: name for name in QUESTIONS["objective"].answers},
    "serving": {"plain": "plain", "vllm": "vllm"},
    "forgetting": {"ok": "ok", "matters": "matters"},
    "link": {name: name for name in LINKS},
}
KEYS = tuple(field.name for field in fields(Situation))
#: Questions that the lab answers from model and device; how much there is to learn follows from the rows.
FOUND = tuple(key for key, question in QUESTIONS.items() if question.by != "you" and key != "amount")


def device_of(text: str) -> Device:
    """Return a device by its name, or an unnamed device by its memory size.

    Raises:
        UnknownName: neither a device nor a size. BadInput: an unknown unit, or a size too large or too small.

    >>> device_of("24MB")
    Traceback (most recent call last):
    peft_lab.core.errors.BadInput: '24MB' is not a memory size; write it as 24GB.
    """
    match = SIZE.fullmatch(text.strip())
    known = spelt(text)
    if known is not None:
        return get_device(known)
    if match is None or not match[2]:
        raise UnknownName("device", text, (*devices(), "or a size such as 24GB"), "device")
    if match[2].lower() not in ("gb", "gib"):
        raise BadInput(f"'{echoed(text)}' is not a memory size; write it as 24GB.", "device")
    size = float(match[1].replace(",", "").replace("_", ""))
    if size > MOST_GB:
        raise BadInput(
            f"No device has {echoed(text)}: {MOST_GB:,} GB are the most that can be asked for.", "device"
        )
    card = sold_as(text, size)
    if card.memory <= 0:
        raise BadInput(
            f"A device with {text} has no memory left for training: the driver and its context take "
            f"{units.size(TAKEN)}.",
            "device",
        )
    return card


def lora_bytes(shape: ModelShape) -> int:
    """Return the bytes that LoRA at its defaults stores on a model: the threshold between tight and roomy."""
    return stored_bytes(shape, "lora", {})


def stored_bytes(shape: ModelShape, method: str, values: Mapping[str, Any]) -> int:
    """Return the bytes of one task's parameters by the method's formula, without the file's header.

    Raises:
        BadInput: the method cannot be applied to this model with these values.
    """
    spec = get_method(method)
    return spec.formula(shape, spec.require(shape, values)).stored * BYTES


# ----------------------------------------
# Read a situation from text: words, numbers and sizes, as in an address or after ``--answer``.


SHARE_OF_LORA = 4  # ``tight``: what LoRA stores at its defaults, divided by this
ALIASES = {
    "gpu": "device", "memory": "device", "gpus": "devices", "prompt": "prompting", "size": "storage",
    "deadline": "deadline_hours", "tokens_per_row": "row_tokens",
}  # fmt: skip
WORD_ONLY = ("prompting", "output", "objective", "serving", "forgetting", "link")
#: Other names for a field's values.
MEANT = {
    "objective": {
        "instruction": "sft", "instructions": "sft", "summarisation": "sft", "summarization": "sft",
        "translation": "sft", "chat": "sft", "pretraining": "cpt", "continued": "cpt", "ner": "extraction",
        "tagging": "extraction", "retrieval": "embedding", "dpo": "preference", "grpo": "rl", "ppo": "rl",
        "rlhf": "rl", "reinforcement": "rl",
    },
    "forgetting": {"yes": "matters", "no": "ok"},
}  # fmt: skip
#: Limited in length, so that no number overflows to infinity.
_SIGNED = re.compile(r"-[0-9][0-9_,.]{0,40}")
_DIGITS = re.compile(r"[0-9][0-9_,]{0,40}(\.[0-9]{1,40})?(e[0-9]{1,2})?")
_TIMES = re.compile(r"([0-9]{1,4})\s*[x×*]\s*(\S.*)", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "gib": GIB}


def parse(pairs: Iterable[tuple[str, str]]) -> tuple[Situation, dict[str, str]]:
    """Return the situation that ``key=value`` answers describe, and the answers that the lab would find itself.

    An answer to a question that the lab answers itself, such as ``biases=no``, selects an example model or device
    if none is named. Counted answers are checked against a named model here, simulated ones by the caller.

    Raises:
        BadInput, UnknownName: an unknown key or value, a repeated key, or answers that contradict each other.
    """
    told: dict[str, str] = {}
    for key, value in pairs:
        name = ALIASES.get(key.strip().lower(), key.strip().lower())
        if name == "retrieval" and value.strip() in ("yes", "no"):
            name, value = "prompting", {"yes": "retrieval"}.get(value.strip(), "no")
        if name not in KEYS and name not in FOUND:
            raise UnknownName("question", key, (*KEYS, *FOUND), "answer")
        if name in told:
            raise BadInput(f"'{name}' is answered twice; answer it once.", name)
        told[name] = value.strip()
    several = _TIMES.fullmatch(told.get("device", ""))
    if several is not None:
        if told.setdefault("devices", several[1]) != several[1]:
            raise BadInput(f"'{told['device']}' and devices={told['devices']} do not agree.", "devices")
        told["device"] = several[2]
    claims = {name: _found_word(name, told.pop(name)) for name in FOUND if name in told}
    if claims:
        example = tree.find_example(
            {key: (value,) for key, value in claims.items()}, told.get("model"), told.get("device")
        )
        told.setdefault("model", example.model)
        if "device" not in told and example.devices > 1:
            told.setdefault("devices", str(example.devices))
            told.setdefault("link", example.link)
        told.setdefault("device", example.device)
        if "kind" in claims and claims["kind"] == "encoder":
            told.setdefault("output", "classification")
    situation = read(Situation(), told)
    if situation.row_tokens is not None and "seq" not in told:
        situation = replace(situation, seq=_holding(situation))
    return situation.check(), claims


def _holding(situation: Situation) -> int:
    """Return the tokens that hold an average row: the next power of two, within the model's limit."""
    assert situation.row_tokens is not None
    room = 1 << (situation.row_tokens - 1).bit_length()
    return min(room, situation.shape.max_positions or MOST["seq"], MOST["seq"])


def read(start: Situation, told: Mapping[str, str]) -> Situation:
    """Return ``start`` with the fields that the texts give. Raises BadInput if a text cannot be read."""
    values = {
        name: read_value(name, text) for name, text in told.items() if (name, text) != ("storage", "tight")
    }
    situation = replace(start, **values)
    if told.get("storage") == "tight":
        situation = replace(situation, storage=tight(situation.shape))
    return situation


def tight(shape: ModelShape) -> int:
    """Return the storage limit in bytes that ``tight`` means for this model."""
    return lora_bytes(shape) // SHARE_OF_LORA


def read_value(name: str, text: str) -> Any:
    """Return a field's value from its text: a word, a number, a size. Raises BadInput, UnknownName."""
    if name == "model":
        if not looks_external(text):
            resolve(text)
        return text
    if name == "device":
        return device_of(text).name
    words = WORDS.get(name, {})
    text = MEANT.get(name, {}).get(text.lower(), text)
    if text in words:
        return words[text]
    if name in WORD_ONLY:
        raise _no_value(name, text, words)
    if name == "storage":
        return _size(text)
    return _number(name, text, words)


def _number(name: str, text: str, words: Mapping[str, Any]) -> float | int:
    bare = text.removesuffix("%") if name == "latency" else text
    match = _DIGITS.fullmatch(bare.strip())
    whole = name not in ("latency", "deadline_hours")
    if match is None and not (whole and _SIGNED.fullmatch(bare.strip())):
        raise _no_value(name, text, words)
    value = -1.0 if match is None else float(bare.replace(",", "").replace("_", ""))
    if name == "deadline_hours" and value <= 0:
        raise _no_value(name, text, words)
    if not whole:
        if value > MOST[name]:
            raise BadInput(f"{name} is at most {MOST[name]:,}; '{text[:40]}' is more.", name)
        return value
    if value != int(value) or not 1 <= value <= MOST[name]:
        raise BadInput(f"{name} is a whole number from 1 to {MOST[name]:,}; '{text[:40]}' is not.", name)
    return int(value)


def _size(text: str) -> int:
    match = SIZE.fullmatch(text)
    size = (
        float(match[1].replace(",", "").replace("_", "")) * _UNITS[(match[2] or "").lower()] if match else 0
    )
    if size < 1:
        message = (
            f"storage is tight, roomy or a size in bytes, such as 500000 or 0.5MB; '{text[:40]}' is not."
        )
        raise BadInput(message, "storage")
    if size > MOST["storage"]:
        most = units.size(MOST["storage"])
        raise BadInput(
            f"storage is at most {most} for a task; '{text[:40]}' is more. Leave it out for no limit.",
            "storage",
        )
    return int(size)


def _no_value(name: str, text: str, words: Mapping[str, Any]) -> BadInput:
    more = "" if name in WORD_ONLY else " or a number" if words else "a number"
    return BadInput(f"{name} is {', '.join(words)}{more}; '{text[:40]}' is not.", name)


def _found_word(name: str, text: str) -> str:
    answers = {**QUESTIONS[name].answers, **({"decoder": ""} if name == "kind" else {})}
    if text not in answers:
        raise BadInput(f"{name} is {', '.join(QUESTIONS[name].answers)}; '{text[:40]}' is not.", name)
    return "causal-lm" if text == "decoder" else text
