"""Define the input of a recommendation: a model, devices, and what only the user knows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from peft_lab.advise import tree
from peft_lab.advise.recipes.rules import OF_ENCODERS
from peft_lab.advise.tree import ADAPTER_LATENCY, FEW_ROWS, MANY_ROWS, QUESTIONS
from peft_lab.core import limits
from peft_lab.core.errors import BadInput, UnknownName, echoed
from peft_lab.core.form import Form, choice, number, text, whole
from peft_lab.engine.devices import GIB, SIZE, Device, device_of, read_device
from peft_lab.methods import get_method
from peft_lab.models import images
from peft_lab.models.catalogue import looks_external, resolve
from peft_lab.models.shapes import ModelShape

BYTES = 4  # of a stored number: adapters are saved in float32
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "gib": GIB}
LINKS = {"pcie": "PCIe", "nvlink": "NVLink"}


def read_size(text: str) -> int:
    """Return the bytes that a text such as ``500000`` or ``0.5MB`` states. Raises BadInput for other texts."""
    match = SIZE.fullmatch(text)
    if match is None:
        raise BadInput(
            f"storage is tight, roomy or a size in bytes, such as 500000 or 0.5MB; '{echoed(text)}' is not."
        )
    return int(float(match[1].replace(",", "").replace("_", "")) * _UNITS[(match[2] or "").lower()])


def read_model(text: str) -> str:
    """Return a model's name. Raises UnknownName if it can only be one of the catalogue's and is none."""
    if not looks_external(text):
        resolve(text)
    return text


HOUR = 3600.0


def hours_left(deadline: str, now: datetime | None = None) -> float | None:
    """Return the hours to a deadline; ``None`` without one. Raises BadInput if it is invalid or past."""
    if not deadline:
        return None
    try:
        left = float(deadline)
    except ValueError:
        try:
            moment = datetime.fromisoformat(deadline)
        except ValueError:
            raise BadInput(
                f"'{deadline[:40]}' is neither hours, such as 12, nor a date and time, such as 2026-11-27T08:00.",
                "deadline",
            ) from None
        start = now or datetime.now(moment.tzinfo)
        left = (moment - start).total_seconds() / HOUR
    if not math.isfinite(left):
        raise BadInput(f"'{deadline[:40]}' is not a time.", "deadline")
    if left > limits.HOURS:
        raise BadInput(
            f"A deadline is at most {limits.HOURS:,} hours away: give an earlier one, or none.", "deadline"
        )
    if left <= 0:
        raise BadInput("The deadline has passed: give hours from now, or a later date and time.", "deadline")
    return left


def read_deadline(text: str) -> str:
    """Return a deadline, checked. Raises BadInput if it is invalid or past."""
    hours_left(text)
    return text


@dataclass(frozen=True)
class Situation(Form):
    """Everything a recommendation depends on. Some defaults depend on the model, and are then ``None`` or empty."""

    prompting: str = choice(
        "no", "Is training needed?", "Whether a prompt, or retrieval, already reaches the target.",
        {"no": "Yes", "yes": "No: a prompt is enough", "retrieval": "No: retrieval is enough"},
    )  # fmt: skip
    model: str = text(
        tree.FIRST_EXAMPLES.model, "Model", "Catalogue name, Hugging Face id or local path.",
        reader=read_model, shared="model",
    )  # fmt: skip
    device: str = text(
        tree.FIRST_EXAMPLES.device, "Device", "A name from the list of devices, or a size such as 24GB.",
        reader=read_device, shared="device",
    )  # fmt: skip
    batch: int | None = whole(
        None, "Least rows per update",
        "Rows per optimizer step, over all devices. If the sources recommend more, their number is used. PEFT Lab "
        "then finds how many of these rows a device can process at once.",
        least=1, most=limits.BATCH, empty="as in the sources",
    )  # fmt: skip
    seq: int = whole(
        512, "Maximum length", "In tokens. Longer rows are cut.",
        least=1, most=limits.SEQ, shared="seq",
    )  # fmt: skip
    tasks: int = whole(
        1, "Tasks per base", "How many tasks or customers share one base model.",
        least=1, most=limits.TASKS, words={"one": 1, "many": 20},
    )  # fmt: skip
    output: str = choice(
        "", "Output", "What the model outputs. By default, the usual output of this type of model.",
        {"": "Recommended", "classification": "classification", "generation": "generation"},
    )  # fmt: skip
    rows: int = whole(
        10_000, "Training rows", "How many clean examples there are for one task.",
        least=1, most=limits.ROWS, shared="rows",
        words={"few": FEW_ROWS // 10, "some": 10_000, "many": int(MANY_ROWS.value)},
    )  # fmt: skip
    latency: float | None = number(
        None, "Extra latency allowed, %",
        "How much longer a request may take than with the base model alone. In a published measurement, adapters "
        f"added {ADAPTER_LATENCY}. A limit below this counts as No.",
        least=0, most=limits.LATENCY_PERCENT, empty="no limit", noun="latency",
        words={"strict": 0.0, "relaxed": None}, unit="%",
    )  # fmt: skip
    storage: int | None = whole(
        None, "Storage per task, bytes",
        "How much storage one task may take. Tight means less storage than LoRA takes with its default settings.",
        least=1, most=limits.STORAGE, noun="storage",
        empty="no limit", words={"roomy": None}, reader=read_size,
    )  # fmt: skip
    devices: int = whole(
        1,
        "How many",
        "How many devices train together.",
        least=1,
        most=limits.DEVICES,
        noun="devices",
        shared="devices",
    )
    link: str = choice(
        "", "Connected by", "What connects the devices.", {"": "Not known", **LINKS}, shared="link"
    )
    objective: str = choice(
        "", "What it should learn", "What the model should learn.",
        {"": "Recommended", **QUESTIONS["objective"].answers}, shared="objective", spellings={
            "instruction": "sft", "instructions": "sft", "summarisation": "sft", "summarization": "sft",
            "translation": "sft", "chat": "sft", "pretraining": "cpt", "continued": "cpt", "ner": "extraction",
            "tagging": "extraction", "retrieval": "embedding", "dpo": "preference", "grpo": "rl", "ppo": "rl",
            "rlhf": "rl", "reinforcement": "rl",
        },
    )  # fmt: skip
    row_tokens: int | None = whole(
        None, "Average length", "Tokens per row, on average. Rows times tokens is the amount of data to learn from.",
        least=1, most=limits.SEQ, empty="as the maximum", shared="row_tokens",
    )  # fmt: skip
    serving: str = choice(
        "plain",
        "Served by",
        "Which software answers requests after training.",
        {"plain": "Own code", "vllm": "vLLM or similar"},
    )
    forgetting: str = choice(
        "ok", "Earlier skills", "Whether the base model's earlier skills may get worse.",
        {"ok": "May get worse", "matters": "Has to stay"}, spellings={"yes": "matters", "no": "ok"},
    )  # fmt: skip
    deadline: str = text(
        "", "Must be done in", "Hours from now, such as 12, or a date and time, such as 2026-11-27T08:00.",
        reader=lambda text: read_deadline(text), shared="deadline",
    )  # fmt: skip

    @property
    def shape(self) -> ModelShape:
        """Return the model's shape."""
        return resolve(self.model).shape

    @property
    def hardware(self) -> Device:
        """Return the device, as the simulation knows it."""
        return device_of(self.device)

    @property
    def deadline_hours(self) -> float | None:
        """Return the hours left, to a moment in tenths, which keeps answers cached; ``None`` without a valid one."""
        with suppress(BadInput):
            left = hours_left(self.deadline)
            plain = left is None or self.deadline.strip().replace(".", "", 1).isdecimal()
            return left if plain else max(math.floor((left or 0) * 10) / 10, 0.01)
        return None

    @property
    def timed(self) -> Self:
        """Return the situation with its deadline in hours left, in place of a moment."""
        left = self.deadline_hours
        return self if left is None else replace(self, deadline=f"{left:g}")

    @property
    def purpose(self) -> str:
        """Return the training objective: as given, or what suits the model and its output, which may be given too."""
        usual = "classification" if self.shape.kind == "encoder" else "generation"
        return self.objective or ("classification" if (self.output or usual) == "classification" else "sft")

    @property
    def tokens(self) -> int:
        """Return the tokens of the training data, each counted once."""
        return self.rows * (self.row_tokens or self.seq)

    @property
    def pairs(self) -> int:
        """Return the number of sequences per row: two for a preference, else one."""
        return 2 if self.purpose == "preference" else 1

    def rules(self) -> Iterator[BadInput]:
        """Yield contradictions and what the model or the device does not allow."""
        known: list[Any] = []
        for look in (lambda: self.hardware, lambda: images.require_text(self.shape, "Choose")):
            try:
                known.append(look())
            except BadInput as error:
                yield error
        try:
            hours_left(self.deadline)
        except BadInput as error:
            yield error
        if len(known) < 2:
            return
        shape = self.shape
        if shape.kind == "encoder" and self.output == "generation":
            yield BadInput(
                f"{shape.title} is an encoder and writes no text. Choose output=classification or another model.",
                "output",
            )
        if shape.kind == "encoder" and self.objective and self.objective not in OF_ENCODERS:
            yield BadInput(
                f"{shape.title} is an encoder and writes no text. Choose objective={', '.join(OF_ENCODERS)} or "
                "another model.",
                "objective",
            )
        if self.devices > 1 and self.hardware.kind != "cuda":
            yield BadInput(
                "Several devices must be several GPUs. Name one with device=NAME or 24GB.", "devices"
            )
        limit = shape.max_positions
        if limit is not None and self.seq > limit:
            short = BadInput(
                f"{shape.title} has {limit:,} positions, too few for rows of {self.seq:,}.", "seq"
            )
            short.nearest = limit
            yield short


#: Words that stand for values, by field. ``tight`` depends on the model and is computed once that is known.
WORDS: Mapping[str, Mapping[str, Any]] = {
    name: dict(field.words) or {value: value for value in field.titles if value}
    for name, field in Situation.fields().items()
    if field.words or field.kind == "choice"
}
KEYS = tuple(Situation.fields())
#: Questions whose answers also follow from the rows: how much there is to learn, and what trains faster.
FOLLOWING = ("amount", "quicker")
#: Questions that the lab answers from model and device.
FOUND = tuple(key for key, question in QUESTIONS.items() if question.by != "you" and key not in FOLLOWING)


def most_tokens(model: str) -> int:
    """Return the maximum tokens per row. Unknown models get the lab's limit; ``check`` reports them."""
    with suppress(BadInput):
        return resolve(model).shape.max_positions or limits.SEQ
    return limits.SEQ


def holding(model: str, tokens: int) -> int:
    """Return the tokens that hold an average row: the next power of two, within the model's limit."""
    return min(1 << max(tokens - 1, 0).bit_length(), most_tokens(model))


def lora_bytes(shape: ModelShape) -> int:
    """Return the bytes that LoRA at its defaults stores on a model: the threshold between tight and roomy."""
    return stored_bytes(shape, "lora", {})


def stored_bytes(shape: ModelShape, method: str, values: Mapping[str, Any]) -> int:
    """Return the bytes of one task's parameters by the method's formula, without the file's header. Raises BadInput if
    the method cannot be applied to this model with these values."""
    spec = get_method(method)
    return spec.formula(shape, spec.require(shape, values)).stored * BYTES


# ----------------------------------------
# Read a situation from text: words, numbers and sizes, as in an address or after ``--answer``.


SHARE_OF_LORA = 4  # ``tight``: what LoRA stores at its defaults, divided by this
RENAMED = {"deadline_hours": "deadline"}  # names in older addresses
ALIASES = {
    "gpu": "device", "memory": "device", "gpus": "devices", "prompt": "prompting", "size": "storage",
    "tokens_per_row": "row_tokens", **RENAMED,
}  # fmt: skip
_TIMES = re.compile(r"([0-9]{1,4})\s*[x×*]\s*(\S.*)", re.IGNORECASE)


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
            raise BadInput(
                f"'{told['device']}' and devices={told['devices']} contradict each other.", "devices"
            )
        told["device"] = several[2]
    claims = {name: _known_answer(name, told.pop(name)) for name in FOUND if name in told}
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
    situation = _read(told)
    if situation.row_tokens is not None and "seq" not in told:
        situation = replace(situation, seq=holding(situation.model, situation.row_tokens))
    return situation.check(), claims


def _read(told: Mapping[str, str]) -> Situation:
    """Return the situation that texts give. Raises BadInput if a text cannot be read."""
    texts = {name: text for name, text in told.items() if (name, text) != ("storage", "tight")}
    situation, wrong = Situation.read(texts)
    for error in wrong.values():
        raise error
    return replace(situation, storage=tight(situation.shape)) if told.get("storage") == "tight" else situation


def tight(shape: ModelShape) -> int:
    """Return the storage limit in bytes that ``tight`` means for this model."""
    return lora_bytes(shape) // SHARE_OF_LORA


def _known_answer(name: str, text: str) -> str:
    answers = {**QUESTIONS[name].answers, **({"decoder": ""} if name == "kind" else {})}
    if text not in answers:
        raise BadInput(f"{name} must be {', '.join(QUESTIONS[name].answers)}; '{text[:40]}' is not.", name)
    return "causal-lm" if text == "decoder" else text
