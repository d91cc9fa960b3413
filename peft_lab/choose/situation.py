"""What a recommendation is asked for: a model, devices, and what only the person knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from peft_lab import units
from peft_lab.choose import examples
from peft_lab.choose.cited import MANY_ROWS
from peft_lab.choose.tree import FEW_ROWS, QUESTIONS
from peft_lab.errors import BadInput, UnknownName, echoed
from peft_lab.memory.devices import TAKEN, Device, devices, get_device, sold_as, spelt
from peft_lab.methods import get_method
from peft_lab.models import images
from peft_lab.models.catalogue import resolve
from peft_lab.models.shapes import ModelShape

BYTES = 4  # of a stored number: adapters are saved in float32
SIZE = re.compile(r"([0-9][0-9_,]{0,40}(?:\.[0-9]{1,40})?)\s*(b|kb|mb|gb|gib)?", re.IGNORECASE)
MOST = {
    "batch": 4096, "seq": 131_072, "tasks": 10**6, "rows": 10**10, "devices": 1024, "row_tokens": 131_072,
    "latency": 10**6, "deadline_hours": 10**6, "storage": 10**15,
}  # fmt: skip
MOST_GB = 100_000  # of a device: a hundred times the largest there is
LINKS = {"pcie": "PCIe", "nvlink": "NVLink"}
#: What encoders, which write no text, can be trained for.
OF_ENCODERS = ("classification", "extraction", "embedding", "cpt")


@dataclass(frozen=True)
class Situation:
    """Everything a recommendation depends on.

    Attributes:
        prompting: whether a prompt reaches the target already, or ``retrieval`` does.
        device: a name from the list of devices, or a size such as ``24GB``. devices: how many of it.
        link: what connects them, of :data:`LINKS`; empty where it is not known.
        batch: rows of one update over all devices, at least; ``None``: as many as the sources use. How many of them go
            through the model at once is searched. seq: tokens of a row there.
        rows, row_tokens: training data, and the tokens of a row on average; ``None``: as many as ``seq``.
        output: ``classification`` or ``generation``; empty for what suits the model.
        objective: what is trained, by the tree's question; empty for what suits the model and ``output``.
        latency: percent that a request may take longer than on the base; ``None`` without a limit.
        storage: bytes that one task may store; ``None`` without a limit.
        serving: ``vllm`` for servers of that kind, ``plain`` for code of one's own.
        forgetting: whether it matters what the model could do before.
        deadline_hours: how long the training may take; ``None`` without a limit.
    """

    prompting: str = "no"
    model: str = examples.FIRST.model
    device: str = examples.FIRST.device
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
    def purpose(self) -> str:
        """What is trained: as said, or what suits the model and its output."""
        return self.objective or ("classification" if self.comes_out == "classification" else "sft")

    @property
    def tokens(self) -> int:
        """Of the training data, each counted once."""
        return self.rows * (self.row_tokens or self.seq)

    @property
    def pairs(self) -> int:
        """Sequences that one row is: a preference compares two."""
        return 2 if self.purpose == "preference" else 1

    def check(self) -> Situation:
        """Itself. Raises BadInput for what contradicts itself, UnknownName for names that are none."""
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


#: What a word stands for. ``tight`` depends on the model and is worked out when it is known.
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
#: What the lab finds itself about a model on a device; how much there is to learn follows from the rows.
FOUND = tuple(key for key, question in QUESTIONS.items() if question.by != "you" and key != "amount")


def device_of(text: str) -> Device:
    """A device by name, or one that only has a size.

    Raises:
        UnknownName: no device and no size. BadInput: another unit, or a size with no room for a step.

    >>> device_of("24MB")
    Traceback (most recent call last):
    peft_lab.errors.BadInput: '24MB' is not a memory size; write it as 24GB.
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
    """What LoRA at its defaults stores on a model: the line between tight and roomy."""
    return stored_bytes(shape, "lora", {})


def stored_bytes(shape: ModelShape, method: str, values: Mapping[str, Any]) -> int:
    """Bytes of one task's parameters by the method's formula, without the file's header.

    Raises:
        BadInput: the method cannot be applied so.
    """
    spec = get_method(method)
    return spec.formula(shape, spec.require(shape, values)).stored * BYTES
