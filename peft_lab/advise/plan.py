"""Make a plan: every setting with its value, the range that sources allow, and its source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from peft_lab.advise.recipes.recipe import LAB, TOLD, RecipeSetting, rate_for, recipe
from peft_lab.advise.recipes.rules import ADAFACTOR, ADAMW, CONTENT, PAGED, Job
from peft_lab.advise.room import (
    BFLOAT16,
    UPDATES,
    Room,
    answers,
    job_of,
    negatives,
    readers,
    training_seconds,
)
from peft_lab.advise.simulating import TENSOR, Step, splits
from peft_lab.advise.situation import Situation, stored_bytes
from peft_lab.advise.tree import FEW_ROWS, UNTRAINED, Advice
from peft_lab.core import references as src
from peft_lab.core import units
from peft_lab.core.content import read_entries, read_entry
from peft_lab.core.units import Source, several
from peft_lab.engine.request import COMPUTING, Reserved
from peft_lab.engine.timing.estimate import told_unseen
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue

SEEDS = (3, 5)
#: Why adapters are in float32 by default.
_KEEPS = read_entry(CONTENT / "notes.yaml", dict[str, str])["keeps"]


@dataclass(frozen=True)
class StepPlan:
    """The complete configuration: knobs, how a step is run, what it needs, and every setting with its source.

    Attributes:
        batch: rows on each device at once. accumulate: passes whose gradients are summed for one update.
        needed_bytes, memory_bytes: on each device.
        seconds: lower and upper estimate for the whole training; ``None`` if the device's speed is unknown. Split
            matrices and mixtures of experts are not estimated by counting either.
        packed: whether several data rows share each row of a step. offload: whether what the backward pass needs
            waits in main memory.
        dtype: in which the script multiplies. remembered: in which it stores the weights that are not packed.
        precision, adapter_dtype: as requested; empty for the script's own.
        over: what runs over rows of unequal length reserve, if that was simulated.
    """

    values: Mapping[str, Any]
    batch: int
    seq: int
    checkpointing: bool
    accumulate: int
    learning_rate: float
    needed_bytes: int
    memory_bytes: int
    trainable: int
    stored_bytes: int
    optimizer: str = "adamw"
    dtype: str = "bfloat16"
    remembered: str = "bfloat16"
    sharding: str = "none"
    devices: int = 1
    host_bytes: int = 0
    seconds: tuple[float, float] | None = None
    loss: str = "whole"
    packed: bool = False
    offload: bool = False
    precision: str = ""
    adapter_dtype: str = ""
    over: Reserved | None = None
    settings: Mapping[str, RecipeSetting] = field(default_factory=dict)

    @property
    def headroom(self) -> float:
        """Return the share of a device's memory that stays free."""
        return 1 - self.needed_bytes / self.memory_bytes

    @property
    def split(self) -> bool:
        """Return whether each device holds only a share of the model."""
        return splits(self.sharding)

    @property
    def mixed(self) -> bool:
        """Return whether the weights are stored in another precision than the products."""
        return self.remembered == "float32" != self.dtype

    @property
    def autocast(self) -> bool:
        """Return whether the forward pass runs under autocast. FSDP2 gathers float32 weights in 16 bits instead."""
        asked = self.precision.startswith("autocast")
        return asked or (self.mixed and not self.sharding.startswith("fsdp2"))

    @property
    def group(self) -> int:
        """Return the number of answers per prompt that are trained on; 1 where a row has its own."""
        return answers(self.settings)

    @property
    def readers(self) -> int:
        """Return the number of devices that read rows of their own."""
        return readers(self.sharding, self.devices)


def make(situation: Situation, room: Room, advice: Advice, step: Step) -> StepPlan:
    """Return the plan for advice whose step fits. Raises BadInput if the method cannot be applied."""
    shape, spec = situation.shape, get_method(advice.method)
    values = spec.require(shape, advice.knobs(shape))
    device = situation.hardware
    asked = COMPUTING[step.precision]
    half = "float16" if device.kind == "cuda" and device.capability < BFLOAT16 else "bfloat16"
    half = asked.autocast or asked.stored or half
    values = {name: half if value == "bfloat16" else value for name, value in values.items()}
    reading = readers(step.sharding, room.devices)
    if reading < situation.devices:
        situation = replace(situation, devices=reading)
    found = recipe(job_of(situation, advice.method, values, dtype=half, checkpointing=step.checkpointing))
    said = dict(found.settings)
    wanted = max(situation.batch or 1, int(said["batch"].value))
    group = answers(said)
    at_once = step.batch * reading * (situation.rows / room.packed if room.packed else 1)
    most = max(situation.rows * group // UPDATES, group)
    accumulate = max(1, min(ceil(wanted / at_once), int(most // at_once)))
    if advice.method == "full" and step.accumulate == 1:
        accumulate = 1  # there is no room for the gradients of an earlier pass
    read = round(accumulate * at_once)
    if read != said["batch"].value:
        found = recipe(replace(found.job, batch=read))
        said |= {name: found[name] for name in ("learning_rate", "epochs", "steps")}
    settings = _settled(situation, advice, step, said, values, accumulate, read)
    if room.optimizer:
        settings |= _with_optimizer(room.optimizer, settings, found.job)
    tokens = float(settings["epochs"].value) * situation.tokens * situation.pairs * group
    return StepPlan(
        values=values,
        batch=step.batch,
        seq=situation.seq,
        checkpointing=step.checkpointing,
        accumulate=accumulate,
        learning_rate=float(settings["learning_rate"].value),
        needed_bytes=step.needed,
        memory_bytes=room.memory,
        trainable=spec.formula(shape, values).trainable,
        stored_bytes=stored_bytes(shape, advice.method, values),
        optimizer=step.optimizer,
        dtype=half,
        remembered=step.dtype if advice.method == "full" or step.precision else half,
        sharding=step.sharding,
        devices=room.devices,
        host_bytes=step.host,
        seconds=None
        if step.sharding == TENSOR
        else training_seconds(situation, advice.method, values, step, room.devices, tokens),
        loss=step.loss,
        offload=step.offload,
        precision=step.precision,
        adapter_dtype=step.adapter_dtype,
        over=step.over,
        settings=settings,
    )


def _settled(
    situation: Situation,
    advice: Advice,
    step: Step,
    said: Mapping[str, RecipeSetting],
    values: Mapping[str, Any],
    accumulate: int,
    read: int,
) -> dict[str, RecipeSetting]:
    """Return the recipe's settings, with those that memory and the plan decide replaced and the rest added.

    ``read``: rows of the data in an update.
    """
    how, group, cited = "Simulated training step", answers(said), str(Source.CITED)
    devices, batch = situation.devices, said["batch"]
    settled = {
        "batch": _own("batch", step.batch, f"{how}: {_at_once(situation, step, accumulate)}"),
        "accumulation": replace(
            batch, name="accumulation", value=accumulate, kind=str(Source.COUNTED), agreeing=(),
            why=f"{step.batch} × {f'{devices} × ' if devices > 1 else ''}{accumulate} "
            f"{f'answers for one update, {group:,} per prompt' if group > 1 else 'rows for one update'}"
            f"{f', which contain about {read} rows of the data' if step.packed else ''}; "
            "the usual range is for this number.",
        ),
        "optimizer": _optimizer(step, said["optimizer"], how),
        "quantization": _own("quantization", "nf4", f"QLoRA's own: {src.QLORA}, section 3.", cited)
        if advice.method == "qlora"
        else _own("quantization", "none", f"{how}: the base fits in 16 bits."),
        "sharding": _own("sharding", step.sharding, _shared(step, devices)),
    }  # fmt: skip
    if step.loss == "chunked":
        chunks = "the logits do not fit all at once, so the loss is computed a few rows at a time"
        settled["loss"] = _own("loss", step.loss, f"{how}: {chunks} (torch's linear_cross_entropy).")
    if step.precision:
        title = COMPUTING[step.precision].title
        settled["dtype"] = replace(said["dtype"], why=f"As you set it: {title}.", kind=TOLD, agreeing=())
    if advice.method not in ("full", "bitfit"):  # they add no parameters
        asked = (
            (step.adapter_dtype, "As you set it.", TOLD) if step.adapter_dtype else ("float32", _KEEPS, LAB)
        )
        settled["adapter_dtype"] = _own("adapter_dtype", *asked)
    if step.offload:
        waits = "activations do not fit, so they are copied to main memory and back"
        settled["activations"] = _own("activations", "main memory", f"{how}: {waits}.")
    if advice.method == "full":
        lost = f"{how}: float32 does not fit. Small updates are rounded away: {src.PURE_BF16}."
        kept = f"{how}: weights are stored in float32. {src.MIXED}, section 3.1."
        settled["master_weights"] = _own(
            "master_weights", step.dtype, kept if step.dtype == "float32" else lost
        )
    if situation.rows < FEW_ROWS:
        widely = f"Runs that differ only in the seed vary widely: {src.FEW_SAMPLE}."
        settled["seeds"] = _own("seeds", SEEDS[-1], widely, cited, (float(SEEDS[0]), float(SEEDS[-1])))
        by_rows = f"Held-out rows decide when to stop, not a fixed number of steps: {src.FEW_SAMPLE}."
        settled["early_stopping"] = _own("early_stopping", True, by_rows, cited)
    usual = get_method(advice.method).defaults(situation.shape)
    for name, value in values.items():
        if name not in said:
            why = "The method's default." if value == usual[name] else "Chosen to fit in memory."
            if name == "target_parameters" and value:
                why = "All experts. They are bare parameters, which target modules cannot name."
            settled[name] = _own(name, value, why, LAB)
    return {**{name: one for name, one in said.items() if name not in settled}, **settled}


#: torch's default rates of optimizers for which AdamW's rates have another meaning.
_TORCHS = {
    "adafactor": (1e-2, "torch's default. Adafactor multiplies it by the size of each parameter"),
    "sgd": (1e-3, "torch's default. SGD's updates are as large as its gradients"),
}


def _with_optimizer(name: str, settings: Mapping[str, RecipeSetting], asked: Job) -> dict[str, RecipeSetting]:
    """Return the requested optimizer as a setting, with its learning rate or a remark on AdamW's."""
    found = {"optimizer": _own("optimizer", name, "As you set it.", TOLD)}
    rate = settings["learning_rate"]
    own = rate_for(asked, ADAFACTOR) if name == "adafactor" else None
    if own is not None:
        found["learning_rate"] = own
    elif name in _TORCHS:
        value, why = _TORCHS[name]
        why += "; the sources give only rates for AdamW. We know no other rate for this job, so try several."
        found["learning_rate"] = replace(rate, value=value, band=None, kind=LAB, agreeing=(), why=why)
    elif name == "muon":
        scaled = f"AdamW's rate: Muon scales its updates to be as large as AdamW's ({src.MUON})."
        found["learning_rate"] = replace(rate, why=f"{rate.why} {scaled}".strip())
    return found


def _optimizer(step: Step, said: RecipeSetting, how: str) -> RecipeSetting:
    """Return the optimizer that the step was simulated with, which scripts use too."""
    if step.optimizer != "adamw":
        return _own(
            "optimizer",
            step.optimizer,
            f"{how}: full-precision states do not fit. {src.BLOCKWISE}.",
        )
    if said.value == PAGED:
        why = f"AdamW's states fit on the device. {src.QLORA}, section 3, pages them out to make room for long rows."
        return _own("optimizer", ADAMW, f"{how}: {why}")
    return said


def _own(
    name: str,
    value: Any,
    why: str,
    kind: str = str(Source.SIMULATED),
    band: tuple[float, float] | None = None,
) -> RecipeSetting:
    """Return a setting that the plan decides: by default from the available memory."""
    return RecipeSetting(name, value, band, (), (), kind, why, "")


def _at_once(situation: Situation, step: Step, accumulate: int) -> str:
    """Return why this number of rows goes through a device at once."""
    if accumulate == 1:
        return "each device processes all its rows of an update at once."
    fewer = "in this plan, no more rows of an update fit on a device at once"
    if negatives(situation, 2):
        others = several(negatives(situation, step.batch), "in-batch negative")
        return f"{fewer}. Each row has {others}, so a plan with more rows at once comes before a faster plan."
    return f"{fewer}, and we estimate that no plan that fits is faster."


def _shared(step: Step, devices: int) -> str:
    if step.sharding == "none":
        return "One device."
    if step.sharding == "ddp":
        return f"Each of {devices:,} devices has the whole model; gradients are averaged."
    if step.sharding == TENSOR:
        return (
            "Every matrix is split over the devices, which read the same rows and sum their outputs in every layer. "
            "Such a step was simulated."
        )
    where = "; the frozen weights stay in main memory" if step.host else ""
    return (
        f"Weights, gradients and optimizer states are sharded over {devices:,} devices{where}. The sharded step was "
        "simulated."
    )


# ----------------------------------------
# What a plan does not know: what was not given, what was estimated, and what only a run can show.


_FIGURE = re.compile(r"\d[\d.,]* (?:[kMGT]?B|days|hours|h|min)\b")


@dataclass(frozen=True)
class Unknown:
    """One thing that is not known. ``kind``: the source of the figure in it; empty if it has none."""

    text: str
    kind: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class _Said:
    """An entry of ``unknown.yaml``."""

    when: str
    text: str
    kind: str = ""


_UNKNOWN = read_entries(CONTENT / "unknown.yaml", _Said)


def unknown(situation: Situation, advice: Advice, plan: StepPlan | None) -> tuple[Unknown, ...]:
    """Return what is not known, most serious first."""
    if plan is None:
        cases = {"no training": advice.method in UNTRAINED[:2]}
        figures = dict[str, Any]()
    else:
        cases, figures = _cases(situation, advice, plan), _figures(situation, plan)
    texts = ((one, one.text.format_map(figures)) for one in _UNKNOWN if cases.get(one.when))
    return tuple(Unknown(text, one.kind if _FIGURE.search(text) else "") for one, text in texts)


def _cases(situation: Situation, advice: Advice, plan: StepPlan) -> dict[str, bool]:
    """Return which of the cases of ``unknown.yaml`` a plan is."""
    entry, limit, timed = catalogue().get(situation.model), situation.deadline_hours, plan.seconds is not None
    unequal = (situation.row_tokens or situation.seq) < situation.seq and not plan.packed
    return {
        "sharded": plan.split,
        "runs simulated": plan.over is not None,
        "rows of unequal length": plan.over is None and unequal,
        "main memory": bool(plan.host_bytes),
        "no link": situation.devices > 1 and not situation.link,
        "mixed precision": plan.mixed and advice.method == "full" and not plan.precision,
        "rewards": situation.purpose == "rl",
        "preferences": situation.purpose == "preference",
        "time of experts": not timed and bool(situation.shape.mixtures),
        "no speed": not timed and not situation.shape.mixtures,
        "estimated time": timed,
        "deadline": plan.seconds is not None
        and limit is not None
        and plan.seconds[1] * situation.tasks > 3600 * limit,
        "not trained here": entry is None or not entry.live,
        "rate": bool(plan.settings["learning_rate"].why),
        "forgetting": situation.forgetting == "matters",
        "passes of embeddings": situation.purpose == "embedding" and plan.accumulate > 1,
        "many LoRAs": situation.tasks > 1 and advice.method in ("lora", "qlora"),
        "base in 4 bits": advice.method == "qlora",
    }


def _figures(situation: Situation, plan: StepPlan) -> dict[str, Any]:
    """Return what stands for the names in the texts of ``unknown.yaml``."""
    tasks = situation.tasks  # trained one after the other on the same devices
    low, high = (end * tasks for end in plan.seconds or (0.0, 0.0))
    limit, unseen = situation.deadline_hours or 0.0, told_unseen(situation.device)
    over = plan.over or Reserved(0, 0, 0)
    return {
        "devices": plan.devices, "low": units.size(over.low), "high": units.size(over.high),
        "row_tokens": situation.row_tokens or situation.seq, "host": units.size(plan.host_bytes * plan.devices),
        "group": plan.group, "card": situation.hardware.title, "unseen": f" {unseen}" if unseen else "",
        "sure": "Training does not finish" if low > 3600 * limit else "Whether training finishes",
        "limit": several(f"{limit:g}", "hour"), "span": units.span(low, high),
        "what": f"all {tasks:,} tasks take" if tasks > 1 else "it takes",
        "model": situation.shape.title, "rate": plan.settings["learning_rate"].why,
    }  # fmt: skip


# ----------------------------------------
# Who recommends a setting's value, for a table cell.


def short(reference: str) -> str:
    """Return a reference's title without authors and address.

    >>> short(src.QLORA), short(src.BENCH)
    ('QLoRA', 'PEFT library')
    """
    first, *rest = reference.split(", ")
    return rest[0] if rest and first[-4:].isdigit() else first


def told_by(setting: RecipeSetting) -> str:
    """Return who recommends a setting's value, for a table cell."""
    names = list(dict.fromkeys(short(reference) for reference in setting.agreeing))
    if setting.kind != Source.CITED or not names:
        return setting.why
    more = len(names) - 2
    text = ", ".join(names[:2]) + (f" and {more} more" if more > 0 else "")
    return f"{text}. {setting.why}" if setting.why and setting.name == "learning_rate" else text
