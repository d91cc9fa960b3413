"""What a step may do in another way than the usual loop: fused losses, selective checkpointing, updates that do not
wait for the end of the backward pass. Each has the allocations of its library's source (titles.yaml has the places).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from math import ceil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from peft_lab.core.errors import Unsupported
from peft_lab.core.later import torch
from peft_lab.engine.kernels import REPLACED
from peft_lab.engine.step import Nothing, make_optimizer
from peft_lab.engine.tracker import MemoryRecorder
from peft_lab.engine.work import Op, bytes_of
from peft_lab.training.optimizers import altered

if TYPE_CHECKING:
    from peft_lab.engine.request import StepSetting

#: :func:`peft_lab.training.optimizers.without_logits` calls it with the last hidden states and the output head.
LINEAR_LOSS = REPLACED["linear loss"]


def _liger(hidden: Any, weight: Any) -> Any:
    """Turn the logits of some rows at a time into their gradient, and multiply it into that of the states at once."""

    class Liger(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, hidden: Any, weight: Any) -> Any:
            rows = 1 << (ceil(len(hidden) / ceil(weight.shape[0] / weight.shape[1])) - 1).bit_length()
            gradient = torch.zeros_like(hidden)
            of_head = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
            for piece, place in zip(hidden.split(rows), gradient.split(rows), strict=True):
                logits = piece @ weight.t()
                logits.sub_(logits)  # the kernel reads them twice and writes in their place
                place.copy_(logits @ weight)
                if of_head is not None:
                    of_head += torch.mm(logits.t(), piece).float()
            ctx.save_for_backward(gradient, of_head)
            return torch.zeros(len(hidden), dtype=torch.float32).sum()

        @staticmethod
        def backward(ctx: Any, outer: Any) -> Any:
            return tuple(None if one is None else one.mul_(outer) for one in ctx.saved_tensors)

    return Liger.apply(hidden, weight)  # type: ignore[no-untyped-call]


def _cut(recorder: MemoryRecorder, hidden: Any, weight: Any) -> Any:
    """Multiply in tiles that leave no logits but a number for each row, and again in the backward pass."""
    size = (1, len(hidden), *weight.shape)
    kind = "matmul16" if hidden.element_size() <= 2 else "matmul32"
    product = Op(kind, 2 * hidden.numel() * len(weight), bytes_of(hidden) + bytes_of(weight), size)

    def again(_: Any) -> None:
        for _ in range(2 + weight.requires_grad):
            recorder.did(product, hidden)

    recorder.did(product, hidden)
    hidden.register_hook(again)
    total: Any = hidden[0, 0] * weight[0, 0]  # its gradients are zeros of the whole size, as there
    total.by_row = [hidden.new_empty(len(hidden)).float(), weight.new_empty(len(weight)).float()]
    return total


def fused_loss(setting: StepSetting, recorder: MemoryRecorder) -> AbstractContextManager[None]:
    """Return a context in which a loss from hidden states is computed as the setting says."""
    own: Any = {"liger": _liger, "cut": partial(_cut, recorder)}.get(setting.loss)

    def loss(hidden: Any, weight: Any, labels: Any, *, linear_bias: Any = None, **_: Any) -> Any:
        if linear_bias is not None:
            raise Unsupported("This loss is simulated only for output heads without a bias.", "loss")
        return own(hidden, weight)

    return LINEAR_LOSS.by(loss if own else LINEAR_LOSS.original())


def loss_from_logits(model: Any, name: str, whole_head: bool) -> None:
    """Make a model compute its loss as a trainer's function does, from logits that it does not alter.

    ``shifted``: from a float32 copy without the last position. ``litgpt``: 128 positions at a time and in their own
    precision; the head too is run so often, unless ``whole_head`` (LitGPT's lora.py and full.py). Raises Unsupported:
    the model alters its logits before the loss."""
    from torch.nn import functional

    base = model.get_base_model() if hasattr(model, "get_base_model") else model

    def shifted(logits: Any, labels: Any, vocab_size: int, **_: Any) -> Any:
        logits = logits.float()  # stays until the loss is there
        pieces = logits[..., :-1, :].contiguous()
        return functional.cross_entropy(pieces.view(-1, vocab_size), labels[..., 1:].reshape(-1))

    def litgpt(logits: Any, labels: Any, vocab_size: int, **_: Any) -> Any:
        if whole_head:
            pieces, targets = logits.view(-1, vocab_size).split(128), labels.reshape(-1).split(128)
        else:
            pieces = [one.flatten(0, 1) for one in logits]
            targets = [one.reshape(-1) for one in labels.split(128, dim=1)]
        both = zip(pieces, targets, strict=True)
        losses = [functional.cross_entropy(*one, reduction="none") for one in both]
        return torch.cat(losses).sum() / len(labels)

    if name == "litgpt":
        if how := altered(base.config.get_text_config().to_dict()):
            raise Unsupported(
                f"This model alters its logits ({how}), so a loss computed in chunks is not simulated.",
                "loss",
            )
        head = base.get_output_embeddings()
        if not whole_head:
            run = head.forward
            head.forward = lambda hidden: [run(piece) for piece in hidden.split(128, dim=1)]
    own: Any = {"shifted": shifted, "litgpt": litgpt}.get(name)
    if own:
        base.loss_function = own


def fuse_norms(model: torch.nn.Module) -> None:
    """Run each RMSNorm as one kernel, which keeps its input for the backward pass and writes the input's gradient over
    the output's (Unsloth 2024.5, kernels/rms_layernorm.py; Liger-Kernel ead96b6, ops/rms_norm.py, in place)."""

    class Norm(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, hidden: Any, weight: Any) -> Any:
            ctx.save_for_backward(hidden, weight, hidden.new_empty(hidden.shape[:-1], dtype=torch.float32))
            return hidden.clone()

        @staticmethod
        def backward(ctx: Any, outer: Any) -> Any:
            hidden, weight, _ = ctx.saved_tensors
            of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
            return outer.mul_(hidden), of_weight

    for module in model.modules():
        weight = getattr(module, "weight", None)
        if type(module).__name__.endswith("RMSNorm") and isinstance(weight, torch.nn.Parameter):
            apply: Any = Norm.apply
            module.forward = partial(
                lambda module, apply, hidden: apply(hidden, module.weight), module, apply
            )


def selective() -> Any:
    """Return a checkpoint's contexts that keep attention and every second product, and compute the rest again."""
    from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

    products = Counter[bool]()

    def policy(context: Any, operation: Any, *_: Any, **__: Any) -> Any:
        product = operation is torch.ops.aten.mm.default
        products[context.is_recompute] += product
        keep = "attention" in operation.__name__ or (product and products[context.is_recompute] % 2)
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


class InBackward(Nothing):
    """An optimizer for each parameter, run by a hook that then drops the gradient; nothing clips it."""

    def __init__(self, name: str, model: torch.nn.Module, foreach: bool, recorder: MemoryRecorder) -> None:
        if name in ("lorafa", "muon"):
            raise Unsupported("This optimizer needs several gradients at once.", "updates")
        self._recorder = recorder
        self._own: dict[Any, Any] = {}
        for one in model.parameters():
            if one.requires_grad:
                alone: Any = SimpleNamespace(parameters=partial(iter, [one]))
                self._own[one] = make_optimizer(name, alone, foreach)
                one.register_post_accumulate_grad_hook(self._ready)

    def _ready(self, parameter: torch.nn.Parameter) -> None:
        recorder, layer = self._recorder, self._recorder.layer
        gradient: Any = parameter.grad
        recorder.trace.storages[recorder.see(gradient)].part = "gradients"
        recorder.logits = False
        recorder.enter("optimizer", layer)
        self._own[parameter].step()
        parameter.grad = gradient = None
        recorder.enter("backward", layer)

    def paged_bytes(self, parameters: Sequence[torch.nn.Parameter] | None = None) -> int:
        """Return the bytes of paged states of all parameters or of these."""
        own: Any = (self._own.get(one) for one in (self._own if parameters is None else parameters))
        return sum(int(one.paged_bytes()) for one in own if hasattr(one, "paged_bytes"))
