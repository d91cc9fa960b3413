"""Check before a run starts whether it fits into free memory; a refusal names what would fit.

Three checks, each made only if the one before leaves the answer open, so that most runs start without delay:

1. An upper bound, without torch and in a millisecond: parameters, trained copies and, for every token of a
   batch of the longest rows, all that any layer reads and writes. Tests hold it above the simulation for every
   method. It decides most runs of the live models.
2. The step itself, simulated in a process of its own (one second) on the largest batch that the run will make: rows
   are encoded and ordered as in the run, so a refusal is never about rows that do not exist.
3. Only for a refusal: the same step with fewer rows, with shorter rows, and with each of the other methods.

Free memory on the CPU is what the system calls available, less :data:`RESERVE`; on a GPU what the driver reports. It is
checked again when a queued run's turn comes: other runs may have ended, or other programs started.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft_lab.core import disk as storage
from peft_lab.core import inspector, machine, units
from peft_lab.core.errors import BadInput, PeftLabError, RunError, SimulationError
from peft_lab.engine.lab import LabBatch, simulate_lab
from peft_lab.engine.request import Simulation, StepRequest
from peft_lab.engine.simulate import needed_bytes as needed
from peft_lab.methods import all_methods
from peft_lab.models import images
from peft_lab.models.catalogue import resolve
from peft_lab.models.shapes import CLASSIFIERS
from peft_lab.runs import course, store
from peft_lab.runs.spec import SHORTEST, RunRequest, RunSpec
from peft_lab.runs.training import tracked_step
from peft_lab.training import batches
from peft_lab.training.batches import Encoded
from peft_lab.training.tasks.pictures import MAX_BYTES, MAX_LABELS

#: Bytes that the run's process needs besides its tensors: interpreter, libraries, allocator slack. Peaks of
#: real runs were 0.59 to 0.80 GB above their tensors.
RESERVE = 2**30
_WORD = 4  # bytes of a number in float32, the widest that occurs
# Parameter and master copy, a gradient of each, two moments, and two temporaries for clipping and copying.
_PER_TRAINED = 8 * _WORD
_PER_FEATURE = (
    2  # tensors stored per input and output width of a matrix: inputs, outputs, casts, an adapter's
)
_PER_SCORE = 2  # attention's scores: their softmax and a dropout mask
_PER_LOGIT = 3  # logits, their softmax, their gradient
_PASSES = 4  # over the rows; the largest batch is searched among them


def require(spec: RunSpec, waits: bool = False) -> int:
    """Return the bytes that a validated spec's run writes at most. Raises BadInput or RunError if memory or disk lack
    room; memory is not checked for a run that ``waits`` for its turn."""
    written = needed_disk_bytes(spec)
    problem = disk_refusal(spec)
    if problem is not None:
        raise RunError(problem)
    error = None if waits else refusal(spec)
    if error is not None:
        raise error
    return written


def refusal(spec: RunSpec) -> BadInput | None:
    """Return why a validated spec cannot fit and what would; ``None`` if it fits or cannot be simulated."""
    device, free = free_memory()
    if bound(spec) <= free:
        return None
    data = spec.to_dict()
    try:
        needed = inspector.get_inspector(inspector.Worker.MEMORY).ask(needed_bytes, data, device)
    except SimulationError:
        return None  # do not refuse a method only because it cannot be simulated
    if needed <= free:
        return None
    would = inspector.get_inspector(inspector.Worker.MEMORY).ask(what_fits, data, device, free)
    kept = f", without the {units.size(RESERVE)} reserved for Python" if device == "cpu" else ""
    needs, room = units.unlike(needed, max(0, free))
    works = {"batch": would["batch"], "max_length": would["length"]}
    return BadInput(
        f"This run does not fit: a step needs {needs}, and this {'machine' if device == 'cpu' else 'GPU'} has {room} "
        f"free{kept}. {_sentence(would)}",
        "batch",
    ).with_works(**{name: size for name, size in works.items() if size})


def free_memory() -> tuple[str, int]:
    """Return the kind of device a run will use, and the bytes that its tensors may take there now."""
    if machine.may_have_gpu():
        kind, free = inspector.ask(free_on_device, next(_numbers))
        if kind == machine.CUDA.kind:
            return kind, free
        return (
            machine.CPU.kind,
            free - RESERVE,
        )  # Apple's GPUs share the CPU's memory and are simulated as the CPU
    return machine.CPU.kind, machine.free_memory() - RESERVE


_numbers = (
    itertools.count()
)  # make each question unique, so that the worker does not answer it from its cache


def free_on_device(_: int) -> tuple[str, int]:
    """Return the kind of device a run will use, and its free bytes. Imports torch."""
    device = machine.in_use()
    return device.kind, device.free()


# -- 1: the bound ------------------------------------------------------------------------------------------------


def bound(spec: RunSpec) -> int:
    """Return an upper bound, in bytes, for any step of a validated spec, from the model's shape alone."""
    shape, method = spec.entry.shape, spec.method_spec
    labels = MAX_LABELS if shape.kind == "vision" else 2
    head = shape.hidden * shape.hidden + labels * (2 * shape.hidden + 1)  # DINOv2's reads two vectors
    trained = method.formula(shape, spec.values).trainable + (head if shape.kind in CLASSIFIERS else 0)
    length = spec.max_length + method.virtual_tokens(spec.values)
    tokens = spec.batch * length
    wide = sum(
        group.count
        * sum(sum(sizes) if len(sizes) == 2 else 2 * shape.hidden for sizes in group.parameters.values())
        for group in shape.groups
        if group.layers
    )
    scores = shape.num_layers * shape.heads * length * _PER_SCORE
    logits = _PER_LOGIT * shape.vocab if shape.kind not in CLASSIFIERS else 0
    return (
        _WORD * (3 * shape.total // 2 + tokens * (_PER_FEATURE * wide + scores + logits))
        + _PER_TRAINED * trained
    )


# -- 2: the largest step, simulated ------------------------------------------------------------------------------


def needed_bytes(data: Mapping[str, Any], device: str) -> int:
    """Return the bytes that the largest step of a run needs. Imports torch; for a worker process."""
    spec = RunSpec.from_dict(data)
    return _simulated(spec, largest_batch(spec), device)


def largest_batch(spec: RunSpec) -> dict[str, Any]:
    """Return the size (``batches.size_of``) of the batch with the most tokens among those that the run will make."""
    # Later passes over the same rows contain no longer ones.
    return _size_of(spec, lambda made: max(made, key=lambda rows: len(rows) * max(map(len, rows))), _PASSES)


def _size_of(
    spec: RunSpec, pick: Callable[[list[list[Encoded]]], list[Encoded]], passes: int | None = None
) -> dict[str, Any]:
    if spec.task_object().images:
        return images.size_of_batch(
            spec.batch, resolve(spec.model).config
        )  # one of few images holds some twice
    return batches.size_of(batches.collate(pick(course.planned_batches(spec, passes)), 0, "cpu"))


def step_request(
    spec: RunSpec, batch: Mapping[str, Any], device: str, attention: str | None = None
) -> StepRequest:
    """Return the request to simulate one step of a run. ``batch``: its size, as :func:`largest_batch`."""
    dtype = str(machine.compute_dtype()).removeprefix("torch.")
    sized = LabBatch.of(batch, device, attention, tags_of(spec))
    return StepRequest(spec.model, spec.method, spec.values, sized, dtype)


def tags_of(spec: RunRequest) -> int:
    """Return the number of labels of a task that tags tokens; 0 for others. Raises BadInput for an unusable file."""
    task = spec.task_object()
    return len(task.labels) if task.per_token else 0


def _simulated(spec: RunSpec, batch: Mapping[str, Any], device: str) -> int:
    return needed(simulate_lab(step_request(spec, batch, device)))


# -- 3: what would fit -------------------------------------------------------------------------------------------


def what_fits(data: Mapping[str, Any], device: str, free: int) -> dict[str, Any]:
    """Return what would fit of a refused run: ``batch`` rows or rows cut to ``length`` tokens, found by halving (0:
    none), or ``methods`` by title, with default settings. Imports torch; for a worker process."""
    spec = RunSpec.from_dict(data)
    batch = largest_batch(spec)

    def fits(changed: RunSpec, sizes: Mapping[str, Any]) -> bool:
        return _simulated(changed, sizes, device) <= free

    rows = _halved(batch["rows"], 1, lambda size: fits(spec, _smaller(batch, rows=size)))
    whole = 0 if "image" in batch else batch["length"]
    length = _halved(whole, SHORTEST, lambda size: fits(spec, _smaller(batch, length=size)))
    shape, methods = spec.entry.shape, []
    for slug, method in all_methods().items():
        if slug == spec.method or any(problem.level == "error" for problem in method.problems(shape, {})):
            continue
        with suppress(PeftLabError):  # one that cannot be simulated is not offered
            if fits(replace(spec, method=slug, values=method.require(shape, {})), batch):
                methods.append(method.title)
    return {"batch": rows, "length": length, "methods": methods}


def _halved(size: int, least: int, fits: Callable[[int], bool]) -> int:
    """Return the first of a half, a quarter ... that fits; 0 if none does. Halving keeps simulations few."""
    size //= 2
    while size >= least and not fits(size):
        size //= 2
    return size if size >= least else 0


def _smaller(batch: Mapping[str, Any], **size: int) -> dict[str, Any]:
    """Return the size of a batch with fewer or shorter rows; its predicted tokens shrink with it."""
    made = {**batch, **size}
    made["kept"] = batch["kept"] if batch["apart"] else min(batch["kept"], made["length"])
    made["predicted"] = min(batch["predicted"], made["rows"] * made["kept"])
    made["padded"] = batch["padded"] and made["rows"] > 1
    return made


def _sentence(would: Mapping[str, Any]) -> str:
    ways = []
    if would["batch"]:
        ways.append(f"a batch of {would['batch']:,}")
    if would["length"]:
        ways.append(f"rows cut to {would['length']:,} tokens")
    if would["methods"]:
        ways.append("the method " + " or ".join(would["methods"]))
    if not ways:
        return "No smaller batch, shorter row or other method would fit with this model."
    return f"This would fit: {', or '.join(ways)}."


# ----------------------------------------
# Check before a run starts that the disk has room for what it will write.
#
# The adapter's size follows from the method's formula, that of the events from steps and rows; the method's picture
# is bounded by the largest that any method wrote (``tests/runs/test_admission.py`` holds the bound above real runs).


#: Bytes kept free besides what a run needs, for other runs, learners' answers and the system.
DISK_RESERVE = 16 * 2**20
_DISK_WORD = 4  # bytes of a number in a stored adapter, at most
_STEP = 260  # bytes of a step's event
_EVALUATION = 400  # progress events of one evaluation; each takes _LINE
_LINE = 140
_ONCE = 256 * 2**10  # the tracked step's timeline, probes, record, configuration, the library's messages
_PICTURE = 12 * 2**20


def disk_refusal(spec: RunSpec) -> str | None:
    """Return why the disk lacks room for a validated spec, in one sentence; ``None`` if it does not."""
    free, needed = storage.free(store.root()), needed_disk_bytes(spec) + DISK_RESERVE
    if free is None or free >= needed:
        return None
    needs, there = units.unlike(needed, free)
    return (
        f"The disk is too full for this run: it needs {needs} with the reserve, and {there} are free in "
        f"{store.root()}. Delete runs that you no longer need."
    )


def needed_disk_bytes(spec: RunSpec) -> int:
    """Return an upper bound for the bytes that a validated spec's run writes."""
    shape, method = spec.entry.shape, spec.method_spec
    formula = method.formula(shape, spec.values)
    labels = 2 * MAX_LABELS if shape.kind == "vision" else 16
    head = shape.hidden * shape.hidden + labels * shape.hidden if shape.kind in CLASSIFIERS else 0
    adapter = _DISK_WORD * (max(formula.stored or 0, formula.trainable) + head)
    # The loss of every step is in the events and in the record.
    events = spec.steps * (_STEP + 24) + 2 * _EVALUATION * _LINE + _ONCE
    data = Path(spec.own_data) if spec.own_data else None
    own = 0 if data is None or not data.exists() else MAX_BYTES if data.is_dir() else data.stat().st_size
    start = 0 if spec.start is None else adapter  # a copy of the adapter that training starts from
    return adapter + events + _PICTURE + own + 2 * start


# ----------------------------------------
# The simulated counterpart of a run's measured step, from the size of its batch.


#: Fields of the ``memory`` event that describe the tracked batch; see :class:`peft_lab.engine.lab.LabBatch`.
SIMULATED_BATCH = ("rows", "length", "kept", "predicted", "padded")


def peak_of_step(request: StepRequest) -> int:
    """Return the peak of the tensors of one step of a run, in bytes. Imports torch."""
    return simulate_lab(request).peak_bytes


def ask_of_run(record: Mapping[str, Any]) -> Future[int] | None:
    """Start :func:`peak_of_step` for the tracked step in a run's record; ``None`` if no step was measured."""
    memory, spec = record["memory"] or {}, record["spec"]
    if not all(name in memory for name in SIMULATED_BATCH):
        return None
    tags = tags_of(RunRequest.from_dict(spec))
    batch = LabBatch.of(memory, record["device"], memory.get("attention"), tags)
    asked = StepRequest(spec["model"], spec["method"], spec["values"], batch, record["dtype"])
    return inspector.get_inspector(inspector.Worker.MEMORY).submit(peak_of_step, asked)


def peak_of_run(record: Mapping[str, Any]) -> int | None:
    """Return the result of :func:`ask_of_run`. Raises BadInput or SimulationError with the reason."""
    asked = ask_of_run(record)
    return None if asked is None else asked.result()


# ----------------------------------------
# Simulate a run's measured step before it is trained, on the batch that the run will track.


def step_ahead(data: Mapping[str, Any]) -> tuple[Simulation, dict[str, Any]]:
    """Simulate the step that a run of this spec will measure, on the very batch; return the simulation and the batch's
    size. Imports torch; for a worker process."""
    spec = RunSpec.from_dict(data)
    batch = _size_of(spec, lambda made: made[tracked_step(spec)])
    request = step_request(spec, batch, machine.in_use().simulated_as, course.attention_for(spec))
    return simulate_lab(request), batch
