"""Simulate: build the model without weights, run the real step on tensors without values, add up.

Imports torch inside; pages and commands call this in the inspector process.
"""

from __future__ import annotations

import gc
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_lab.adapter_configs import REFUSALS
from peft_lab.errors import BadInput, PeftLabError, SimulationError, Unsupported
from peft_lab.memory import account, optimizers, step
from peft_lab.memory.build import (
    Blueprint,
    adapted_modules,
    layers_alike,
    make_subject,
    names_layers,
    tensors_of,
)
from peft_lab.memory.fake import HOST, fake_device
from peft_lab.memory.result import Simulation, largest
from peft_lab.memory.setting import Setting, torch_dtype
from peft_lab.memory.standins import needs_real_adapter, refusal
from peft_lab.memory.tracker import Recorder, Trace
from peft_lab.memory.unroll import DEPTH, unroll, without_scalars

if TYPE_CHECKING:
    import torch

    from peft_lab.models import ModelEntry


@dataclass
class Stage:
    """What a schedule works with: the model on its device, the recorder, and the setting."""

    subject: step.Subject
    recorder: Recorder
    optimizer: Any
    setting: Setting

    def train(self, length: int | None = None, batch: int | None = None) -> None:
        """One optimizer step on ``batch`` rows of ``length`` tokens (the setting's by default)."""
        setting = self.setting
        inputs = step.training_batch(
            self.subject, batch or setting.batch, length or setting.seq, setting.padded
        )
        step.train(self.subject, self.recorder, self.optimizer, inputs, setting.device == "cuda")


#: What is run: a list of phases on a stage.
Schedule = Callable[[Stage], None]


def two_steps(stage: Stage) -> None:
    """Two optimizer steps (the second has the optimizer's states from the start), then generation if asked for."""
    stage.subject.model.train()
    stage.train()
    stage.train()
    if stage.setting.generate is not None:
        rows, new = stage.setting.generate
        stage.subject.outputs = None
        stage.subject.model.eval()
        step.generate(stage.subject, stage.recorder, rows, stage.setting.seq, new)


def run(blueprint: Blueprint, setting: Setting, schedule: Schedule = two_steps) -> tuple[Trace, int, bool]:
    """The trace of a schedule, the bytes of optimizer states on the host, and whether it was unrolled.

    Raises:
        SimulationError: the method needs values, or does something that has no fake implementation; with the reason.
    """
    reason = refusal(blueprint.method, blueprint.checkpointing)
    if reason is not None:
        raise SimulationError(reason)
    depth = blueprint.depth
    if depth > DEPTH * blueprint.period and not names_layers(blueprint.method):
        # What does not suit a few layers may suit all of them, and what suits neither says so at full depth.
        with suppress(PeftLabError, *REFUSALS):
            found = _unrolled(blueprint, setting, schedule)
            if found is not None:
                return (*found, True)
    trace, stage = _run_at(blueprint, setting, schedule, depth)
    return trace, _host_bytes(stage), False


def _unrolled(blueprint: Blueprint, setting: Setting, schedule: Schedule) -> tuple[Trace, int] | None:
    """The trace and the bytes on the host from a few layers; None where those do not show what all of them do."""
    period = blueprint.period
    trace, stage = _run_at(blueprint, setting, schedule, DEPTH * period)
    layers = stage.subject.layers
    if not layers:
        return None
    repeated = layers[2 * period : 3 * period]
    template = [p for layer in repeated for p in layer.parameters()]
    trained = sum(p.requires_grad for p in template)
    times = blueprint.depth // period
    deep = unroll(trace, times, trained) or unroll(without_scalars(trace), times, trained)
    if deep is None:
        return None
    adapted = adapted_modules([stage.subject.model]) + (times - DEPTH) * adapted_modules(repeated)
    if not (blueprint.alike or _agrees(deep, adapted, blueprint)):
        return None
    return deep, _host_bytes(stage) + (times - DEPTH) * _host_bytes(stage, template)


def _agrees(trace: Trace, adapted: int, blueprint: Blueprint) -> bool:
    """Whether an unrolled model has the adapter of the real one: some methods share matrices between distant layers.

    Read off the deep model on the meta device. Where an adapter is built of real tensors layer by layer
    (standins.REAL_ADAPTER), which would take long, it is compared with the adapter that is counted; and since what all
    layers share does not say in how many of them it is used, so are the modules that are adapted.
    """
    real = needs_real_adapter(blueprint.method)
    parts = ("adapter",) if real else ("weights", "adapter")
    unrolled = sorted(s.nbytes for s in trace.storages if s.part in parts)
    return [*([adapted] if real else []), *unrolled] == list(_facts(blueprint))


_known_facts: OrderedDict[str, tuple[int, ...]] = OrderedDict()
_KEPT = 64


def _facts(blueprint: Blueprint) -> tuple[int, ...]:
    """Of the model at its own depth: bytes of every storage; or the number of adapted modules and bytes of the trained
    storages (see :func:`_agrees`). Kept, because they do not change with batch or length."""
    key = blueprint.key()
    found = None if key is None else _known_facts.get(key)
    if found is None:
        if needs_real_adapter(blueprint.method):
            model = blueprint.counted()
            first: tuple[int, ...] = (adapted_modules([model]),)
            tensors = [t for t in tensors_of(model) if t.requires_grad]
        else:
            first, tensors = (), tensors_of(blueprint.build())
        sizes = (t.untyped_storage().nbytes() for t in tensors)
        found = (*first, *sorted(size for size in sizes if size))
        if key is not None:
            _known_facts[key] = found
            if len(_known_facts) > _KEPT:
                _known_facts.popitem(last=False)
    return found


def _host_bytes(stage: Stage, parameters: Sequence[Any] | None = None) -> int:
    """Paged states, which no trace of device memory shows: of all parameters, or of some."""
    paged = getattr(stage.optimizer, "paged_bytes", None)
    return 0 if paged is None else int(paged(parameters))


def _run_at(blueprint: Blueprint, setting: Setting, schedule: Schedule, depth: int) -> tuple[Trace, Stage]:
    model = blueprint.build(depth)
    recorder = Recorder(HOST)
    try:
        with fake_device(setting.device, blueprint.quantise is not None, recorder) as begin:
            subject = make_subject(model, blueprint, recorder, depth)
            optimizer = optimizers.make(setting.optimizer, subject.parameters, setting.device == "cuda")
            stage = Stage(subject, recorder, optimizer, setting)
            with begin(), step.watching(subject, recorder):
                schedule(stage)
            return recorder.stop(), stage
    except NotImplementedError as error:
        raise SimulationError(
            f"This step cannot be simulated: {str(error).strip().splitlines()[0][:200]}"
        ) from error


def simulate_blueprint(
    blueprint: Blueprint, setting: Setting, model: str, method: str, schedule: Schedule = two_steps
) -> Simulation:
    """Simulate a blueprint under a setting.

    Raises:
        BadInput: sizes that cannot be meant. SimulationError: as :func:`run`.
        DeviceFull: beyond the setting's capacity.
    """
    start = time.perf_counter()
    setting.check()
    # What was there before need not be looked through again and again: a full collection takes 0.3 s with torch loaded.
    gc.freeze()
    try:
        trace, host_bytes, unrolled = run(blueprint, setting, schedule)
    finally:
        gc.unfreeze()
    points = account.timeline(trace)
    top = largest(points)
    reserved = None
    if setting.device == "cuda":
        weights = sum(s.nbytes for s in trace.storages if s.part in ("weights", "quantisation"))
        reserved = account.reserve(trace, setting.capability, setting.capacity, warm_up=weights).reserved
    last = next((i for i in range(len(points) - 1, -1, -1) if points[i].phase == "zero_grad"), 0)
    return Simulation(
        model=model,
        method=method,
        peak_bytes=top.nbytes,
        reserved_bytes=reserved,
        parts=top.parts,
        points=tuple(points[last:]),
        host_bytes=host_bytes,
        unrolled=unrolled,
        seconds=time.perf_counter() - start,
    )


def simulate(
    model: str,
    method: str,
    values: Mapping[str, Any],
    setting: Setting,
    dtype: str = "bfloat16",
    checkpointing: bool = False,
) -> Simulation:
    """Simulate one of the lab's methods on a model of the catalogue, a Hugging Face id or a local path.

    Args:
        values: the method's knobs; missing ones at their defaults.

    Raises:
        BadInput: unknown names or values out of range. SimulationError: what cannot be simulated, with the reason.
    """
    from peft_lab.methods import get_method
    from peft_lab.models import resolve

    entry, spec = resolve(model), get_method(method)
    _check_length(entry, entry.kind, setting, spec.virtual_tokens(spec.require(entry.shape, values)))
    blueprint, name, slug = blueprint_of(model, method, values, dtype, checkpointing)
    return simulate_blueprint(blueprint, setting, name, slug)


def _check_length(entry: ModelEntry, kind: str, setting: Setting, virtual: int) -> None:
    """Raises BadInput for rows longer than the model has positions for, and for text asked of what writes none.

    ``kind``: of what is trained, ``encoder`` for a classifier.
    """
    if setting.generate and kind != "causal-lm":
        what = {
            "encoder": f"{entry.title} is an encoder and writes no text",
            "seq2seq": f"{entry.title} has an encoder beside its decoder, and writing text is simulated for decoders "
            "alone",
            "causal-lm": "A config for classification has no text written",
        }[entry.kind]
        raise BadInput(f"{what}: leave the generation out.", "generate")
    limit = entry.shape.max_positions
    extra = virtual + (setting.generate[1] if setting.generate else 0)
    if limit is not None and setting.seq + extra > limit:
        more = f" and {extra:,} virtual or generated ones" if extra else ""
        message = f"{entry.title} has {limit:,} positions: {setting.seq:,} tokens{more} do not fit."
        raise BadInput(message, "seq")


def blueprint_of(
    model: str, method: str, values: Mapping[str, Any], dtype: str, checkpointing: bool = False
) -> tuple[Blueprint, str, str]:
    """What to build for one of the lab's methods, with the model's and the method's names.

    Raises:
        BadInput: unknown names or values out of range.
    """
    from peft_lab import meta
    from peft_lab.methods import get_method
    from peft_lab.methods.base import plain_task
    from peft_lab.models import resolve

    entry, spec = resolve(model), get_method(method)
    full = spec.require(entry.shape, values)
    task = "SEQ_CLS" if entry.kind == "encoder" else plain_task(entry.kind)

    def apply(base: torch.nn.Module, depth: int) -> torch.nn.Module:
        shape = entry.shape
        if depth != shape.num_layers:
            config: Any = base.config
            shape = meta.read_shape(base, config, entry.kind, entry.name, entry.title)
        try:
            return spec.apply(base, shape, full, task)
        except ValueError as error:
            # PEFT looks at the base's setting while it applies a method.
            if not (checkpointing and "checkpointing" in str(error)):
                raise
            raise Unsupported(
                f"{spec.title} cannot be trained with gradient checkpointing: PEFT hands its vectors to the layers in "
                "the cache, which is off then.",
                "checkpointing",
            ) from error

    how = spec.quantization(full)
    blueprint = Blueprint(
        config=meta.make_config(entry.config),
        kind=entry.kind,
        method=None if spec.slug == "full" else apply,
        dtype=torch_dtype(dtype),
        quantise=None if how is None else _quantise(how),
        checkpointing=checkpointing,
        alike=layers_alike(entry.shape, spec.formula(entry.shape, full)),
    )
    return blueprint, entry.name, spec.slug


def _quantise(how: Any) -> Any:
    from peft_lab.memory.build import Quantise

    return Quantise(how.bits, how.kind, how.double, torch_dtype(how.compute_dtype))


def simulate_config(
    model: str,
    adapter_config: Mapping[str, Any] | None,
    setting: Setting,
    dtype: str = "bfloat16",
    checkpointing: bool = False,
    quantise: Any = None,
    schedule: Schedule = two_steps,
    autocast: bool = True,
) -> Simulation:
    """Simulate any PEFT adapter config (None: full fine-tuning) on a model.

    ``autocast``: adapters in float32 beside a 16-bit base, PEFT's default.

    Raises:
        BadInput: not a PEFT config, or one that PEFT cannot apply here. SimulationError: what cannot be simulated.
    """
    from peft_lab import adapter_configs, meta
    from peft_lab.models import resolve

    entry = resolve(model)
    config = None if adapter_config is None else adapter_configs.parse(entry, adapter_config)
    kind: str = entry.kind
    if config is not None and adapter_config is not None:
        # As it is counted: a start that reads values leaves every shape what it is.
        adapter_configs.drop_values(config)
        if adapter_configs.task_of(entry, adapter_config) == "SEQ_CLS":
            kind = "encoder"
            if entry.kind == "seq2seq":
                raise SimulationError(
                    f"{entry.title} would classify at its end-of-text token: without a text it cannot be simulated."
                )
    _check_length(entry, kind, setting, getattr(config, "num_virtual_tokens", None) or 0)
    blueprint = Blueprint(
        config=meta.make_config(entry.config),
        kind=kind,
        method=config,
        dtype=torch_dtype(dtype),
        quantise=quantise,
        autocast=autocast,
        checkpointing=checkpointing,
    )
    name = "full" if config is None else str(getattr(config.peft_type, "value", config.peft_type)).lower()
    try:
        return simulate_blueprint(blueprint, setting, entry.name, name, schedule)
    except REFUSALS as error:
        if config is None:
            raise
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(
            f"PEFT cannot apply this {name} config to {entry.title}: {said}", "adapter_config"
        ) from error
