"""A situation from text: words, numbers and sizes, as they stand in an address or behind ``--answer``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from peft_lab import units
from peft_lab.choose import examples
from peft_lab.choose.situation import FOUND, KEYS, MOST, SIZE, WORDS, Situation, device_of, lora_bytes
from peft_lab.choose.tree import QUESTIONS
from peft_lab.errors import BadInput, UnknownName
from peft_lab.memory.devices import GIB
from peft_lab.models.catalogue import looks_external, resolve
from peft_lab.models.shapes import ModelShape

SHARE_OF_LORA = 4  # ``tight`` stands for this part of what LoRA stores at its defaults
ALIASES = {
    "gpu": "device", "memory": "device", "gpus": "devices", "prompt": "prompting", "size": "storage",
    "deadline": "deadline_hours", "tokens_per_row": "row_tokens",
}  # fmt: skip
WORD_ONLY = ("prompting", "output", "objective", "serving", "forgetting", "link")
#: Names that are used for an objective.
MEANT = {
    "objective": {
        "instruction": "sft", "instructions": "sft", "summarisation": "sft", "summarization": "sft",
        "translation": "sft", "chat": "sft", "pretraining": "cpt", "continued": "cpt", "ner": "extraction",
        "tagging": "extraction", "retrieval": "embedding", "dpo": "preference", "grpo": "rl", "ppo": "rl",
        "rlhf": "rl", "reinforcement": "rl",
    },
    "forgetting": {"yes": "matters", "no": "ok"},
}  # fmt: skip
#: So short that none is infinite.
_SIGNED = re.compile(r"-[0-9][0-9_,.]{0,40}")
_DIGITS = re.compile(r"[0-9][0-9_,]{0,40}(\.[0-9]{1,40})?(e[0-9]{1,2})?")
_TIMES = re.compile(r"([0-9]{1,4})\s*[x×*]\s*(\S.*)", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "gib": GIB}


def parse(pairs: Iterable[tuple[str, str]]) -> tuple[Situation, dict[str, str]]:
    """The situation that ``key=value`` answers describe, and what they claim the lab would find.

    An answer to a question that the lab answers itself, such as ``biases=no``, chooses an example model or device
    where none is named, and is checked against the named one elsewhere.

    Raises:
        BadInput, UnknownName: a key or value that is none, twice the same key, or answers that contradict each other.
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
        example = examples.find(
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
    """Tokens of a training row in which the data's rows have room: the power of two above, as far as the model goes."""
    assert situation.row_tokens is not None
    room = 1 << (situation.row_tokens - 1).bit_length()
    return min(room, situation.shape.max_positions or MOST["seq"], MOST["seq"])


def read(start: Situation, told: Mapping[str, str]) -> Situation:
    """``start`` with fields as their texts say. Raises BadInput for a text that cannot be read."""
    values = {
        name: read_value(name, text) for name, text in told.items() if (name, text) != ("storage", "tight")
    }
    situation = replace(start, **values)
    if told.get("storage") == "tight":
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
