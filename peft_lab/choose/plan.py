"""A plan: every setting with its value, the band that sources allow, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from peft_lab import references as src
from peft_lab.choose import duration
from peft_lab.choose.advice import Advice
from peft_lab.choose.room import BFLOAT16, Room, Step
from peft_lab.choose.situation import Situation, stored_bytes
from peft_lab.choose.tree import FEW_ROWS
from peft_lab.methods import get_method
from peft_lab.recipes.job import OBJECTIVES, OF_ENCODERS, Job
from peft_lab.recipes.job import job as make_job
from peft_lab.recipes.recipe import recipe
from peft_lab.units import Source

SEEDS = (3, 5)
#: What a plan decides by itself, and what it takes from the defaults of the method.
PLAN, DEFAULT = "plan", "default"
#: Updates that an epoch has at least, where there are rows enough: the lab's own choice.
UPDATES = 10
_USUAL = Situation()


@dataclass(frozen=True)
class Setting:
    """One setting. ``kind``: a source's name, ``lab``, ``told``, ``plan`` or ``default``. ``next``: what to try then."""

    value: Any
    band: tuple[float, float] | None
    source: str
    kind: str
    why: str = ""
    next: str = ""


@dataclass(frozen=True)
class StepPlan:
    """The ready configuration: knobs, how a step is run, what it takes, and every setting with its source.

    Attributes:
        batch: rows on each device at once. accumulate: steps whose gradients are added up for one update.
        needed_bytes, memory_bytes: on each device.
        seconds: of the whole training, at least and at most; ``None`` where nothing is known of the device.
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
    settings: Mapping[str, Setting] = None  # type: ignore[assignment]

    @property
    def headroom(self) -> float:
        """Share of a device's memory that stays free."""
        return 1 - self.needed_bytes / self.memory_bytes

    @property
    def estimated(self) -> bool:
        """Whether the peak is worked out from another step's simulation."""
        return self.sharding.startswith("fsdp2")


def make(situation: Situation, room: Room, advice: Advice, step: Step) -> StepPlan:
    """The plan for advice whose step fits. Raises BadInput where the method cannot be applied so."""
    shape, spec = situation.shape, get_method(advice.method)
    values = spec.require(shape, advice.knobs(shape))
    half = "float16" if _no_bfloat16(situation) else "bfloat16"
    values = {name: half if value == "bfloat16" else value for name, value in values.items()}
    found = recipe(_job(situation, advice, values))
    said = {name: _from_recipe(setting) for name, setting in found.settings.items()}
    step = _for_few_rows(situation, step, room.devices)
    at_once = step.batch * room.devices
    wanted = max(situation.batch if situation.batch != _USUAL.batch else 1, int(said["batch"].value))
    accumulate = max(1, ceil(min(wanted, max(at_once, situation.rows // UPDATES)) / at_once))
    if accumulate * at_once != said["batch"].value:
        found = recipe(replace(found.job, batch=accumulate * at_once))
        said["epochs"], said["steps"] = (_from_recipe(found[name]) for name in ("epochs", "steps"))
    settings = _settled(situation, advice, step, said, values, accumulate, half)
    epochs = float(settings["epochs"].value)
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
        remembered=step.dtype if advice.method == "full" else half,
        sharding=step.sharding,
        devices=room.devices,
        host_bytes=step.host,
        seconds=duration.seconds(
            shape, advice.method, step, situation.device, room.devices, epochs * situation.tokens * situation.pairs
        ),
        settings=settings,
    )


def _for_few_rows(situation: Situation, step: Step, devices: int) -> Step:
    """Fewer rows at once where an epoch would have hardly an update."""
    most = max(1, situation.rows // (UPDATES * devices))
    return replace(step, batch=min(step.batch, most))


def _no_bfloat16(situation: Situation) -> bool:
    return situation.hardware.kind == "cuda" and situation.hardware.capability < BFLOAT16


def _job(situation: Situation, advice: Advice, values: Mapping[str, Any]) -> Job:
    """What the recipe is asked for; knobs that the advice sets are settled."""
    shape, objective = situation.shape, situation.purpose
    if shape.kind == "encoder" and objective not in OF_ENCODERS or objective not in OBJECTIVES:
        objective = "classification"
    settled = {name: values[name] for name in advice.knobs(shape)}
    tokens = situation.row_tokens or situation.seq
    return make_job(
        advice.method, shape, objective, situation.rows, tokens, devices=situation.devices, values=settled
    )


def _from_recipe(setting: Any) -> Setting:
    return Setting(setting.value, setting.band, setting.source, setting.kind, setting.why, setting.next)


def _settled(
    situation: Situation,
    advice: Advice,
    step: Step,
    said: dict[str, Setting],
    values: Mapping[str, Any],
    accumulate: int,
    half: str,
) -> dict[str, Setting]:
    """The recipe's settings with what the room and the plan decide in their place, and the knobs that it leaves out."""
    how = "estimated from the simulation of one device" if step.estimated else "simulated training step"
    simulated, counted = str(Source.SIMULATED), str(Source.COUNTED)
    devices = situation.devices
    effective = said["batch"]
    rows = f"{step.batch} × {devices} × {accumulate} rows for one update" if devices > 1 else ""
    more = rows or f"{step.batch} × {accumulate} rows for one update"
    settled = {
        "batch": Setting(step.batch, None, f"the most rows at once that fit a device: {how}", simulated),
        "accumulation": Setting(
            accumulate, effective.band, f"{more}; {effective.source}", counted, effective.why, effective.next
        ),
        "optimizer": _kept(said.get("optimizer"), step.optimizer, how, step.optimizer != "adamw"),
        "dtype": _kept(said.get("dtype"), half, f"{situation.hardware.title} multiplies it", True),
        "quantization": _four_bits(advice),
        "checkpointing": _kept(said.get("checkpointing"), step.checkpointing, how, True),
        "sharding": Setting(step.sharding, None, _shared(step, devices), simulated),
    }
    if advice.method == "full":
        lost = "small updates are rounded away; try stochastic rounding or a float32 copy on another device"
        settled["master_weights"] = Setting(
            step.dtype, None, how if step.dtype == "float32" else f"{src.PURE_BF16}: {lost}", simulated
        )
    if situation.rows < FEW_ROWS:
        settled["seeds"] = Setting(
            SEEDS[-1], (float(SEEDS[0]), float(SEEDS[-1])),
            f"{src.FEW_SAMPLE}, section 1: equal runs with other seeds differ widely", str(Source.CITED),
        )  # fmt: skip
        settled["early_stopping"] = Setting(
            True, None, f"on held-out rows; {src.FEW_SAMPLE}, section 6", str(Source.CITED)
        )
    spec = get_method(advice.method)
    usual = spec.defaults(situation.shape)
    for name, value in values.items():
        if name in said:
            settled[name] = replace(said[name], value=value)
        elif value == usual[name]:
            settled[name] = Setting(value, None, "the method's default", DEFAULT)
        else:
            settled[name] = Setting(value, None, "chosen for the room there is", PLAN)
    return {**{name: one for name, one in said.items() if name not in settled}, **settled}


def _kept(said: Setting | None, value: Any, how: str, own: bool) -> Setting:
    """The room's value, with what the recipe says of it beside it."""
    if said is None or said.value != value or own:
        beside = f"; {said.source}" if said is not None and said.value == value else ""
        return Setting(value, None, f"{how}{beside}", str(Source.SIMULATED), next=said.next if said else "")
    return replace(said, value=value)


def _four_bits(advice: Advice) -> Setting:
    if advice.method != "qlora":
        return Setting("none", None, "the base fits in 16 bits", str(Source.SIMULATED))
    return Setting("nf4", None, f"{src.QLORA}, section 3", str(Source.CITED))


def _shared(step: Step, devices: int) -> str:
    if step.sharding == "none":
        return "one device"
    if step.sharding == "ddp":
        return f"all of the model on each of {devices:,} devices, gradients averaged"
    where = "; what is frozen waits in main memory" if step.host else ""
    return f"weights, gradients and moments split over {devices:,} devices{where}: estimated, not simulated"
