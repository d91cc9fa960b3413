"""Simulate a training step: build the model without weights, run the real step on it, add up the memory; find the
largest batch, row length or model that fits a device.

Imports torch inside; pages and commands call this in the inspector process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from peft_lab.core.errors import BadInput, SimulationError, Unsupported, in_short
from peft_lab.core.later import torch
from peft_lab.engine import account, over_a_run
from peft_lab.engine.build import Blueprint, Quantise, layers_alike
from peft_lab.engine.devices import Device
from peft_lab.engine.fake import peft_type
from peft_lab.engine.request import (
    COMPUTING,
    MIXED,
    PRECISIONS,
    ConfigRequest,
    Reserved,
    Simulation,
    StepRequest,
    StepSetting,
    torch_dtype,
)
from peft_lab.engine.request import largest as request_largest
from peft_lab.engine.running import Devices, Schedule, run, settled, two_steps
from peft_lab.engine.tracker import Trace
from peft_lab.engine.work import Work, left, steps_of
from peft_lab.models import images
from peft_lab.models.catalogue import REFUSALS, reason
from peft_lab.models.heads import task_type
from peft_lab.models.meta import uncollected
from peft_lab.models.shapes import CLASSIFIERS, a_model

if TYPE_CHECKING:
    from peft_lab.methods.base import MethodSpec
    from peft_lab.models.shapes import ModelEntry

_TASKS = (None, "CAUSAL_LM", "SEQ_2_SEQ_LM", "SEQ_CLS")
#: Formats for the base beside the precisions; all else is then in bfloat16. Double quantisation as in QLoRA.
PACKED = {"nf4": Quantise(4, "nf4"), "fp4": Quantise(4, "fp4"), "int8": Quantise(8, "int8", double=False)}


def stored_in(dtype: str, precision: str = "") -> tuple[torch.dtype, Quantise | None]:
    """Return the data type of weights that are not packed, and how linear layers are. Raises BadInput for others."""
    stored = COMPUTING[precision].stored
    if dtype in PACKED:
        return torch_dtype(stored or "bfloat16"), PACKED[dtype]
    if dtype not in PRECISIONS:
        known = ", ".join((*PRECISIONS, *PACKED))
        raise BadInput(f"A base model cannot be stored in '{dtype}'. Known: {known}.", "dtype")
    return torch_dtype(stored or dtype), None


def simulate_blueprint(
    blueprint: Blueprint,
    setting: StepSetting,
    model: str,
    method: str,
    schedule: Schedule = two_steps,
    works: bool = True,
) -> Simulation:
    """Simulate a blueprint under a setting. ``works``: whether to trace the step's work beside its memory. Raises
    BadInput: sizes out of range. SimulationError: as :func:`run`. DeviceFull: the step needs more than the setting's
    capacity."""
    start = time.perf_counter()
    setting.check()
    with uncollected():
        trace, host_bytes, unrolled = run(blueprint, setting, schedule, Devices(works or setting.offload))
        points = account.timeline(trace)
        top = request_largest(points)
        reserved = _reserved(trace, setting)
        over = None
        if setting.lengths:
            packs = over_a_run.packs(blueprint)
            over = over_a_run.simulate(partial(_steps, blueprint), setting, _weights, packs)
    steps = steps_of(trace.work)
    begins = [i for i, one in enumerate(points) if one.phase == "forward" != points[i - 1].phase] or [0]
    last = ([i for i, one in enumerate(points) if one.phase == "zero_grad"] or begins)[-1]
    return Simulation(
        model=model,
        method=method,
        peak_bytes=top.nbytes,
        reserved_bytes=reserved,
        parts=top.parts,
        points=tuple(points[last:]),
        host_bytes=host_bytes + (left(steps[-1]) if setting.offload else 0),
        unrolled=unrolled,
        seconds=time.perf_counter() - start,
        work=tuple(steps),
        run=over,
    )


def _steps(blueprint: Blueprint, schedule: Schedule, setting: StepSetting) -> Trace:
    return run(blueprint, setting, schedule, Devices(False))[0]


def _weights(trace: Trace) -> int:
    """Return the bytes of the weights, which are allocated and freed before loading."""
    return sum(s.nbytes for s in trace.storages if s.part in ("weights", "quantisation"))


def _reserved(trace: Trace, setting: StepSetting) -> int | None:
    """Return the most bytes that the device's allocator holds; ``None`` without such an allocator."""
    if setting.device != "cuda":
        return None
    return account.reserve(trace, setting.capability, setting.capacity, _weights(trace))


def bytes_needed(request: StepRequest) -> int:
    """Return the bytes a device must have for a step: :func:`needed_bytes` of its simulation, without the rest of
    that. Raises the errors of :func:`simulate`.
    """
    trace = _traced(request, two_steps, works=False)
    return _reserved(trace, request.setting) or request_largest(account.timeline(trace)).nbytes


def reserved_over_run(request: StepRequest, orders: int) -> Reserved:
    """Return what runs over the setting's lengths reserve. Raises the errors of :func:`simulate`."""
    entry, spec = check(request)
    blueprint, setting = blueprint_of(request), request.setting
    with refusing(entry, spec), uncollected():
        return over_a_run.simulate(partial(_steps, blueprint), setting, _weights, orders=orders).reserved


def work_of(request: StepRequest) -> Work:
    """Return the work of the step of :func:`simulate`, without the rest of the simulation. Raises the same errors."""
    schedule = two_steps if request.setting.offload or request.setting.generate else settled
    return steps_of(_traced(request, schedule, works=True).work)[-1]


def _traced(request: StepRequest, schedule: Schedule, works: bool) -> Trace:
    """Trace a step: the part of a simulation that takes time."""
    entry, spec = check(request)
    blueprint = blueprint_of(request)
    request.setting.check()
    with refusing(entry, spec), uncollected():
        return run(blueprint, request.setting, schedule, Devices(works or request.setting.offload))[0]


def simulate(request: StepRequest, works: bool = True) -> Simulation:
    """Simulate a step of one of the lab's methods. ``works``: as in :func:`simulate_blueprint`. Raises BadInput:
    unknown names or values out of range. SimulationError: the step cannot be simulated, with the reason."""
    entry, spec = check(request)
    blueprint = blueprint_of(request)
    with refusing(entry, spec):
        return simulate_blueprint(blueprint, request.setting, entry.name, spec.slug, works=works)


def memory_of(request: StepRequest) -> Simulation:
    """Simulate a step's memory; its work only if it offloads. Raises the errors of :func:`simulate`."""
    return simulate(request, works=False)


def check(request: StepRequest) -> tuple[ModelEntry, MethodSpec]:
    """Check a step's names and values; return its model and method. Raises BadInput: unknown or out of range."""
    from peft_lab.methods import get_method
    from peft_lab.models.catalogue import resolve

    entry, spec = resolve(request.model), get_method(request.method)
    full = spec.require(entry.shape, request.values)
    _check_length(entry, entry.kind, request.setting, spec.virtual_tokens(full))
    return entry, spec


@contextmanager
def refusing(entry: ModelEntry, spec: MethodSpec) -> Iterator[None]:
    """Turn the errors that libraries raise meanwhile into one with their reason. Raises SimulationError: that one."""
    try:
        yield
    except REFUSALS as error:
        raise SimulationError(
            f"A step of {entry.title} with {spec.title} could not be simulated: the code of the model or of the "
            f"method failed with '{in_short(error, 200).rstrip('.')}' ({type(error).__name__})."
        ) from error


def _check_length(entry: ModelEntry, kind: str, setting: StepSetting, virtual: int) -> None:
    """Raise BadInput for rows longer than the model's positions, and for a generation by a model that writes no text.
    ``kind``: of the trained model."""
    if setting.generate and kind != "causal-lm":
        what = {
            "encoder": f"{entry.title} is an encoder and writes no text",
            "vision": f"{entry.title} reads images and writes no text",
            "seq2seq": f"{entry.title} is an encoder-decoder, and generation is simulated for decoders only",
            "causal-lm": "A config for classification does not generate text",
        }[entry.kind]
        raise BadInput(f"{what}. Leave the generation out.", "generate")
    limit = entry.shape.max_positions
    if kind == "vision" and setting.seq != limit:
        raise BadInput(
            f"{entry.title} reads images of {images.words(entry.config)}, and each takes {limit:,} positions. The "
            f"length of {setting.seq:,} tokens does not apply.",
            "seq",
        )
    extra = virtual + (setting.generate[1] if setting.generate else 0)
    if limit is not None and setting.seq + extra > limit:
        more = f" and {extra:,} virtual or generated ones" if extra else ""
        message = f"{entry.title} has {limit:,} positions, too few for {setting.seq:,} tokens{more}."
        raise BadInput(message, "seq")


def blueprint_of(request: StepRequest) -> Blueprint:
    """Return the blueprint of a step of one of the lab's methods. Raises BadInput: unknown names or values out of
    range. Unsupported: the method does not go with gradient checkpointing or with the base's storage format."""
    from peft_lab.methods import get_method
    from peft_lab.models import meta
    from peft_lab.models.catalogue import resolve

    entry, spec = resolve(request.model), get_method(request.method)
    full = spec.require(entry.shape, request.values)
    tags = request.setting.tags
    if tags and entry.kind != "encoder":
        raise BadInput(f"Only encoders can tag tokens; {entry.title} is {a_model(entry.kind)}.", "task")
    task = task_type(entry.kind, entry.kind in CLASSIFIERS, tags > 0)

    def apply(base: torch.nn.Module, depth: int) -> torch.nn.Module:
        shape = entry.shape
        if depth != shape.num_layers:
            config: Any = base.config
            shape = meta.read_shape(base, config, entry.kind, entry.name, entry.title)
        try:
            return spec.apply(base, shape, full, task)
        except Unsupported as error:
            # PEFT reads the base's checkpointing setting while it applies a method.
            if not (request.checkpointing and "checkpointing" in str(error)):
                raise
            raise Unsupported(
                f"{spec.title} cannot be trained with gradient checkpointing: PEFT passes the method's vectors to "
                "the layers in the cache, and checkpointing turns the cache off.",
                "checkpointing",
            ) from error

    setting = request.setting
    precision, packed = stored_in(request.dtype, setting.precision)
    how = spec.quantization(full)
    made = [getattr(setting, name) for name in ("precision", "adapter_dtype", "attention", "recompute")]
    variant = (request.dtype, request.checkpointing, tags, *made)
    if packed is not None and how is not None:
        raise Unsupported(
            f"{spec.title}'s own settings state how the base is stored: leave the precision at bfloat16.",
            "dtype",
        )
    _check_stored(spec.slug, bool(full.get("use_dora")), packed, how, setting)
    return Blueprint(
        config=meta.make_config(entry.config),
        kind=entry.kind,
        method=None if spec.slug == "full" else apply,
        dtype=precision,
        quantise=packed
        if how is None
        else Quantise(how.bits, how.kind, how.double, torch_dtype(how.compute_dtype)),
        checkpointing=request.checkpointing,
        num_labels=tags or Blueprint.num_labels,
        per_token=tags > 0,
        alike=layers_alike(entry.shape, lambda shape: spec.formula(shape, full)),
        source=json.dumps([entry.config, entry.kind, spec.slug, full, *variant], default=str),
        adapter_dtype=setting.adapter_dtype,
        attention=setting.attention,
        recompute=setting.recompute,
    )


def _check_stored(method: str, dora: bool, packed: Quantise | None, how: Any, setting: StepSetting) -> None:
    """Raise Unsupported for a packed base (or one that the method packs itself, ``how``) whose weights would have to be
    trained, kept in float32 or (for DoRA in 4 bits) read."""
    if dora and packed is not None and packed.bits == 4:
        raise Unsupported(
            "DoRA starts from the norms of the base's weights, which a simulation cannot read from 4-bit weights. "
            "Store the base in 8 bits or more.",
            "dtype",
        )
    if method == "full" and packed is not None:
        raise Unsupported(
            f"Full fine-tuning changes the weights themselves, which is not possible in {packed.bits} bits. Store the "
            "base in 16 or 32 bits.",
            "dtype",
        )
    if (packed or how) is not None and setting.precision == MIXED:
        other = "Choose autocast-bf16, which also multiplies in 16 bits."
        raise Unsupported(f"A base packed in 4 or 8 bits cannot be stored in float32. {other}", "precision")


def simulate_config(request: ConfigRequest, schedule: Schedule = two_steps) -> Simulation:
    """Simulate steps with any PEFT adapter config on a model. Raises BadInput: not a PEFT config, or one that PEFT
    cannot apply here. SimulationError: the step cannot be simulated, with the reason."""
    from peft_lab.methods.counting import count
    from peft_lab.models import meta
    from peft_lab.models.catalogue import resolve

    entry, adapter_config, setting = resolve(request.model), request.adapter_config, request.setting
    config = None if adapter_config is None else count.parse_config(entry, adapter_config)
    kind = entry.kind
    if config is not None and adapter_config is not None:
        # As in counting: an initialisation that reads values changes no shape, so it is dropped.
        count.drop_values(config)
        tasks = (*_TASKS, "TOKEN_CLS") if entry.kind == "encoder" else _TASKS
        if (task := adapter_config.get("task_type")) not in tasks:
            raise BadInput(
                f"This config is for {task}. Steps are simulated only for configs without a task and for "
                f"{', '.join(filter(None, tasks))}.",
                "adapter_config",
            )
        if count.task_of(entry, adapter_config) == "TOKEN_CLS":
            setting = replace(setting, tags=setting.tags or count.CONFIG_LABELS)
        if count.task_of(entry, adapter_config) == "SEQ_CLS" and kind != "vision":
            kind = "encoder"
            if entry.kind == "seq2seq":
                raise SimulationError(
                    f"{entry.title} classifies at its end-of-text token. A simulation has no text, so this step "
                    "cannot be simulated."
                )
    _check_length(entry, kind, setting, getattr(config, "num_virtual_tokens", None) or 0)
    precision, packed = stored_in(request.dtype, setting.precision)
    dora = bool(getattr(config, "use_dora", False))
    _check_stored("full" if config is None else "", dora, packed, None, setting)
    blueprint = Blueprint(
        config=meta.make_config(entry.config),
        kind=kind,
        method=config,
        dtype=precision,
        quantise=packed,
        checkpointing=request.checkpointing,
        num_labels=setting.tags or Blueprint.num_labels,
        per_token=setting.tags > 0,
        adapter_dtype=setting.adapter_dtype,
        attention=setting.attention,
        recompute=setting.recompute,
    )
    name = "full" if config is None else peft_type(config).lower()
    try:
        return simulate_blueprint(blueprint, setting, entry.name, name, schedule)
    except REFUSALS as error:
        if config is None:
            raise
        message = f"PEFT cannot apply this {name} config to {entry.title}: {reason(error)}"
        raise BadInput(message, "adapter_config") from error


LARGEST_SEARCHED = {"batch": 4096, "seq": 131_072}


def needed_bytes(simulation: Any) -> int:
    """Return the bytes a device must have for a step simulated there, on one or several: what its allocator holds, or
    the live tensors without such an allocator."""
    return int(simulation.reserved_bytes or simulation.peak_bytes)


def largest(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest size from 1 to ``most`` that fits, 0 if not even 1 does; ``fits`` must be monotone. Doubles
    until it does not fit, then bisects to within 1 in 32: about ten calls."""
    if not fits(1):
        return 0
    low, high = 1, 2
    while high <= most and fits(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > max(1, low // 32):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def largest_that_fits(
    what: Literal["batch", "seq"], device: Device, request: StepRequest, most: int | None = None
) -> int:
    """Return the largest ``batch`` or ``seq`` of a request that fits on ``device``. Raises the errors of
    :func:`simulate`."""
    asked = request.on(device)
    return largest(
        lambda size: device.holds(bytes_needed(asked.at(**{what: size}))),
        min(most or LARGEST_SEARCHED[what], LARGEST_SEARCHED[what]),
    )


def longest_row(request: StepRequest) -> int:
    """Return the request's row length, cut to a model's positions less the method's virtual and the generated tokens.
    Raises BadInput: the method does not run on the model."""
    from peft_lab.methods import get_method
    from peft_lab.models.catalogue import resolve

    shape, spec, setting = resolve(request.model).shape, get_method(request.method), request.setting
    taken = spec.virtual_tokens(spec.require(shape, request.values)) + (setting.generate or (0, 0))[1]
    return (
        setting.seq if shape.max_positions is None else max(1, min(setting.seq, shape.max_positions - taken))
    )
