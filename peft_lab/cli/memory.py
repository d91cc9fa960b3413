"""``memory``: what a training step will need, found by running it on tensors that have shapes but no data.

``--protocol metamath`` repeats how the published peaks of PEFT's method comparison were taken. It sets everything but
the batch itself; ``--generate`` adds the answers that were generated in between. ``--fits DEVICE`` also searches the
largest batch (at the given length) and the longest row (at the given batch) whose step fits, by simulating it; asked
about one method, it simulates the step on every model of the catalogue too, so that the largest that fits is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from peft_lab.advise.plans.steps import split_seconds
from peft_lab.ask import limits
from peft_lab.ask.field import Values
from peft_lab.ask.form import choice, whole
from peft_lab.cli import options, output
from peft_lab.cli.application import FAILED, command
from peft_lab.cli.forms import form_options
from peft_lab.cli.options import Subjects
from peft_lab.cli.output import ProgressBars
from peft_lab.core import units
from peft_lab.core.errors import BadInput, SimulationError, Unsupported, echoed
from peft_lab.engine import protocol as metamath
from peft_lab.engine.devices import Device, get_device
from peft_lab.engine.fits import LARGEST, ModelFit, largest, models_that_fit, needed
from peft_lab.engine.request import (
    LOSSES,
    ConfigRequest,
    Setting,
    Simulation,
    StepForm,
    StepRequest,
    with_size,
)
from peft_lab.engine.sharding.how import TITLES, Sharding, notes
from peft_lab.engine.sharding.result import ShardedResult
from peft_lab.engine.sharding.simulate import simulate_sharded
from peft_lab.engine.simulate import simulate, simulate_config, work_of
from peft_lab.engine.timing import estimate, kernels
from peft_lab.engine.timing.estimate import Seconds, speed_named
from peft_lab.methods.base import MethodSpec, plain_task
from peft_lab.models import images
from peft_lab.models.catalogue import ModelEntry, resolve

# ----------------------------------------
# ``memory --fits``: what is the largest that a device holds, found by simulating one size after the other.


Found = Simulation | ShardedResult
Job = Callable[[Setting], Found]


@dataclass(frozen=True)
class Room:
    """Whether a step fits on a device, and the largest one of its kind that does.

    Attributes:
        needed_bytes: what the step takes of the device's memory.
        batch: rows that fit, at the given length. seq: tokens, at the given batch. 0: not even one.
        simulated: sizes that were tried.
        models: the same step on the models of the catalogue; empty when that was not asked.
    """

    device: Device
    needed_bytes: int
    batch: int
    seq: int
    simulated: dict[str, list[int]]
    models: tuple[ModelFit, ...] = ()

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.device.memory

    def as_dict(self) -> dict[str, Any]:
        return {
            "device": self.device.name,
            "memory_bytes": self.device.memory,
            "needed_bytes": self.needed_bytes,
            "fits": self.fits,
            "largest_batch": self.batch,
            "longest_seq": self.seq,
            "simulated": self.simulated,
            "models": [asdict(one) for one in self.models],
        }


def search_fitting(job: Job, setting: Setting, device: Device, positions: int | None) -> tuple[Found, Room]:
    """Simulate a step on ``device``, and search what fits there. Rows get no longer than ``positions``.

    Raises:
        BadInput, SimulationError: as the job.
    """
    here = replace(setting, device=device.kind, capability=device.capability)
    asked = job(here)
    known = {here: needed(asked)}
    tried: dict[str, list[int]] = {"batch": [], "seq": []}

    def fits(what: Literal["batch", "seq"], size: int) -> bool:
        sized = with_size(here, batch=size) if what == "batch" else with_size(here, seq=size)
        if sized not in known:
            known[sized] = needed(job(sized))
        tried[what].append(size)
        return known[sized] <= device.memory

    longest = min(LARGEST["seq"], positions or LARGEST["seq"]) - (
        setting.generate[1] if setting.generate else 0
    )
    batch = largest(lambda rows: fits("batch", rows), LARGEST["batch"])
    seq = largest(lambda tokens: fits("seq", tokens), longest)
    return asked, Room(
        device, needed(asked), batch, seq, {what: sorted(sizes) for what, sizes in tried.items()}
    )


def fitting_table(rows: Sequence[tuple[Any, Room]]) -> Any:
    """The answers as a table, all for one device."""
    columns = {
        "method": "left",
        "fits": "left",
        "needs": "right",
        "largest batch": "right",
        "longest row": "right",
    }
    lines = [
        (
            name,
            "yes" if room.fits else "no",
            units.size(room.needed_bytes),
            f"{room.batch:,}",
            f"{room.seq:,}",
        )
        for name, room in rows
    ]
    device = rows[0][1].device
    title = f"{device.holding}: {units.size(device.memory)} usable (simulated)"
    caption = "largest batch at the length given, longest row at the batch given; searched to within 1 in 32"
    return output.table(title, columns, lines, caption)


def models_table(name: Any, room: Room) -> Any:
    """The models that were tried with one method, the largest first."""
    columns = {"model": "left", "parameters": "right", "needs": "right", "fits": "left"}
    lines = [
        (
            one.title,
            units.short_count(one.parameters),
            "" if one.needed_bytes is None else units.size(one.needed_bytes),
            one.reason or ("yes" if one.fits else "no"),
        )
        for one in reversed(room.models)
    ]
    return output.table(f"{name} on {room.device.holding}: models (simulated)", columns, lines)


# ----------------------------------------
# What ``memory`` found about one step: its simulation, what fits, and its seconds; and many of them as tables.


_PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "other")


@dataclass(frozen=True)
class Simulated:
    """A simulation, the file it was asked for by, what fits, and which of its sizes are where the search ended."""

    simulation: Found
    file: Path | None = None
    room: Room | None = None
    at_least: tuple[str, ...] = ()
    step: Seconds | None = None
    tokens: int = 0

    def as_dict(self) -> dict[str, Any]:
        more = {"adapter_config": self.file} if self.file else {}
        room = {"fits": {**self.room.as_dict(), "at_least": list(self.at_least)}} if self.room else {}
        step = {}
        if self.step:
            step = {"step_seconds": self.step.as_dict(), "tokens_per_second": self.tokens / self.step.value}
        return {**self.simulation.as_dict(), **more, **room, **step}


def timed(one: Simulated, gpu: str, link: str, asked: StepRequest | None, setting: Setting) -> Simulated:
    """With the seconds of its last step; a split step's from the work of ``asked``, the same on one device."""
    found = one.simulation
    if isinstance(found, Simulation):
        step, devices = estimate.seconds(found.work[-1], gpu), 1
    else:
        assert asked is not None, "configs from files are not split"
        devices = found.sharding.readers
        step = split_seconds(() if found.work else work_of(asked), found, gpu, link)
    return replace(one, step=step, tokens=setting.batch * setting.seq * devices)


def tables(heading: str, results: list[Simulated]) -> list[Any]:
    """The answers for people: memory, then what else was asked: seconds, what fits, and on which models."""
    columns = {"method": "left", "peak": "right", "reserved": "right", **dict.fromkeys(_PARTS, "right")}
    lines = []
    for one in results:
        row = one.simulation.as_dict()
        reserved = "" if row["reserved_bytes"] is None else units.size(row["reserved_bytes"])
        parts = (units.size(row["parts"][part]) for part in _PARTS)
        lines.append((one.file or row["method"], units.size(row["peak_bytes"]), reserved, *parts))
    hosts = [one.simulation.host_bytes for one in results if one.simulation.host_bytes]
    paged = f"; {units.size(hosts[0])} in main memory" if hosts else ""
    caption = f"peak: tensors alive at once; reserved: what PyTorch's CUDA allocator holds for them{paged}"
    shown = [output.table(f"{heading}: memory of a training step (simulated)", columns, lines, caption)]
    seconds = [
        (
            one.file or one.simulation.method,
            one.step.span,
            one.step.bottleneck,
            f"{one.tokens / one.step.value:,.0f}",
        )
        for one in results
        if one.step
    ]
    if seconds:
        wide = {"method": "left", "a step": "right", "most for": "left", "tokens a second": "right"}
        shown.append(output.table("How long a step takes (estimated from its operations)", wide, seconds))
    rooms = [(one.file or one.simulation.method, one.room) for one in results if one.room]
    if rooms:
        shown.append(fitting_table(rooms))
    shown += [models_table(name, room) for name, room in rooms if room.models]
    return shown


@dataclass(frozen=True)
class MemoryOptions(StepForm):
    """The step that ``memory`` simulates, on one device or on several."""

    loss: str = choice(
        "whole", "Loss", "whole: from all logits at once; chunked: a few rows at a time.",
        {name: name for name in LOSSES},
    )  # fmt: skip
    devices: int = whole(1, "Devices", "How many; the batch is that of each.", least=1, most=limits.DEVICES)
    sharding: str = choice("none", "Sharding", "How they share the step.", TITLES)
    link: str = choice("pcie", "Link", "What connects them.", {name: name for name in kernels.LINKS})

    @property
    def step(self) -> Setting:
        """The sizes and choices that do not depend on the model."""
        return replace(self.setting, loss=self.loss)


#: What --protocol sets.
_OF_PROTOCOL = ("seq", "dtype", "optimizer", "checkpointing", "offload", "loss")
_OPTIONS = ("batch", *_OF_PROTOCOL, "devices", "sharding", "link")


class Protocol(StrEnum):
    """How published peaks were taken."""

    METAMATH = "metamath"


@command("memory")
@form_options(MemoryOptions, _OPTIONS)
def memory_command(
    model: options.Model,
    given: dict[str, Any],
    method: options.Methods = None,
    sets: options.Sets = None,
    adapter_config: options.AdapterConfigs = None,
    generate: Annotated[
        str | None, typer.Option("--generate", metavar="B,NEW", help="Then generate NEW tokens for B rows.")
    ] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            "--protocol",
            help="As the published peaks were measured; fixes all but the batch and the generation.",
        ),
    ] = None,
    fits: Annotated[
        str | None,
        typer.Option("--fits", metavar="DEVICE", help="Find what fits on a device, such as a100-80."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="NAME", help="Also how long the step takes there: l40s, h100 ..."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Simulate a training step's memory on a GPU, without weights. By default for every method that applies."""
    entry, asked = resolve(model), MemoryOptions(**given)
    how = _sharing(asked, adapter_config, protocol)
    card = None if gpu is None else get_device(gpu)
    device = None if fits is None else get_device(fits)
    if protocol:
        if device:
            raise BadInput(
                "--fits searches batches and lengths, which --protocol fixes; use one of them.", "fits"
            )
        metamath.check(entry)
        setting = replace(metamath.SETTING, batch=asked.batch) if "batch" in given else metamath.SETTING
        heading = f"{entry.title}, protocol of the published runs, {setting.batch} rows"
    else:
        asked = _sized(asked, given, entry)
        setting = asked.step
        size = (
            f"images of {images.words(entry.config)}" if entry.kind == "vision" else f"{asked.seq:,} tokens"
        )
        heading = f"{entry.title}, {asked.batch:,} × {size}{_on_each(how)}"
    setting = replace(setting, generate=_generation(generate))
    if entry.kind == "vision":
        _check_for_images(entry, fits, gpu)
    if card is not None:
        speed_named(card.name, asked.devices)
        kernels.check_link(asked.link)
        setting = replace(setting, device=card.kind, capability=card.capability)
    setting.check()
    chosen = options.choose(entry, method, sets, adapter_config)
    jobs = _published(entry, chosen) if protocol else _jobs(entry.name, chosen, asked, how)
    every = not method and not adapter_config
    results, failed, left_out = _simulate_all(entry, chosen, jobs, setting, device, every)
    if device and how.runs == "none" and len(chosen.methods) == len(results) == 1:
        results = [_on_all_models(entry, chosen, results[0], setting, device, asked)]
    if card is not None:
        steps = {
            spec.slug: StepRequest(entry.name, spec.slug, values, setting, asked.dtype, asked.checkpointing)
            for spec, values in chosen.methods
        }
        results = [
            timed(one, card.name, asked.link, steps.get(one.simulation.method), setting) for one in results
        ]
    chosen.tell()
    for note in (*left_out, *_cut_short(results), *(f"note: {text}" for text in notes(how))):
        output.note(note)
    if protocol:
        for option in filter(given.__contains__, _OF_PROTOCOL):
            output.note(f"note: --{option} was not used: --protocol {protocol} says how the step is run")
    output.show([one.as_dict() for one in results], as_json, human=lambda: tables(heading, results))
    if failed:
        raise typer.Exit(FAILED)


def _check_for_images(entry: ModelEntry, fits: str | None, gpu: str | None) -> None:
    """Raises BadInput for what is asked of texts."""
    if gpu is not None:
        raise BadInput(
            f"--gpu's seconds were fitted to steps of language models; {entry.title} reads images.", "gpu"
        )
    if fits is not None:
        raise BadInput(
            f"--fits searches the longest row too, and every image of {entry.title} is as long as the others: try "
            "other numbers with --batch.",
            "fits",
        )


Named = tuple[str, Job, Path | None, int]


def _sized(asked: MemoryOptions, given: Mapping[str, Any], entry: ModelEntry) -> MemoryOptions:
    """Return the step with the sizes that were given. Raises BadInput without them."""
    if entry.kind == "vision":
        if "batch" not in given:
            raise BadInput("Give --batch: how many images a step reads.", "batch")
        seen = entry.shape.max_positions or asked.seq  # every image is as long as the others
        return asked if "seq" in given else replace(asked, seq=seen)
    if not {"batch", "seq"} <= given.keys():
        raise BadInput("Give --batch and --seq: the batch size and the tokens per row.", "batch")
    return asked


def _sharing(asked: MemoryOptions, files: Sequence[Path] | None, protocol: Protocol | None) -> Sharding:
    """Return how devices share the step. Raises BadInput for what is not simulated on several."""
    how = Sharding(asked.sharding, asked.devices)
    how.check()
    if how.runs != "none" and (files or protocol):
        what = "--protocol is of runs" if protocol else "Adapter configs from files are simulated"
        raise BadInput(f"{what} on one device; leave --devices out.", "devices")
    return how


def _on_each(how: Sharding) -> str:
    return "" if how.runs == "none" else f" on each of {how.devices:,} devices ({TITLES[how.kind]})"


def _jobs(model: str, chosen: Subjects, asked: MemoryOptions, how: Sharding) -> Iterator[Named]:
    """Name, simulation, file and virtual tokens of everything that was asked about."""

    def of_method(spec: MethodSpec, values: Values, setting: Setting) -> Found:
        request = StepRequest(model, spec.slug, values, setting, asked.dtype, asked.checkpointing)
        return simulate(request) if how.runs == "none" else simulate_sharded(request, how)

    def of_file(content: Any, setting: Setting) -> Simulation:
        return simulate_config(ConfigRequest(model, content, setting, asked.dtype, asked.checkpointing))

    for spec, values in chosen.methods:
        virtual = spec.virtual_tokens(values)
        yield spec.slug, partial(of_method, spec, values), None, virtual
    for file in chosen.files:
        number = (file.content or {}).get("num_virtual_tokens")
        virtual = number if isinstance(number, int) else 0  # what is no number is refused with the config
        yield str(file.path), partial(of_file, file.content), file.path, virtual


def _published(entry: ModelEntry, chosen: Subjects) -> Iterator[Named]:
    """The same under the protocol of the published runs, which were all of PEFT's own methods, or full fine-tuning."""

    def run(content: Any, setting: Setting) -> Simulation:
        return metamath.published(entry.name, content, setting.batch, setting.generate)

    for spec, values in chosen.methods:
        config = spec.config(entry.shape, values, plain_task(entry.kind))
        if (config is None and spec.slug != "full") or spec.quantization(values):
            raise BadInput(
                f"The published runs are of PEFT's methods on a 16-bit base, and none is of {spec.title}.",
                "method",
            )
        yield spec.slug, partial(run, config and config.to_dict()), None, 0
    for file in chosen.files:
        yield str(file.path), partial(run, file.content), file.path, 0


def _simulate_all(
    entry: ModelEntry,
    chosen: Subjects,
    jobs: Iterator[Named],
    setting: Setting,
    device: Device | None,
    every: bool,
) -> tuple[list[Simulated], bool, list[str]]:
    """All simulations that work; whether one did not (its reason is told on stderr); and notes on those left out.

    ``every``: nobody asked for a method in particular, so one that does not suit the step is left out.

    Raises:
        BadInput: a config that cannot be applied, with its file. SimulationError: none of them works.
    """
    total = len(chosen.methods) + len(chosen.files)
    results: list[Simulated] = []
    failures: list[str] = []
    left_out: list[str] = []
    with ProgressBars(lines=False) as bars:
        for done, (name, job, file, virtual) in enumerate(jobs):
            bars.update("Simulating", done / total, name)
            try:
                if device is None:
                    results.append(Simulated(job(setting), file))
                else:
                    limit = entry.shape.max_positions and entry.shape.max_positions - virtual
                    simulation, room = search_fitting(job, setting, device, limit)
                    results.append(Simulated(simulation, file, room, _at_least(room, limit)))
            except Unsupported as error:
                if not every:
                    raise
                left_out.append(f"left out: {name}: {error}")
            except SimulationError as error:
                failures.append(f"{name}: {error}")
            except BadInput as error:
                raise BadInput(
                    f"{file or name}: {error}" if total > 1 or file else str(error), error.field
                ) from error
    if failures and not results:
        raise SimulationError("; ".join(failures))
    for failure in failures:
        output.note(f"error: {failure}")
    return results, bool(failures), left_out


def _cut_short(results: list[Simulated]) -> list[str]:
    """What a search did not look beyond: there the answer is a lower bound."""
    units_of = {"batch": "rows", "seq": "tokens a row"}
    return [
        f"note: {one.file or one.simulation.method}: at least {LARGEST[what]:,} {units_of[what]} fit; "
        "no larger size was searched"
        for one in results
        for what in one.at_least
    ]


def _at_least(room: Room, positions: int | None) -> tuple[str, ...]:
    """Which sizes the search ended at, although the model has ``positions`` for more (None: for any number)."""
    longest = positions is None or positions > LARGEST["seq"]
    found = {"batch": room.batch == LARGEST["batch"], "seq": longest and room.seq == LARGEST["seq"]}
    return tuple(what for what, ended in found.items() if ended)


def _on_all_models(
    entry: ModelEntry,
    chosen: Subjects,
    result: Simulated,
    setting: Setting,
    device: Device,
    asked: MemoryOptions,
) -> Simulated:
    """The same step on the models of the catalogue, with the knobs that were moved."""
    if result.room is None:
        return result
    spec, values = chosen.methods[0]
    usual = spec.defaults(entry.shape)
    moved = {name: value for name, value in values.items() if value != usual[name]}
    step = StepRequest(entry.name, spec.slug, moved, setting, asked.dtype, asked.checkpointing)
    return replace(result, room=replace(result.room, models=models_that_fit(device, step)))


def _generation(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        said = f"'{echoed(text)}' is not of that form."
        raise BadInput(f"--generate takes rows and new tokens, such as 50,300; {said}", "generate")
    return int(parts[0]), int(parts[1])
