"""Define the input and the result of a simulation: model, method, how a step is run, and the memory it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from peft_lab.core import limits
from peft_lab.core.content import read_entries
from peft_lab.core.errors import BadInput
from peft_lab.core.form import Form, choice, text, whole, yes_no
from peft_lab.core.later import torch
from peft_lab.engine import step
from peft_lab.engine.account import PARTS, MemoryPoint
from peft_lab.engine.devices import Device, read_device
from peft_lab.engine.work import Work

# ----------------------------------------
# How a step is simulated: its sizes, its optimizer, its device.


PRECISIONS = ("bfloat16", "float16", "float32")
#: Bytes of a number in each of them.
WIDTHS = {"bfloat16": 2, "float16": 2, "float32": 4}
#: How the cross entropy is computed: from all logits at once, or a few rows at a time (training/optimizers.py).
LOSSES = ("whole", "chunked")
#: Losses computed from the logits of the whole batch, which stay; the others have none at once.
LOSSES_FROM_LOGITS = ("whole", "trainer", "shifted", "litgpt")


#: Fields of a form that are fields of a step's setting.
_ASKED = ("batch", "seq", "optimizer", "offload", "precision", "adapter_dtype", *step.TITLES["switches"])
_ABOUT, _ASIDE = step.TITLES["switches"], step.TITLES["about"]
#: Formats that the base's linear layers can be packed in, by name.
PACKED_TITLES = {"int8": "8 bits (int8)", "nf4": "4 bits (NF4)", "fp4": "4 bits (FP4)"}


@dataclass(frozen=True)
class Precision:
    """How a step computes: the data type of weights that are not packed (``stored``; empty: as the base is stored) and
    in which ``torch.autocast`` multiplies (``autocast``; empty without it)."""

    name: str
    title: str
    stored: str = ""
    autocast: str = ""


#: The precisions of a step by name; the empty one computes in the data type in which the base is stored.
COMPUTING = {"": Precision("", "as the base is stored")} | {
    one.name: one for one in read_entries(Path(__file__).with_name("precisions.yaml"), Precision)
}
#: Float32 weights with products in 16 bits: by autocast, or with FSDP2 by its own policy.
MIXED = "mixed-fp32"


@dataclass(frozen=True)
class StepForm(Form):
    """A training step to simulate, as a page or a command asks for it."""

    model: str = text(
        "llama-3.2-3b", "Model", "Catalogue name, Hugging Face id or local path.", shared="model"
    )
    device: str = text(
        "rtx-4090", "Device", "A name from the device list, or a memory size such as 24GB.", reader=read_device,
        shared="device",
    )  # fmt: skip
    batch: int = whole(4, "Batch size", "Rows per training step.", least=1, most=limits.BATCH)
    seq: int = whole(512, "Tokens per row", "Tokens per row.", least=1, most=limits.SEQ)
    dtype: str = choice(
        "bfloat16", "The base is stored in", "How the base is stored: a precision, or packed.",
        {name: name for name in PRECISIONS} | PACKED_TITLES, noun="precision",
    )  # fmt: skip
    optimizer: str = choice(
        "adamw", "Optimizer", "The optimizer's states are part of the step's memory.", step.OPTIMIZER_TITLES
    )
    checkpointing: bool = yes_no(False, "Checkpointing", _ASIDE["checkpointing"])
    offload: bool = yes_no(False, "Offloading", _ASIDE["offload"])
    precision: str = choice(
        "", "Computes in", _ASIDE["precision"], {name: one.title for name, one in COMPUTING.items()}, noun="precision"
    )  # fmt: skip
    adapter_dtype: str = choice(
        "", "Adapters in", _ASIDE["adapter_dtype"],
        {"": "float32, PEFT's default", **{name: name for name in PRECISIONS}}, noun="precision of adapters",
    )  # fmt: skip
    compile: bool = yes_no(False, "torch.compile", _ABOUT["compile"])
    attention: str = choice("", "Attention", _ABOUT["attention"], step.TITLES["attentions"])
    loss: str = choice("whole", "Loss", _ABOUT["loss"], step.TITLES["losses"])
    recompute: str = choice(
        "", "Computed again", _ABOUT["recompute"], step.TITLES["recomputed"], read_when=("checkpointing", (True,))
    )  # fmt: skip
    updates: str = choice("", "Parameters are updated", _ABOUT["updates"], step.TITLES["updates"])
    norms: str = choice("", "RMSNorm", _ABOUT["norms"], step.TITLES["norms"])

    def rules(self) -> Iterator[BadInput]:
        """Yield what is wrong with the number of tokens."""
        if self.batch * self.seq > limits.TOKENS_IN_A_STEP:
            yield too_many_tokens(self.batch * self.seq, "batch")

    @property
    def setting(self) -> StepSetting:
        """Return the sizes and choices that do not depend on the model."""
        return StepSetting(**{name: getattr(self, name) for name in _ASKED})


def too_many_tokens(tokens: int, field: str) -> BadInput:
    """Return the error for a step of more tokens than can be simulated."""
    most = limits.TOKENS_IN_A_STEP
    return BadInput(f"One step would have {tokens:,} tokens. Choose at most {most:,}.", field)


@dataclass(frozen=True)
class StepSetting:
    """How the model is trained.

    Attributes:
        batch: rows. seq: tokens per row.
        padded: rows differ in length, so attention gets a mask; if False all rows are full and it gets none.
        optimizer: one of :data:`peft_lab.engine.step.OPTIMIZERS`.
        generate: rows and new tokens of a generation after the step.
        device: ``cuda`` or ``cpu``: which kernels run and how the optimizer iterates over its tensors.
        capability: compute capability of the GPU ((8, 9) for the L40S), for the size of workspaces.
        capacity: device memory in bytes, None for no limit.
        compile: layers and the loss run as ``torch.compile`` runs them (:mod:`peft_lab.engine.compiled`).
        attention, loss, recompute, updates, norms: of the lists in titles.yaml (:mod:`peft_lab.engine.switches`).
        packed: several rows are concatenated in each of ``seq`` tokens, and attention is told where they end.
        offload: tensors saved for the backward pass wait in main memory (training/optimizers.py).
        tags: of an encoder whose head labels every token, the number of labels; 0: the head labels the row.
        precision: one of :data:`COMPUTING`.
        adapter_dtype: data type of the parameters that the method adds; empty: as PEFT leaves them.
        accumulate: forward and backward passes per update, whose gradients stay until it.
        lengths: sorted tokens of a run's rows, to simulate what it reserves beside the step; empty: all have ``seq``.
    """

    batch: int
    seq: int
    padded: bool = False
    optimizer: str = "adamw"
    generate: tuple[int, int] | None = None
    device: str = "cuda"
    capability: tuple[int, int] = (8, 9)
    capacity: int | None = None
    loss: str = "whole"
    packed: bool = False
    offload: bool = False
    tags: int = 0
    precision: str = ""
    adapter_dtype: str = ""
    compile: bool = False
    attention: str = ""
    recompute: str = ""
    updates: str = ""
    norms: str = ""
    accumulate: int = 1
    lengths: tuple[int, ...] = ()

    def check(self) -> None:
        """Check the sizes and names. Raises BadInput if one is out of range or unknown, or two do not go together."""
        for name in _ASKED:
            StepForm.field(name).check(getattr(self, name))
        rows, new = self.generate or (1, 1)
        for value, most in ((rows, limits.BATCH), (new, limits.NEW_TOKENS)):
            if not 1 <= value <= most:
                raise BadInput(
                    f"The rows or new tokens of a generation must number from 1 to {most:,}, not {value:,}.",
                    "generate",
                )
        tokens = max(self.batch * self.seq, rows * (self.seq + new) if self.generate else 0)
        if tokens > limits.TOKENS_IN_A_STEP:
            raise too_many_tokens(tokens, "batch" if self.batch * self.seq == tokens else "generate")
        if self.updates and self.accumulate > 1:
            raise BadInput(
                "Updates during the backward pass are simulated only with one pass per update.", "updates"
            )
        if self.packed and (self.padded or self.generate is not None):
            other = "padding" if self.padded else "a generation"
            raise BadInput(f"Packed rows need no padding and have no cache: leave {other} out.", "packed")
        if self.loss not in LOSSES_FROM_LOGITS[:3] and self.generate is not None:
            raise BadInput(
                "A chunked loss stores no logits, but generation needs them. Choose one of the two.", "loss"
            )
        if self.attention == "flash" and self.padded:
            raise BadInput("Flash Attention packs padded rows; this packing is not simulated.", "attention")


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype of a training precision. Raises BadInput for other names."""
    if name not in PRECISIONS:
        raise BadInput(f"'{name}' is not a precision to train in. Known: {', '.join(PRECISIONS)}.", "dtype")
    found: torch.dtype = getattr(torch, name)
    return found


@dataclass(frozen=True)
class StepRequest:
    """One training step of one of the lab's methods (hashable): the ``model`` by name, id or path, the ``method`` and
    its knobs, the base's ``dtype`` or packed format (:data:`peft_lab.engine.simulate.PACKED`), and whether only the
    layers' inputs are kept (``checkpointing``)."""

    model: str
    method: str
    values: Mapping[str, Any] = field(hash=False)
    setting: StepSetting
    dtype: str = "bfloat16"
    checkpointing: bool = False

    def at(self, **changes: Any) -> StepRequest:
        """Return the same step with other fields of its setting."""
        return replace(self, setting=replace(self.setting, **changes))

    def on(self, device: Device) -> StepRequest:
        """Return the same step with the kernels of ``device``; its memory is not set as a limit."""
        return self.at(device=device.kind, capability=device.capability)


@dataclass(frozen=True)
class ConfigRequest:
    """One training step of any PEFT adapter config (None: full fine-tuning); the rest as in :class:`StepRequest`."""

    model: str
    adapter_config: Mapping[str, Any] | None = field(hash=False)
    setting: StepSetting
    dtype: str = "bfloat16"
    checkpointing: bool = False


# ----------------------------------------
# The result of a simulation, as plain data.


@dataclass(frozen=True)
class Reserved:
    """Bytes that PyTorch's allocator reserves at most over a run: the least, the median and the most of its orders."""

    low: int
    value: int
    high: int


@dataclass(frozen=True)
class OverRun:
    """What runs over rows of unequal length reserve (:mod:`peft_lab.engine.over_a_run`): as trainers run, and with
    another setting of the allocator or of the batches (``others``, by name); over ``orders`` of ``steps`` sampled of
    ``rows`` lengths."""

    reserved: Reserved
    others: Mapping[str, Reserved]
    steps: int
    orders: int
    seed: int
    rows: int
    longest: int

    @property
    def ways(self) -> dict[str, Reserved]:
        """Return what is reserved in all ways to run, by their titles."""
        return {"as usual": self.reserved} | {way.replace("_", " "): one for way, one in self.others.items()}

    @property
    def told(self) -> str:
        """Return how the runs were sampled, as text."""
        return (
            f"The least, the median and the most are taken over {self.orders} orders of {self.steps} steps. The rows "
            f"are drawn from {self.rows:,} lengths of up to {self.longest:,} tokens (seed {self.seed}). The other ways "
            "to run are simulated in the first order only."
        )


#: The parts that the command line names; the rest is ``other``.
OWN_NAMES = ("weights", "adapter", "gradients", "optimizer", "activations")


def peak_dict(result: Any) -> dict[str, Any]:
    """Return a simulated peak of :class:`Simulation` or on several devices, as the command line's JSON has it."""
    coarse = {name: result.parts[name] for name in OWN_NAMES}
    coarse["other"] = result.peak_bytes - sum(coarse.values())
    names = ("model", "method", "peak_bytes", "reserved_bytes")
    found = {**{name: getattr(result, name) for name in names}, "parts": coarse}
    if (over := getattr(result, "run", None)) is not None:
        found["step_reserved_bytes"], found["run"] = result.reserved_bytes, asdict(over)
        found["reserved_bytes"] = found["run"].pop("reserved")
    return found


def timeline_dicts(points: Iterable[MemoryPoint]) -> list[dict[str, Any]]:
    """Return the stretches of a step as the command line's JSON has them."""
    return [{"phase": p.phase, "bytes": p.nbytes, "layer": p.layer, "parts": p.parts} for p in points]


@dataclass(frozen=True)
class Simulation:
    """A training step's memory, simulated without weights.

    Attributes:
        peak_bytes: the most bytes of tensors alive at once on the device.
        reserved_bytes: the most that PyTorch's CUDA allocator would hold for them, workspaces and gaps included;
            ``nvidia-smi`` shows this and the driver's own context. None for a device without that allocator.
        parts: ``peak_bytes`` by purpose (:data:`PARTS`), all keys present.
        points: the last step, stretch by stretch.
        host_bytes: bytes in main memory: paged optimizer states, and what waits there for the backward pass.
        unrolled: whether the layers were alike, so that five of them represented all.
        seconds: the simulation's duration, without imports.
        work: the work of each step, the last one last.
        run: what runs over the setting's lengths reserve, if it has any.
    """

    model: str
    method: str
    peak_bytes: int
    reserved_bytes: int | None
    parts: dict[str, int]
    points: tuple[MemoryPoint, ...]
    host_bytes: int = 0
    unrolled: bool = False
    seconds: float = 0.0
    source: str = "simulated"
    work: tuple[Work, ...] = ()
    run: OverRun | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the command line's JSON: five parts and ``other``, and the finer parts under ``detail``."""
        return {
            **peak_dict(self),
            "detail": {name: self.parts[name] for name in PARTS},
            "timeline": timeline_dicts(self.points),
            "host_bytes": self.host_bytes,
            "source": self.source,
            "seconds": self.seconds,
        }


def largest(points: list[MemoryPoint]) -> MemoryPoint:
    """Return the point with the most bytes."""
    return max(points, key=lambda point: point.nbytes)
