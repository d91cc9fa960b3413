"""Simulate the training that another tool's file asks for: memory of a rank, hours, and the smallest change that fits.

Imports torch; pages call it in another process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from peft_lab.advise.foreign.reading import Reading
from peft_lab.advise.plans.steps import course, split_seconds
from peft_lab.advise.situation import HOUR
from peft_lab.core.errors import BadInput, PeftLabError, UnknownName
from peft_lab.engine.devices import Device
from peft_lab.engine.request import PRECISIONS, StepForm, StepRequest
from peft_lab.engine.sharding.simulate import ShardedResult, simulate_sharded
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import needed_bytes, simulate, work_of
from peft_lab.engine.timing import estimate

_SHORTEST = 512  # rows are not cut shorter to make a step fit
_OF_STEP = ("seq", "optimizer", "offload", "loss", "compile", "attention")
_SHARED_KNOBS = ("r", "lora_alpha", "lora_dropout", "target_modules", "target_parameters")


@dataclass(frozen=True)
class Job:
    """A step, how devices share it, and the sequences of a row."""

    request: StepRequest
    how: Sharding
    pairs: int

    @property
    def accumulate(self) -> int:
        """Return the passes per update."""
        return self.request.setting.accumulate

    @property
    def split(self) -> bool:
        """Return whether each device holds a share of the model."""
        return self.how.runs == "fsdp2"

    def at(self, **changes: Any) -> Job:
        """Return the job with other fields of its request."""
        return replace(self, request=replace(self.request, **changes))

    def simulated(self) -> Any:
        """Return the simulation of the step. Raises as :func:`peft_lab.engine.simulate.simulate`."""
        return simulate(self.request) if self.how.runs == "none" else simulate_sharded(self.request, self.how)

    def fitting(self, card: Device) -> int | None:
        """Return the bytes that the step needs, None if the card has fewer or the step cannot be simulated."""
        try:
            needed = needed_bytes(self.simulated())
        except PeftLabError:
            return None
        return needed if card.holds(needed, self.split) else None

    def changes(self) -> dict[str, Job]:
        """Return changes that take less memory, by kind. The first ones leave what is learned as it is."""
        request, setting, how = self.request, self.request.setting, self.how
        knobs = {name: one for name, one in request.values.items() if name in _SHARED_KNOBS}
        halves = {"batch": setting.batch // 2, "accumulate": 2 * self.accumulate}
        small = replace(self, request=request.at(**halves))
        away = replace(request.at(offload=True), checkpointing=True)
        packs = request.method == "lora" and request.dtype in PRECISIONS
        found: dict[str, tuple[bool, Job]] = {
            "checkpointing": (not request.checkpointing, self.at(checkpointing=True)),
            "loss": (setting.loss == "whole", replace(self, request=request.at(loss="chunked"))),
            "batch": (setting.batch % (2 * self.pairs) == 0, small),
            "offload": (not setting.offload, replace(self, request=away)),
            "sharding": (how.kind in ("ddp", "zero1", "zero2"), replace(self, how=replace(how, kind="fsdp2"))),
            "optimizer": (setting.optimizer == "adamw", replace(self, request=request.at(optimizer="adamw8bit"))),
            "qlora": (packs, self.at(method="qlora", values=knobs)),
            "seq": (setting.seq > _SHORTEST, replace(self, request=request.at(seq=max(_SHORTEST, setting.seq // 2)))),
        }  # fmt: skip
        return {kind: job for kind, (possible, job) in found.items() if possible}


def job_of(reading: Reading, model: str, values: Mapping[str, Any], given: Mapping[str, Any]) -> Job:
    """Return the step of a file, with the fields in ``given`` over its own. Raises BadInput without batch or length."""
    step = reading.step(given)
    lacking = [name for name in ("batch", "seq") if name not in step]
    if lacking:
        raise BadInput(
            f"This {reading.tool} file does not set {lacking[0]}. Give it as an option.", lacking[0]
        )
    form = StepForm(**{name: step[name] for name in StepForm.fields() if name in step}).check()
    setting = replace(form.setting, accumulate=step.get("accumulate", 1))
    how = Sharding(step.get("sharding", "none"), step["devices"])
    how = replace(how, offload=how.runs == "fsdp2" and bool(reading.settings.get("sharding_offload")))
    request = StepRequest(model, reading.method, values, setting, form.dtype, form.checkpointing)
    return Job(request, how, reading.pairs)


def smallest_change(job: Job, card: Device) -> tuple[tuple[str, ...], Job, int] | None:
    """Return the kinds of the fewest changes after which a step fits, the changed step and its bytes; None if none do.

    Each kind is tried alone, halving sizes as long as it takes. Then kinds are added in order until the step fits.
    """
    for added in (False, True):
        last, kinds = job, tuple[str, ...]()
        for kind in job.changes():
            one, kinds = (last, (*kinds, kind)) if added else (job, (kind,))
            while (following := one.changes().get(kind)) is not None:
                last = one = following
                if (needed := one.fitting(card)) is not None:
                    return kinds, one, needed
    return None


def as_written(
    reading: Reading, job: Job, card: Device, link: str, rows: int | None = None, tokens: int | None = None
) -> dict[str, Any]:
    """Return the file's own training as the command line's JSON. ``rows``: of the data, if the file does not say.
    ``tokens``: of a row on average, by default the most. Raises BadInput, SimulationError if the step cannot be
    simulated."""
    job = replace(job, request=job.request.on(card))
    found, setting, said = job.simulated(), job.request.setting, reading.settings
    tokens, rows = min(tokens or setting.seq, setting.seq), rows or said.get("rows")
    fits = card.holds(needed_bytes(found), job.split)
    less = None if fits else smallest_change(job, card)
    updates = said.get("steps")
    if updates is None and rows:
        filled = -(-rows * tokens // setting.seq) if said.get("packing") else 0
        batch = setting.batch // job.pairs
        updates = course(
            rows, said.get("epochs", 1.0), batch, job.how.readers, job.accumulate, filled
        ).updates
    step = _seconds(job, found, card, link, tokens)
    return {
        **{name: getattr(job.request, name) for name in ("method", "dtype", "checkpointing")},
        **{name: getattr(setting, name) for name in _OF_STEP},
        "batch": setting.batch // job.pairs, "accumulation": job.accumulate, "sharding": asdict(job.how),
        "config": dict(job.request.values), "peak_bytes_per_device": needed_bytes(found),
        "device_bytes": card.memory, "fits": fits,
        "change": less and {"set": spelt(reading, less[0], less[1]), "peak_bytes_per_device": less[2]},
        "updates": updates, "step_seconds": step,
        "hours": updates and step and {name: one * updates / HOUR for name, one in step.items()},
        "source": "simulated",
    }  # fmt: skip


def _seconds(job: Job, found: Any, card: Device, link: str, tokens: int) -> dict[str, float] | None:
    """Return the time of an update on rows of so many tokens; None if the card's speed is not known."""
    work = work_of(job.request.at(seq=tokens))
    try:
        if isinstance(found, ShardedResult):
            one = split_seconds(work, found, card.name, link)
        else:
            one = estimate.seconds(work, card.name).times(job.accumulate)
    except UnknownName:
        return None
    return {name: getattr(one, name) for name in ("low", "value", "high")}


def spelt(reading: Reading, kinds: tuple[str, ...], job: Job) -> dict[str, Any]:
    """Return changes as keys of the file's tool, or as the lab's settings where the tool has none."""
    setting, found = job.request.setting, dict[str, Any]()
    sizes = {"batch": setting.batch // job.pairs, "accumulate": job.accumulate, "seq": setting.seq}
    for name in (*kinds, *(["accumulate"] if "batch" in kinds else [])):
        said = reading.changes.get(name, name)
        found |= said if isinstance(said, Mapping) else {said: sizes.get(name, True)}
    return found
