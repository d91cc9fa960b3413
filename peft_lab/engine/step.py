"""Run the phases of a fine-tune and report them to a recorder: training steps, evaluation, generation.

The same functions run on fake tensors (a simulation) and on real ones (a measurement). Between two steps the same
tensors stay alive as in the usual loop: the model's last outputs live until the next ones replace them. A trainer's
function returns the loss alone, so its outputs, the logits among them, are freed before the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_lab.core.content import read_entry
from peft_lab.core.errors import Unsupported, named
from peft_lab.core.later import torch
from peft_lab.engine.fake import peft_type, tensors_held
from peft_lab.engine.tracker import MemoryRecorder
from peft_lab.models import images
from peft_lab.training.optimizers import MuonBesideAdamW, outside_layers
from peft_lab.training.step import InPlace, Phase, add_gradients, train_step

#: The gradient norm at which the benchmark and most recipes clip; its value does not affect memory.
MAX_NORM = 1.0


@dataclass
class SteppedModel:
    """A model that can be stepped, with its repeated ``layers`` (empty if none can be told apart), of which ``period``
    make one repetition (2 if sliding and full attention alternate; elsewhere here a "layer" is one repetition), its
    output ``head`` (None if the loss is not over a vocabulary), its ``kind``, and its last ``outputs`` if the loop
    keeps them."""

    model: torch.nn.Module
    kind: str
    layers: Sequence[torch.nn.Module] = ()
    period: int = 1
    head: torch.nn.Module | None = None
    outputs: Any = field(default=None, repr=False)
    keeps_outputs: bool = True

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """Return all parameters of the model, trained or frozen."""
        return list(self.model.parameters())


@contextmanager
def watching(subject: SteppedModel, recorder: MemoryRecorder) -> Iterator[None]:
    """Tell the recorder which layer is being computed, forward and backward, and what belongs to the logits."""

    def starts(module: Any, args: Any, kwargs: Any) -> None:
        recorder.logits = True
        hidden = args[0] if args else kwargs.get("input")
        if hidden is not None and hidden.requires_grad:
            hidden.register_hook(lambda _: setattr(recorder, "logits", False))

    handles: list[Any] = []
    recorder.edges = frozenset((0, (len(subject.layers) - 1) // subject.period))
    for index, layer in enumerate(subject.layers):
        handles += _watch_layer(layer, index == 0, index // subject.period, recorder)
    if subject.head is not None:
        handles.append(subject.head.register_forward_pre_hook(starts, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch_layer(layer: torch.nn.Module, first: bool, index: int, recorder: MemoryRecorder) -> list[Any]:
    outer: list[int | None] = []

    def before(module: Any, args: Any, kwargs: Any) -> None:
        outer.append(recorder.layer)
        recorder.logits = False  # an earlier pass without backward may have left it True
        hidden = args[0] if args else kwargs.get("hidden_states")
        if first and isinstance(hidden, torch.Tensor) and hidden.requires_grad:
            hidden.register_hook(lambda _: recorder.enter(layer=None))
        recorder.enter(layer=index)

    def returned(module: Any, args: Any, output: Any) -> None:
        first = output[0] if isinstance(output, (tuple, list)) else output
        # Without a gradient there is nothing to hook; in a checkpoint's replay the first pass's hook still applies.
        if isinstance(first, torch.Tensor) and first.requires_grad and recorder.phase != "backward":
            first.register_hook(lambda _: recorder.enter(layer=index))

    def after(module: Any, args: Any, output: Any) -> None:
        recorder.enter(layer=outer.pop())

    # First and last of all hooks, so that hooks which gather and free a layer's parameters count as the layer's.
    return [
        layer.register_forward_pre_hook(before, with_kwargs=True, prepend=True),
        layer.register_forward_hook(returned, prepend=True),
        layer.register_forward_hook(after),
    ]


def phases(subject: SteppedModel, recorder: MemoryRecorder) -> Phase:
    """Return a callback that reports a training step's phases to the recorder, and labels gradients once they exist."""

    def enter(phase: str) -> None:
        if phase == "optimizer":
            label_gradients(subject.model, recorder)
        recorder.logits = phase == "backward" and subject.head is not None
        recorder.enter(phase)

    return enter


def label_gradients(model: torch.nn.Module, recorder: MemoryRecorder) -> None:
    """Label the parameters' gradients as such, each with its parameter's layer."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            recorder.replaced(parameter)
        made = None if parameter.grad is None else recorder.storage(parameter.grad)
        if made is not None and made.part != "buffers":  # some lie in a communication buffer
            made.part, made.layer = "gradients", recorder.layer_of(parameter)


def _loss(subject: SteppedModel, batch: Mapping[str, Any]) -> torch.Tensor:
    subject.outputs = outputs = subject.model(**batch)
    if not subject.keeps_outputs:
        subject.outputs = None
    loss: torch.Tensor = outputs.loss if hasattr(outputs, "loss") else outputs[0]
    return loss


def train(
    subject: SteppedModel, recorder: MemoryRecorder, optimizer: Any, batch: dict[str, Any], foreach: bool
) -> None:
    """Run one optimizer step as the usual loop does: the model computes the loss, and its outputs may stay alive."""
    enter, masters = phases(subject, recorder), InPlace(subject.parameters)
    loss = lambda _, batch: _loss(subject, batch)  # noqa: E731
    train_step(subject.model, batch, loss, masters, optimizer, MAX_NORM, enter, foreach)
    recorder.enter("idle")


def settle(subject: SteppedModel, recorder: MemoryRecorder, optimizer: Any) -> None:
    """Update with empty gradients, without a pass, which creates the optimizer's states as a step does."""
    enter = phases(subject, recorder)
    for parameter in subject.parameters:
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)
    enter("optimizer")
    optimizer.step()
    recorder.enter("idle")


def accumulate(subject: SteppedModel, recorder: MemoryRecorder, batch: dict[str, Any]) -> None:
    """Run a forward and backward pass whose gradients are added up for a later step."""
    add_gradients(subject.model, batch, lambda _, batch: _loss(subject, batch), phases(subject, recorder))
    label_gradients(subject.model, recorder)


def _tasks(model: torch.nn.Module, size: int) -> dict[str, torch.Tensor]:
    """Return the task of each of ``size`` rows, for methods that route by task (Poly, multitask prompts)."""
    routes = peft_type(getattr(model, "active_peft_config", None)) in ("POLY", "MULTITASK_PROMPT_TUNING")
    return {"task_ids": torch.zeros(size, dtype=torch.long)} if routes else {}


def training_batch(
    subject: SteppedModel, size: int, length: int, padded: bool, packed: bool = False, per_token: bool = False
) -> dict[str, torch.Tensor]:
    """Return token ids with labels; ``padded`` adds an attention mask, ``packed`` the position of each token in its row
    (as :func:`peft_lab.training.batches.collate_packed` does). An image model gets pictures instead.

    Ids, mask and positions have the shape (``size``, ``length``), and so have a language model's labels. Those of a
    head for every token (``per_token``) cover virtual tokens too; a classifier's have (``size``,). Pictures:
    (``size``, channels, height, width) in 32 bits.
    """
    if subject.kind == "vision":
        config: Any = subject.model.config
        pictures = torch.zeros(size, *images.size_of(config.to_dict()))
        return {"pixel_values": pictures, "labels": torch.zeros(size, dtype=torch.long)}
    ids = torch.zeros(size, length, dtype=torch.long)
    batch = {"input_ids": ids}
    if padded:
        batch["attention_mask"] = torch.ones(size, length, dtype=torch.long)
    if packed:
        batch["position_ids"] = torch.zeros(size, length, dtype=torch.long)
    batch |= _tasks(subject.model, size)
    if per_token:
        # PEFT puts virtual tokens in front of the text, but none in front of its labels.
        batch["labels"] = torch.zeros(size, virtual_tokens(subject.model) + length, dtype=torch.long)
    elif subject.kind == "encoder":
        batch["labels"] = torch.zeros(size, dtype=torch.long)
    else:
        batch["labels"] = ids.clone()
    return batch


def evaluate(subject: SteppedModel, recorder: MemoryRecorder, size: int, length: int) -> None:
    """Compute the loss on a batch without gradients, row by row, as the benchmark does before and after training."""
    recorder.enter("evaluation")
    with torch.no_grad():
        ids = torch.zeros(size, length, dtype=torch.long)
        mask = torch.ones(size, length, dtype=torch.long)
        outputs = subject.model(input_ids=ids, attention_mask=mask, **_tasks(subject.model, size))
        for row in outputs.logits:
            torch.nn.functional.cross_entropy(row[-length:], ids[0], reduction="none")
    recorder.enter("idle")


def generate(subject: SteppedModel, recorder: MemoryRecorder, size: int, prompt: int, new: int) -> None:
    """Generate greedily with a cache: ``size`` prompts of ``prompt`` tokens, ``new`` tokens each.

    The loop allocates what transformers' ``_sample`` does: a growing mask, a float32 copy of the last logits. It is
    written out because PEFT's own ``generate`` for prompt methods requests transformers' cache by its old name and then
    recomputes the whole text at every token.
    """
    model = subject.model
    recorder.enter("generation")
    with torch.no_grad():
        ids = torch.zeros(size, prompt, dtype=torch.long)
        mask = torch.ones(size, prompt, dtype=torch.long)
        tasks = _tasks(model, size)
        outputs = model(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1, **tasks)
        _keep(recorder, _cache_of(outputs))
        decoder: Any = model
        if virtual_tokens(model):
            decoder, tasks = model.base_model, {}  # the prompt that depends on them is already in the cache
        virtual = int(_cache_of(outputs).get_seq_length()) - prompt
        if virtual:
            mask = torch.cat([torch.ones(size, virtual, dtype=torch.long), mask], dim=1)
        for _ in range(new - 1):
            logits = outputs.logits[:, -1, :].to(copy=True, dtype=torch.float32)
            token = logits.argmax(dim=-1)
            ids = torch.cat([ids, token[:, None]], dim=-1)
            mask = torch.cat([mask, mask.new_ones(size, 1)], dim=-1)
            held = {"cache": _cache_of(outputs)}
            del logits
            outputs = None  # only its cache stays alive
            step = {
                "input_ids": token[:, None],
                "attention_mask": mask,
                "use_cache": True,
                "logits_to_keep": 1,
            }
            outputs = decoder(**step, **tasks, cache=held.pop("cache"))
            _keep(recorder, _cache_of(outputs))
    recorder.enter("idle")


def virtual_tokens(model: torch.nn.Module) -> int:
    """Return the number of virtual tokens that PEFT puts in front of a text."""
    config: Any = getattr(model, "active_peft_config", None)
    return int(config.num_virtual_tokens) if config is not None and config.is_prompt_learning else 0


def _cache_of(outputs: Any) -> Any:
    return outputs.cache if getattr(outputs, "cache", None) is not None else outputs.past_key_values


def _keep(recorder: MemoryRecorder, cache: Any) -> None:
    """Label keys and values as activations: they outlive the pass that made them, although longer ones replace them."""
    for layer in getattr(cache, "layers", ()):
        for tensor in tensors_held(vars(layer)):
            made = recorder.storage(tensor)
            if made is not None and not made.part:
                made.part = "activations"


# ----------------------------------------
# The optimizers of a simulated step, as they run on the simulated device.


#: Titles for pages, by what they name.
TITLES = read_entry(Path(__file__).with_name("titles.yaml"), dict[str, dict[str, str]])
OPTIMIZER_TITLES = TITLES["optimizers"]
OPTIMIZERS: tuple[str, ...] = tuple(OPTIMIZER_TITLES)
OF_BITSANDBYTES = ("adamw8bit", "paged_adamw8bit", "paged_adamw")

_BLOCK_8BIT = 256  # bitsandbytes/optim/optimizer.py, Optimizer2State.init_state
_MIN_8BIT = 4096  # min_8bit_size: smaller parameters keep 32-bit moments
_MIN_PAGED = 100_000  # get_state_buffer: smaller states are not paged
_QMAP = 256  # entries of each of the two dynamic maps, one pair for all parameters


def make_optimizer(name: str, model: torch.nn.Module, foreach: bool) -> Any:
    """Return the optimizer over a model's parameters that need gradients.

    ``foreach``: whether AdamW (Muon's too) and SGD update lists of tensors at once, torch's default on CUDA, which
    takes temporaries as large as all moments. Adafactor and Muon itself update one parameter after another. Raises
    UnknownName: an unknown name. Unsupported: LoRA-FA's optimizer on a model without LoRA."""
    if name == "lorafa":
        return _lora_fa(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        return Nothing()
    if name == "adamw":
        return torch.optim.AdamW(trained, foreach=foreach)
    if name == "sgd":
        return torch.optim.SGD(trained, lr=1e-3, foreach=foreach)
    if name == "adafactor":
        return _CountingOnHost(torch.optim.Adafactor(trained))
    if name == "muon":
        return MuonBesideAdamW(trained, outside_layers(model), foreach=foreach)
    named("optimizer", name, OPTIMIZER_TITLES, "optimizer")
    return BlockwiseAdam(trained, bits=32 if name == "paged_adamw" else 8, paged=name.startswith("paged"))


def _lora_fa(model: Any) -> Any:
    """Return PEFT's LoRA-FA optimizer, which freezes every A and preconditions B's gradient by a pseudo-inverse."""
    config = getattr(model, "active_peft_config", None)
    if config is None or peft_type(config) != "LORA":
        raise Unsupported(
            "LoRA-FA's optimizer trains only LoRA's matrices A and B, and this method has no such matrices.",
            "optimizer",
        )
    from peft.optimizers import create_lorafa_optimizer

    return _CountingOnHost(create_lorafa_optimizer(model, r=config.r, lora_alpha=config.lora_alpha, lr=1e-3))


class _CountingOnHost:
    """A torch optimizer that keeps its step counters in main memory, as it does for parameters on a real device; here
    tensors created without a device would be on the simulated one."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self.zero_grad = optimizer.zero_grad

    def step(self) -> None:
        """Update the parameters."""
        with torch.device("cpu"):
            self._optimizer.step()


class Nothing:
    """An optimizer for a model with nothing to train."""

    def zero_grad(self) -> None:
        """Do nothing."""

    def step(self) -> None:
        """Do nothing."""


class BlockwiseAdam:
    """bitsandbytes' AdamW: its states, created in its order; its kernels work in place and allocate nothing. Paged
    states are in memory shared by host and device and count as the host's (``paged_bytes``)."""

    def __init__(self, parameters: Sequence[Any], bits: int, paged: bool, counters: bool = False) -> None:
        """Make the optimizer. ``counters``: each count of steps is on the device, as with torch's fused one."""
        self.parameters, self.bits, self.paged, self.counters = parameters, bits, paged, counters
        self.state: dict[int, list[torch.Tensor]] = {}
        self._qmaps: list[torch.Tensor] = []

    def paged_bytes(self, parameters: Sequence[torch.nn.Parameter] | None = None) -> int:
        """Return the bytes of paged states once every parameter (or each of these) has had a gradient."""
        size = 8 if self.bits == 32 else 2
        return sum(
            p.numel() * (size if p.numel() >= _MIN_8BIT else 8)
            for p in (self.parameters if parameters is None else parameters)
            if p.requires_grad and self.paged and p.numel() >= _MIN_PAGED
        )

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Create the states of parameters that have a gradient and no states yet."""
        for index, parameter in enumerate(self.parameters):
            if parameter.grad is not None and index not in self.state:
                with torch.no_grad():
                    self.state[index] = self._init_state(parameter)

    def _init_state(self, parameter: torch.nn.Parameter) -> list[torch.Tensor]:
        counter = [parameter.new_zeros((), dtype=torch.float32)] if self.counters else []
        if self.bits == 32 or parameter.numel() < _MIN_8BIT:
            return counter + self._buffers(parameter, torch.float32)
        if not self._qmaps:
            self._qmaps = [torch.empty(_QMAP, dtype=torch.float32) for _ in range(2)]
        states = self._buffers(parameter, torch.uint8)
        blocks = -(-parameter.numel() // _BLOCK_8BIT)
        return states + [parameter.new_zeros(blocks, dtype=torch.float32) for _ in range(2)]

    def _buffers(self, parameter: torch.nn.Parameter, dtype: torch.dtype) -> list[torch.Tensor]:
        if self.paged and parameter.numel() >= _MIN_PAGED:
            return []
        return [torch.zeros_like(parameter, dtype=dtype) for _ in range(2)]
