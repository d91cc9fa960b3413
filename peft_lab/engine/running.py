"""Run a training step at a model's full depth: on a few layers if they represent all, else on all of them.

A schedule is run on a stage; :mod:`peft_lab.engine.account` repeats the trace of a few layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from peft_lab.core.errors import PeftLabError, SimulationError, Unsupported, in_short
from peft_lab.core.later import torch
from peft_lab.engine import build, kernels, step, switches
from peft_lab.engine.account import DEPTH, unroll, without_scalars
from peft_lab.engine.autocast import simulated
from peft_lab.engine.build import Blueprint, adapted_modules, make_subject, names_layers, tensors_of
from peft_lab.engine.compiled import compile_layers, compile_loss
from peft_lab.engine.fake import HOST, fake_device, known_text, needs_real_adapter, refusal
from peft_lab.engine.request import COMPUTING, LOSSES_FROM_LOGITS, StepSetting
from peft_lab.engine.tracker import MemoryRecorder, Trace, Watched
from peft_lab.engine.work import Op
from peft_lab.models.catalogue import REFUSALS
from peft_lab.training.batches import no_cache
from peft_lab.training.optimizers import offloading, without_logits
from peft_lab.training.step import Phase


@dataclass
class Stage:
    """What a schedule runs on: the model on its device, the recorder, the optimizer, and the setting."""

    subject: step.SteppedModel
    recorder: MemoryRecorder
    optimizer: Any
    setting: StepSetting

    @property
    def phase(self) -> Phase:
        """Return the callback that reports a step's phases to the recorder."""
        return step.phases(self.subject, self.recorder)

    def train(self, length: int | None = None, batch: int | None = None) -> None:
        """Run one optimizer step on ``batch`` rows of ``length`` tokens (the setting's by default)."""
        setting = self.setting
        inputs = self._batch(batch or setting.batch, length or setting.seq)
        step.train(self.subject, self.recorder, self.optimizer, inputs, setting.device == "cuda")

    def _batch(self, rows: int, length: int) -> dict[str, Any]:
        how = self.setting
        return step.training_batch(self.subject, rows, length, how.padded, how.packed, how.tags > 0)

    def update(self, passes: int, apart: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """Run one update. Of several passes two run, the first, in ``apart``, for all but the last."""
        optimizer = self.optimizer
        if passes > 1:
            self.recorder.enter("zero_grad")
            optimizer.zero_grad()
            with apart():
                step.accumulate(
                    self.subject, self.recorder, self._batch(self.setting.batch, self.setting.seq)
                )
            # the gradients present at the beginning of the step are kept: its pass adds to them
            self.optimizer = SimpleNamespace(zero_grad=lambda: None, step=optimizer.step)
        self.train()
        self.optimizer = optimizer

    def settle(self) -> None:
        """Create the optimizer's states as the first step leaves them, from empty gradients and without a pass."""
        step.settle(self.subject, self.recorder, self.optimizer)

    def generate(self, prompt: int) -> None:
        """Generate the setting's rows and new tokens after prompts of ``prompt`` tokens, without the step's outputs."""
        if self.setting.generate is None:
            raise ValueError("the setting has no generation")
        self.subject.outputs = None
        self.subject.model.eval()
        step.generate(self.subject, self.recorder, self.setting.generate[0], prompt, self.setting.generate[1])


class Devices:
    """The devices that a step runs on; here one that holds everything. For several see peft_lab.engine.sharding."""

    #: Whether equal layers hold equal tensors on this device, so that a trace of a few can be unrolled.
    alike = True

    def __init__(self, works: bool = True) -> None:
        self.watched: Watched | None = None
        #: whether to record the work of operations, beside their memory
        self.works = works

    @contextmanager
    def around(self, recorder: MemoryRecorder) -> Iterator[None]:
        """Set the devices up for as long as a model is placed on them and stepped."""
        yield

    def split(self, model: torch.nn.Module, layers: Sequence[torch.nn.Module]) -> torch.nn.Module:
        """Place the model, given its repeated layers, on the devices; return the model to step."""
        return model

    def optimizer(self, name: str, model: torch.nn.Module, foreach: bool) -> Any:
        """Return the optimizer, as :func:`peft_lab.engine.step.make_optimizer` does."""
        return step.make_optimizer(name, model, foreach)


#: The phases to run, as a function of a stage.
Schedule = Callable[[Stage], None]


def two_steps(stage: Stage) -> None:
    """Run two optimizer steps (the second starts with the optimizer's states), then a generation if requested."""
    stage.subject.model.train()
    for _ in range(2):
        stage.update(stage.setting.accumulate)
    if stage.setting.generate is not None:
        stage.generate(stage.setting.seq)


def settled(stage: Stage) -> None:
    """Run one optimizer step that begins with the optimizer's states. Only its work is recorded."""
    recorder = stage.recorder
    stage.subject.model.train()
    works, recorder.works = recorder.works, False
    stage.settle()
    recorder.works = works
    stage.train()


def run(
    blueprint: Blueprint, setting: StepSetting, schedule: Schedule = two_steps, devices: Devices | None = None
) -> tuple[Trace, int, bool]:
    """Return the trace of a schedule, the bytes of optimizer states on the host, and whether it was unrolled. Raises
    SimulationError: the method needs values, or an operation that has no fake implementation; with the reason.
    Unsupported: a packed base makes the step impossible."""
    reason = refusal(blueprint.method, blueprint.checkpointing)
    if reason is not None:
        raise SimulationError(reason)
    try:
        return _run(blueprint, setting, schedule, devices or Devices())
    except REFUSALS as error:
        if blueprint.quantise is None:
            raise
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise Unsupported(
            f"A base in {blueprint.quantise.bits} bits cannot be trained or simulated this way: {text}.",
            "dtype",
        ) from error


def _run(
    blueprint: Blueprint, setting: StepSetting, schedule: Schedule, devices: Devices
) -> tuple[Trace, int, bool]:
    depth = blueprint.depth
    if devices.alike and depth > DEPTH * blueprint.period and not names_layers(blueprint.method):
        # What fails on a few layers may work on all of them; if it does not, it fails again at full depth.
        with suppress(PeftLabError, *REFUSALS):
            found = _unrolled(blueprint, setting, schedule, devices)
            if found is not None:
                return (*found, True)
    trace, stage = _run_at(blueprint, setting, schedule, depth, devices)
    return trace, _host_bytes(stage), False


def _unrolled(
    blueprint: Blueprint, setting: StepSetting, schedule: Schedule, devices: Devices
) -> tuple[Trace, int] | None:
    """Return the trace and the host bytes from a few layers; None if those do not represent all of them."""
    period = blueprint.period
    trace, stage = _run_at(blueprint, setting, schedule, DEPTH * period, devices)
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
    """Return whether an unrolled model has the real one's storages: some methods share matrices between far layers.
    Where the real adapter would be built of real tensors (fake.REAL_ADAPTER), which takes long, the counted one is
    compared, with the number of adapted modules, because shared matrices do not reveal how many layers use them."""
    real = needs_real_adapter(blueprint.method)
    parts = ("adapter",) if real else ("weights", "adapter")
    unrolled = sorted(s.nbytes for s in trace.storages if s.part in parts)
    return [*([adapted] if real else []), *unrolled] == list(_facts(blueprint))


_known_facts: dict[str, tuple[int, ...]] = {}
_KEPT = 64


def _facts(blueprint: Blueprint) -> tuple[int, ...]:
    """Return, for the model at its own depth, the bytes of every storage; or the number of adapted modules and the
    bytes of trained storages (see :func:`_agrees`). Cached, because batch and length do not change them."""
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
            if len(_known_facts) >= _KEPT:
                del _known_facts[next(iter(_known_facts))]
            _known_facts[key] = found
    return found


def _host_bytes(stage: Stage, parameters: Sequence[Any] | None = None) -> int:
    """Return the bytes of paged optimizer states, which no device trace shows, of all parameters or of some."""
    paged = getattr(stage.optimizer, "paged_bytes", None)
    return 0 if paged is None else int(paged(parameters))


def _chunk_the_loss(model: Any) -> None:
    """Make the model compute its loss in chunks. Raises Unsupported if it cannot; some models only when they run."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model

    def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **more: Any) -> Any:
            try:
                return function(*args, **more)
            except ValueError as error:
                said = f"The loss of this model cannot be computed in chunks: {error}."
                raise Unsupported(said, "loss") from error

        return run

    refusing(without_logits)(model)
    base.loss_function = refusing(base.loss_function)


def away(stage: Stage) -> AbstractContextManager[Any]:
    """Keep what is saved for a backward pass in main memory, if asked for. Raises Unsupported: weights are split over
    devices."""
    recorder = stage.recorder

    def leave(tensor: torch.Tensor) -> tuple[torch.Size, torch.dtype, int]:
        # A layer's input is copied before the layer begins if transformers checkpoints its whole call (5.20).
        recorder.did(Op("offload", 0, tensor.nbytes), tensor)
        return tensor.shape, tensor.dtype, tensor.nbytes

    def back(kept: tuple[torch.Size, torch.dtype, int], device: torch.device) -> torch.Tensor:
        shape, dtype, nbytes = kept
        recorder.did(Op("offload", 0, nbytes))
        return torch.empty(shape, dtype=dtype, device=device)

    if not stage.setting.offload:
        return nullcontext()
    if any(hasattr(parameter, "_local_tensor") for parameter in stage.subject.parameters):
        raise Unsupported(
            "Activation offloading needs the whole model on each device; sharded weights are gathered again for the "
            "backward pass. Choose one of the two.",
            "offload",
        )
    found: AbstractContextManager[Any] = offloading(stage.subject.model, leave, back)
    return found


def _run_at(
    blueprint: Blueprint, setting: StepSetting, schedule: Schedule, depth: int, devices: Devices | None = None
) -> tuple[Trace, Stage]:
    model = build.fresh_copy(blueprint, depth)
    if setting.loss in LOSSES_FROM_LOGITS:
        switches.loss_from_logits(model, setting.loss, blueprint.method is None)
    else:
        _chunk_the_loss(model)
    if setting.norms:
        switches.fuse_norms(model)
    if setting.packed or setting.compile:
        no_cache(model)
    recorder = MemoryRecorder(HOST)
    if setting.compile and setting.loss in ("whole", "trainer") and blueprint.kind == "causal-lm":
        compile_loss(model, recorder)
    devices = devices or Devices()
    recorder.works = devices.works
    packed, foreach = blueprint.quantise is not None, setting.device == "cuda"
    masked = setting.packed and setting.attention != "flash"
    try:
        with (
            devices.around(recorder),
            fake_device(setting.device, packed, recorder, devices.watched, masked) as begin,
        ):
            subject = make_subject(model, blueprint, recorder, depth, devices.split)
            if setting.compile:
                compile_layers(subject.layers, subject.period, recorder)
            make = partial(switches.InBackward, recorder=recorder) if setting.updates else devices.optimizer
            optimizer = make(setting.optimizer, subject.model, foreach)
            stage = Stage(subject, recorder, optimizer, setting)
            autocast = COMPUTING[setting.precision].autocast
            # With autocast a step is that of transformers' Trainer.
            subject.keeps_outputs = not autocast and setting.loss not in ("trainer", "shifted")
            if setting.compile and (autocast or packed):
                raise Unsupported("Compiling with autocast or packed weights is not simulated.", "compile")
            with (
                begin(), step.watching(subject, recorder), kernels.chunks_visible(setting.device),
                switches.fused_loss(setting, recorder), away(stage),
                known_text(blueprint.method, setting.seq), ExitStack() as casting,
            ):  # fmt: skip
                if autocast:
                    casting.enter_context(simulated(setting.device, autocast))(subject.model)
                schedule(stage)
            return recorder.stop(), stage
    except NotImplementedError as error:
        raise SimulationError(
            "This step cannot be simulated: it needs the values of a tensor, or an operation that torch cannot run "
            f"without them ('{in_short(error, 120)}')."
        ) from error
