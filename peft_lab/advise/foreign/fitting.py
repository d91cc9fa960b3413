"""Simulate the training that another tool's file asks for: memory of a rank, hours, and the smallest change that fits.

Imports torch; pages call it in another process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
_SHARED_KNOBS = ("r", "lora_alpha", "lora_dropout", "target_modules", "target_parameters")


@dataclass(frozen=True)
class Job:
    """A step, how devices share it, its passes per update, and the sequences of a row."""

    request: StepRequest
    how: Sharding
    accumulate: int
    pairs: int

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

    def changes(self) -> Iterator[tuple[str, Job]]:
        """Yield changes that take less memory. The first ones leave what is learned as it is."""
        request, setting = self.request, self.request.setting
        if not request.checkpointing:
            yield "checkpointing", self.at(checkpointing=True)
        if setting.loss == "whole":
            yield "loss", replace(self, request=request.at(loss="chunked"))
        if setting.batch % (2 * self.pairs) == 0:
            half = request.at(batch=setting.batch // 2)
            yield "batch", replace(self, request=half, accumulate=2 * self.accumulate)
        if not setting.offload:
            yield "offload", replace(self.at(checkpointing=True), request=request.at(offload=True))
        if self.how.kind in ("ddp", "zero1", "zero2"):
            yield "sharding", replace(self, how=replace(self.how, kind="fsdp2"))
        if setting.optimizer == "adamw":
            yield "optimizer", replace(self, request=request.at(optimizer="adamw8bit"))
        if request.method == "lora" and request.dtype in PRECISIONS:
            yield (
                "qlora",
                self.at(
                    method="qlora",
                    values={name: one for name, one in request.values.items() if name in _SHARED_KNOBS},
                ),
            )
        if setting.seq > _SHORTEST:
            yield "seq", replace(self, request=request.at(seq=max(_SHORTEST, setting.seq // 2)))


def job_of(reading: Reading, model: str, values: Mapping[str, Any], given: Mapping[str, Any]) -> Job:
    """Return the step of a file, with the fields in ``given`` over its own. Raises BadInput without batch or length."""
    step = reading.step(given)
    lacking = [name for name in ("batch", "seq") if name not in step]
    if lacking:
        raise BadInput(
            f"This {reading.tool} file does not set {lacking[0]}. Give it as an option.", lacking[0]
        )
    form = StepForm(**{name: step[name] for name in StepForm.fields() if name in step}).check()
    setting = replace(form.setting, loss=step.get("loss", "whole"))
    how = Sharding(step.get("sharding", "none"), step["devices"])
    how = replace(how, offload=how.runs == "fsdp2" and bool(reading.settings.get("sharding_offload")))
    request = StepRequest(model, reading.method, values, setting, form.dtype, form.checkpointing)
    return Job(request, how, reading.settings.get("accumulate", 1), reading.pairs)


def smallest_change(job: Job, card: Device) -> tuple[tuple[str, ...], Job, int] | None:
    """Return the kinds of the fewest changes after which a step fits, the changed step and its bytes; None if none do.

    Each kind is tried alone, halving sizes as long as it takes. Then kinds are added in order until the step fits.
    """
    last, kinds = job, list[str]()
    for kind in dict.fromkeys(name for name, _ in job.changes()):
        for one in _repeated(job, kind):
            if (needed := one.fitting(card)) is not None:
                return (kind,), one, needed
    for kind in dict.fromkeys(name for name, _ in job.changes()):
        for one in _repeated(last, kind):
            last = one
            if (needed := one.fitting(card)) is not None:
                return (*kinds, kind), one, needed
        kinds.append(kind)
    return None


def _repeated(job: Job, kind: str) -> Iterator[Job]:
    while (following := dict(job.changes()).get(kind)) is not None:
        job = following
        yield job


def as_written(
    reading: Reading, job: Job, card: Device, link: str, rows: int | None = None, tokens: int | None = None
) -> dict[str, Any]:
    """Return the file's own training as the command line's JSON.

    Args:
        rows: of the data, if the file does not say. tokens: of a row on average, by default the most.

    Raises:
        BadInput, SimulationError: the step cannot be simulated.
    """
    job = replace(job, request=job.request.on(card))
    found, request, setting = job.simulated(), job.request, job.request.setting
    needed = needed_bytes(found)
    fits = card.holds(needed, job.split)
    less = None if fits else smallest_change(job, card)
    updates = _updates(reading, job, rows, tokens or setting.seq)
    span = _seconds(job, found, card, link, min(tokens or setting.seq, setting.seq))
    return {
        "method": request.method, "config": dict(request.values), "batch": setting.batch // job.pairs,
        "accumulation": job.accumulate, "seq": setting.seq, "dtype": request.dtype, "loss": setting.loss,
        "optimizer": setting.optimizer, "checkpointing": request.checkpointing, "offload": setting.offload,
        "sharding": asdict(job.how), "peak_bytes_per_device": needed, "device_bytes": card.memory, "fits": fits,
        "change": less and {"set": spelt(reading, less[0], less[1]), "peak_bytes_per_device": less[2]},
        "updates": updates, "step_seconds": span,
        "hours": updates and span and {name: one * updates / HOUR for name, one in span.items()},
        "source": "simulated",
    }  # fmt: skip


def spelt(reading: Reading, kinds: tuple[str, ...], job: Job) -> dict[str, Any]:
    """Return changes as keys of the file's tool, or as the lab's settings where the tool has none."""
    setting, found = job.request.setting, dict[str, Any]()
    sizes = {"batch": setting.batch // job.pairs, "accumulate": job.accumulate, "seq": setting.seq}
    for name in (one for kind in kinds for one in (("batch", "accumulate") if kind == "batch" else (kind,))):
        said = reading.changes.get(name, name)
        found |= said if isinstance(said, Mapping) else {said: sizes.get(name, True)}
    return found


def _updates(reading: Reading, job: Job, rows: int | None, tokens: int) -> int | None:
    said, setting = reading.settings, job.request.setting
    rows = rows or said.get("rows")
    if "steps" in said or rows is None:
        return said.get("steps")
    filled = -(-rows * tokens // setting.seq) if said.get("packing") else 0
    each = setting.batch // job.pairs
    return course(rows, said.get("epochs", 1.0), each, job.how.readers, job.accumulate, filled).updates


def _seconds(job: Job, found: Any, card: Device, link: str, tokens: int) -> dict[str, float] | None:
    """Return the time of an update on rows of so many tokens; None if the card's speed is not known."""
    work = work_of(job.request.at(seq=tokens))
    try:
        split = isinstance(found, ShardedResult)
        one = split_seconds(work, found, card.name, link) if split else estimate.seconds(work, card.name)
    except UnknownName:
        return None
    return {name: getattr(one, name) * job.accumulate for name in ("low", "value", "high")}
