"""``memory``: the memory of a training step, simulated on tensors that have shapes but no data.

``--protocol metamath`` repeats how the published peaks of PEFT's method comparison were taken: it sets all
but the batch; ``--generate`` adds the answers generated in between. ``--fits DEVICE`` also searches the
largest batch (at the given length) and the longest row (at the given batch) whose step fits, by simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from peft_lab.advise.foreign.fitting import as_written, job_of
from peft_lab.advise.plans.steps import added, split_seconds, told_adapters, unmeasured
from peft_lab.advise.plans.wanted import lengths_in
from peft_lab.cli import options, output
from peft_lab.cli.application import FAILED, command
from peft_lab.cli.options import Subjects, form_options, option, option_of
from peft_lab.cli.output import ProgressBars
from peft_lab.core import limits, units
from peft_lab.core.errors import BadInput, SimulationError, Unsupported, echoed
from peft_lab.core.field import Values
from peft_lab.core.form import choice, whole, yes_no
from peft_lab.engine import over_a_run
from peft_lab.engine import published as metamath
from peft_lab.engine.devices import Device, get_device
from peft_lab.engine.loading import Loading, loading
from peft_lab.engine.request import (
    COMPUTING,
    PRECISIONS,
    ConfigRequest,
    Simulation,
    StepForm,
    StepRequest,
    StepSetting,
)
from peft_lab.engine.sharding.simulate import ShardedResult, simulate_sharded
from peft_lab.engine.sharding.wrap import SHARDING_TITLES, Sharding, sharding_notes
from peft_lab.engine.simulate import (
    LARGEST_SEARCHED,
    largest,
    needed_bytes,
    simulate,
    simulate_config,
    work_of,
)
from peft_lab.engine.step import TITLES
from peft_lab.engine.timing import estimate, kernels
from peft_lab.engine.timing.estimate import Seconds, speed_named
from peft_lab.methods.base import MethodSpec
from peft_lab.models import images
from peft_lab.models.catalogue import resolve
from peft_lab.models.heads import task_type
from peft_lab.models.shapes import ModelEntry

# ----------------------------------------
# ``memory --fits``: the largest step that a device holds, found by simulating one size after the other.

Result = Simulation | ShardedResult
Job = Callable[[StepSetting], Result]


@dataclass(frozen=True)
class FitResult:
    """Whether a step fits on a device, and the largest batch and length that do."""

    device: Device
    needed_bytes: int  # memory that the step needs on the device
    split: bool  # whether it holds a share of the model
    batch: int  # largest batch at the given length
    seq: int  # most tokens per row at the given batch. 0: not even one
    simulated: dict[str, list[int]]  # the sizes tried
    at_least: tuple[str, ...]  # sizes whose search ended at its own limit, not at the model's

    @property
    def fits(self) -> bool:
        return self.device.holds(self.needed_bytes, self.split)

    def as_dict(self) -> dict[str, Any]:
        return {
            "device": self.device.name,
            "memory_bytes": self.device.memory,
            **output.attributes(self, "needed_bytes", "fits"),
            "largest_batch": self.batch,
            "longest_seq": self.seq,
            **output.attributes(self, "simulated", "at_least"),
        }


def search_fitting(
    job: Job, setting: StepSetting, device: Device, positions: int | None
) -> tuple[Result, FitResult]:
    """Simulate a step on a device, and search the largest that fits, with rows of at most ``positions``. Raises
    BadInput, SimulationError: from the job."""
    here = replace(setting, device=device.kind, capability=device.capability)
    result = job(here)
    known = {here: needed_bytes(result)}
    split = isinstance(result, ShardedResult) and result.sharding.kind not in ("none", "ddp")
    tried: dict[str, list[int]] = {"batch": [], "seq": []}

    def fits(what: Literal["batch", "seq"], size: int) -> bool:
        sized = replace(here, batch=size) if what == "batch" else replace(here, seq=size)
        if sized not in known:
            known[sized] = needed_bytes(job(sized))
        tried[what].append(size)
        return device.holds(known[sized], split)

    longest = min(LARGEST_SEARCHED["seq"], positions or LARGEST_SEARCHED["seq"]) - (
        setting.generate[1] if setting.generate else 0
    )
    batch = largest(lambda rows: fits("batch", rows), LARGEST_SEARCHED["batch"])
    seq = largest(lambda tokens: fits("seq", tokens), longest)
    simulated = {what: sorted(sizes) for what, sizes in tried.items()}
    ended = {"batch": batch == LARGEST_SEARCHED["batch"], "seq": seq == LARGEST_SEARCHED["seq"] != positions}
    at_least = tuple(what for what, at_end in ended.items() if at_end)
    return result, FitResult(device, needed_bytes(result), split, batch, seq, simulated, at_least)


# ----------------------------------------
# The results about one step: its simulation, what fits, and its seconds; and many of them as tables.


_PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "other")
_UNITS = {"batch": "rows", "seq": "tokens per row"}


@dataclass(frozen=True)
class Simulated:
    """A simulation with its config's file, if any, and what fits."""

    simulation: Result
    room: FitResult | None = None
    file: Path | None = None
    step: Seconds | None = None
    tokens: int = 0
    loading: Loading | None = None

    @property
    def name(self) -> str:
        """Return the file's path, or the method's slug."""
        return str(self.file or self.simulation.method)

    def as_dict(self) -> dict[str, Any]:
        row = self.simulation.as_dict()
        if self.loading:
            row |= {"loading": output.attributes(self.loading, "device_bytes", "main_bytes", "loader")}
        if self.file:
            row |= {"adapter_config": self.file}
        if self.room:
            row |= {"fits": self.room.as_dict()}
        if self.step:
            row |= {"step_seconds": self.step.as_dict(), "tokens_per_second": self.tokens / self.step.value}
        return row


def timed(one: Simulated, gpu: str, link: str, whole: StepRequest | None, setting: StepSetting) -> Simulated:
    """Return the result with its last step's seconds; ``whole``: a split step's one-device request."""
    result = one.simulation
    if isinstance(result, Simulation):
        passing = [estimate.seconds(work, gpu) for work in result.work[-2:]] if setting.accumulate > 1 else []
        step, devices = estimate.seconds(result.work[-1], gpu), 1
        step = added([passing[0].times(setting.accumulate - 1), step]) if passing else step
    else:
        assert whole is not None, "configs from files are not split"
        devices = result.sharding.readers
        step = split_seconds(() if result.work else work_of(whole), result, gpu, link)
    return replace(one, step=step, tokens=setting.batch * setting.seq * setting.accumulate * devices)


def tables(heading: str, results: Sequence[Simulated]) -> list[Any]:
    """Return the results as tables: memory and, if computed, what a run reserves, seconds, and what fits."""
    hosts = [one.simulation.host_bytes for one in results if one.simulation.host_bytes]
    paged = f"; {units.size(hosts[0])} in main memory" if hosts else ""
    caption = f"peak: the most that tensors take at any moment; reserved: what PyTorch's CUDA allocator holds{paged}"
    loads = dict.fromkeys(one.loading for one in results if one.loading)
    caption += "".join(f"; while the base model is {one.told}" for one in loads)
    rows = [{"name": one.name, **one.simulation.as_dict()} for one in results]
    rows = [
        {"step": row.get("step_reserved_bytes", row["reserved_bytes"]), **row, **row["parts"]} for row in rows
    ]
    sizes = {"peak": "peak_bytes", "reserved": "step", **{part: part for part in _PARTS}}
    columns: dict[str, output.Column] = {"method": "name"}
    columns |= {f">{part}": (key, units.size) for part, key in sizes.items()}
    shown = [output.table(f"{heading}: memory of a training step (simulated)", rows, columns, caption)]
    runs = [(one.name, run) for one in results if (run := getattr(one.simulation, "run", None))]
    if runs:
        ways = [
            (name, way, *map(units.size, (found.low, found.value, found.high)))
            for name, run in runs
            for way, found in run.ways.items()
        ]
        title = "Reserved over a run whose rows differ in length (simulated)"
        shown.append(
            output.table(title, ways, ("method", "with", ">low", ">value", ">high"), runs[0][1].told)
        )
    times = [
        (one.name, one.step.span, one.step.bottleneck, f"{one.tokens / one.step.value:,.0f}")
        for one in results
        if one.step
    ]
    if times:
        title = "Time per step (estimated from its operations)"
        shown.append(output.table(title, times, ("method", ">time per step", "bottleneck", ">tokens/s")))
    rooms = [(one.name, one.room) for one in results if one.room]
    if rooms:
        first = rooms[0][1]
        sizes_found = [
            (
                name,
                "yes" if room.fits else "no",
                units.size(room.needed_bytes),
                f"{room.batch:,}",
                f"{room.seq:,}",
            )
            for name, room in rooms
        ]
        title = f"{first.device.holding}: {units.size(first.device.limit(first.split))} usable (simulated)"
        about = (
            "largest batch at the given length, longest row at the given batch; accurate to one part in 32"
        )
        heads = ("method", "fits", ">needs", ">largest batch", ">longest row")
        shown.append(output.table(title, sizes_found, heads, about))
    return shown


@dataclass(frozen=True)
class MemoryOptions(StepForm):
    """The step that ``memory`` simulates, on one device or on several."""

    accumulate: int = whole(
        1, "Accumulation steps",
        "Number of passes per update, each with --batch rows; gradients stay in memory until the update.",
        least=1, most=limits.DEVICES,
    )  # fmt: skip
    devices: int = whole(1, "Devices", "Device count; --batch is per device.", least=1, most=limits.DEVICES)
    sharding: str = choice("none", "Sharding", TITLES["about"]["sharding"], SHARDING_TITLES)
    link: str = choice("pcie", "Link", "What connects the devices.", {name: name for name in kernels.LINKS})
    no_sync: bool = yes_no(
        False, "Reduce gradients once per update",
        "With several passes, only the last pass reduces the gradients over the devices (no_sync). Until then, each "
        "device keeps whole gradients. accelerate and Lightning Fabric do this by default.",
    )  # fmt: skip

    @property
    def setting(self) -> StepSetting:
        """Return the sizes and choices that do not depend on the model."""
        return replace(super().setting, accumulate=self.accumulate)


#: The options that --protocol sets.
_OF_PROTOCOL = tuple(name for name in StepForm.fields() if name not in ("model", "device", "batch"))
_OPTIONS = ("batch", *_OF_PROTOCOL, "accumulate", "devices", "sharding", "link", "no_sync")


class Protocol(StrEnum):
    """How published peaks were measured."""

    METAMATH = "metamath"


@command("memory")
@form_options(MemoryOptions, _OPTIONS)
def memory_command(
    given: dict[str, Any],
    file: options.ConfigFile = None,
    model: options.OneModel = None,
    method: options.Methods = None,
    sets: options.Sets = None,
    adapter_config: options.AdapterConfigs = None,
    generate: Annotated[
        str | None, option("--generate", "B,NEW", "After the step, generate NEW tokens for B rows.")
    ] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            "--protocol",
            help="Simulate the step as the published peaks were measured. This sets everything except --batch and "
            "--generate.",
        ),
    ] = None,
    fits: Annotated[
        str | None,
        option("--fits", "DEVICE", "Find the largest batch and length on a device, such as a100-80."),
    ] = None,
    task: Annotated[str | None, option("--task", "NAME", "Simulate this task's head and labels.")] = None,
    gpu: Annotated[
        str | None, option("--gpu", "NAME", "Also estimate the time per step on a GPU, such as h100 or l40s.")
    ] = None,
    lengths: options.LengthsFile = None,
    as_json: options.Json = False,
) -> None:
    """Simulate the memory of a training step on a GPU, without weights. The default is every method that applies."""
    reading, own, rows = options.read_foreign(file), dict(given), lengths_in(lengths)
    if rows is not None:
        given = {"seq": rows.tokens[-1], **given}
    if reading is not None:
        reading = reading.on({**given, "lengths": lengths} if lengths else given)
        given = reading.step(given)
        if reading.method and not method and not adapter_config:
            method = [reading.method]
            taken = {text.partition("=")[0].strip() for text in sets or ()}
            sets = [*(sets or ()), *(one for one in reading.sets if one.partition("=")[0] not in taken)]
    entry, wanted = resolve(options.model_of(reading, model)), MemoryOptions(**given)
    labels, per_token = options.head_of(task, entry)
    stored = COMPUTING[wanted.precision].stored
    if "dtype" in given and wanted.dtype in PRECISIONS and stored not in ("", wanted.dtype):
        raise BadInput(
            f"--precision {wanted.precision} stores the base in {stored}. Leave --dtype out.", "dtype"
        )
    how = _sharing(wanted, adapter_config, protocol)
    if rows is not None:
        others = {"fits": fits, "protocol": protocol, "generate": generate}
        for name in filter(others.get, others):
            raise BadInput(f"A run over --lengths is simulated without --{name}. Use one of the two.", name)
    card = None if gpu is None else get_device(gpu)
    device = None if fits is None else get_device(fits)
    if protocol:
        if device:
            raise BadInput(
                "--fits searches batches and lengths, which --protocol sets. Use one of the two.", "fits"
            )
        metamath.check_protocol(entry)
        setting = (
            replace(metamath.PROTOCOL_SETTING, batch=wanted.batch)
            if "batch" in given
            else metamath.PROTOCOL_SETTING
        )
        heading = f"{entry.title}, protocol of the published runs, {setting.batch} rows"
    else:
        wanted = _sized(wanted, given, entry)
        setting = wanted.setting
        size = (
            f"images of {images.words(entry.config)}" if entry.kind == "vision" else f"{wanted.seq:,} tokens"
        )
        heading = f"{entry.title}, {wanted.batch:,} × {size}"
        if how.runs != "none":
            heading += f" on each of {how.devices:,} devices ({SHARDING_TITLES[how.kind]})"
    tags = labels if labels and per_token else 0
    of_run = () if rows is None else over_a_run.thinned(rows.tokens)
    setting = replace(setting, generate=_generation(generate), tags=tags, lengths=of_run)
    if entry.kind == "vision":
        texts_only = {
            "lengths": (lengths, f"All images of {entry.title} have one length. Leave --lengths out."),
            "gpu": (gpu, f"--gpu has no times for models of images, such as {entry.title}. Leave it out."),
            "fits": (
                fits,
                f"--fits also searches the longest row, and all images of {entry.title} have one length. Leave --fits "
                "out and try values of --batch.",
            ),
        }
        for name, (value, why) in texts_only.items():
            if value is not None:
                raise BadInput(why, name)
    if card is not None:
        speed_named(card.name, wanted.devices)
        kernels.link_seconds(0, wanted.link)
        setting = replace(setting, device=card.kind, capability=card.capability)
    setting.check()
    chosen = options.choose(entry, method, sets, adapter_config)
    if task is not None and chosen.files:
        raise BadInput("An adapter config names its own task. Leave --task out.", "task")
    jobs = _published(entry, chosen) if protocol else _jobs(entry.name, chosen, wanted, how)
    every = not method and not adapter_config
    results, failed, left_out = _simulate_all(entry, chosen, jobs, setting, device, every)
    own = {spec.slug: spec.quantization(values) for spec, values in chosen.methods}
    dtype = StepForm.dtype if protocol else wanted.dtype
    results = [
        replace(
            one, loading=loading(entry.shape, dtype, setting.precision, own.get(one.simulation.method), how)
        )
        for one in results
    ]
    if card is not None:
        steps = {
            spec.slug: StepRequest(entry.name, spec.slug, values, setting, wanted.dtype, wanted.checkpointing)
            for spec, values in chosen.methods
        }
        results = [
            timed(one, card.name, wanted.link, steps.get(one.simulation.method), setting) for one in results
        ]
    written = None
    if reading is not None and card is not None and chosen.methods and how.kind != "tp":
        spec, values = chosen.methods[0]
        job = replace(job_of(reading, entry.name, values, own), request=steps[spec.slug])
        written = as_written(reading, job, card, wanted.link)
    chosen.tell()
    for note in (*left_out, *(f"note: {text}" for text in sharding_notes(how))):
        output.note(note)
    if protocol:
        for name in filter(given.__contains__, _OF_PROTOCOL):
            output.note(f"note: {option_of(MemoryOptions, name)} was ignored: --protocol {protocol} sets it")
    if any(value and value.bits == 4 for value in own.values()) or dtype in ("nf4", "fp4"):
        output.note(f"note: {TITLES['notes']['four bits']}")
    usual = not (protocol or wanted.precision or wanted.adapter_dtype or wanted.dtype == "float32")
    if card is not None and usual:
        output.note(f"note: {told_adapters(card.name)}")
    if card is not None and (unsure := unmeasured(entry.shape, card.name)):
        output.note(f"note: {unsure}")
    more = {} if reading is None else {**reading.as_dict(), "as_written": written}
    document = [{**one.as_dict(), **more} for one in results]
    output.show(
        document, as_json, human=lambda: [*options.tables_of(reading, written), *tables(heading, results)]
    )
    if failed:
        raise typer.Exit(FAILED)


Named = tuple[str, Job, Path | None, int]


def _sized(wanted: MemoryOptions, given: Mapping[str, Any], entry: ModelEntry) -> MemoryOptions:
    """Return the step with its sizes checked; images set the length. Raises BadInput if one is missing."""
    if entry.kind == "vision":
        if "batch" not in given:
            raise BadInput("--batch is missing. Give the number of images per step.", "batch")
        seen = entry.shape.max_positions or wanted.seq  # every image is as long as the others
        return wanted if "seq" in given else replace(wanted, seq=seen)
    if not {"batch", "seq"} <= given.keys():
        raise BadInput("--batch or --seq is missing. Give the batch size and the tokens per row.", "batch")
    return wanted


def _sharing(wanted: MemoryOptions, files: Sequence[Path] | None, protocol: Protocol | None) -> Sharding:
    """Return how devices share the step. Raises BadInput for steps that cannot be simulated on several."""
    how = Sharding(wanted.sharding, wanted.devices, sync_each=not wanted.no_sync)
    how.check()
    if how.runs != "none" and (files or protocol):
        what = "--protocol describes runs" if protocol else "Adapter configs from files are simulated"
        raise BadInput(f"{what} on one device; leave --devices out.", "devices")
    return how


def _jobs(model: str, chosen: Subjects, wanted: MemoryOptions, how: Sharding) -> Iterator[Named]:
    """Yield the name, simulation, file and number of virtual tokens of every subject."""

    def of_method(spec: MethodSpec, values: Values, setting: StepSetting) -> Result:
        request = StepRequest(model, spec.slug, values, setting, wanted.dtype, wanted.checkpointing)
        return simulate(request) if how.runs == "none" else simulate_sharded(request, how)

    def of_file(content: Any, setting: StepSetting) -> Simulation:
        return simulate_config(ConfigRequest(model, content, setting, wanted.dtype, wanted.checkpointing))

    for spec, values in chosen.methods:
        virtual = spec.virtual_tokens(values)
        yield spec.slug, partial(of_method, spec, values), None, virtual
    for file in chosen.files:
        number = (file.content or {}).get("num_virtual_tokens")
        virtual = number if isinstance(number, int) else 0  # what is no number is refused with the config
        yield str(file.path), partial(of_file, file.content), file.path, virtual


def _published(entry: ModelEntry, chosen: Subjects) -> Iterator[Named]:
    """Yield as :func:`_jobs`, under the published protocol. Raises BadInput for methods it does not cover."""

    def run(content: Any, setting: StepSetting) -> Simulation:
        return metamath.simulate_published(entry.name, content, setting.batch, setting.generate)

    for spec, values in chosen.methods:
        config = spec.config(entry.shape, values, task_type(entry.kind))
        if (config is None and spec.slug != "full") or spec.quantization(values):
            raise BadInput(
                f"The published runs have no {spec.title}; they use PEFT's methods on a 16-bit base model. Leave "
                "--protocol out.",
                "method",
            )
        yield spec.slug, partial(run, config and config.to_dict()), None, 0
    for file in chosen.files:
        yield str(file.path), partial(run, file.content), file.path, 0


def _simulate_all(
    entry: ModelEntry,
    chosen: Subjects,
    jobs: Iterator[Named],
    setting: StepSetting,
    device: Device | None,
    every: bool,
) -> tuple[list[Simulated], bool, list[str]]:
    """Return the simulations that work, whether any failed (reasons go to stderr), and notes on omissions. ``every``:
    no method was named, so those that do not suit the step are left out. Raises BadInput for a config that cannot be
    applied, SimulationError if nothing works."""
    total = len(chosen.methods) + len(chosen.files)
    results: list[Simulated] = []
    failures: list[str] = []
    left_out: list[str] = []
    with ProgressBars(lines=False) as bars:
        for done, (name, job, file, virtual) in enumerate(jobs):
            bars.update("Simulating", done / total, name)
            try:
                if device is None:
                    results.append(Simulated(job(setting), file=file))
                else:
                    limit = entry.shape.max_positions and entry.shape.max_positions - virtual
                    simulation, room = search_fitting(job, setting, device, limit)
                    results.append(Simulated(simulation, room, file))
                    for what in room.at_least:
                        most = f"{LARGEST_SEARCHED[what]:,} {_UNITS[what]}"
                        left_out.append(f"note: {name}: at least {most} fit; no larger size was searched")
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


def _generation(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        wrong = f"'{echoed(text)}' has another form."
        raise BadInput(f"--generate needs rows and new tokens, such as 50,300; {wrong}", "generate")
    return int(parts[0]), int(parts[1])
