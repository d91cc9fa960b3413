"""Combine torch's Muon with AdamW; and compute cross entropy a few rows of logits at a time. Exported scripts contain
both sources.

    B <- momentum of the gradients        O = five Newton-Schulz steps of B in bfloat16, nearly orthogonal
    W <- W - rate · 0.2 √max(m, n) · O    W (m, n)

The factor ("match_rms_adamw", Liu et al. 2025, arXiv 2502.16982) makes an update as large as AdamW's, so that AdamW's
rate serves both. torch: "other parameters, such as bias, and embedding, should be optimized by a standard method".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#     h  last hidden states (tokens, hidden)      W  output head (vocabulary, hidden)
#     for a chunk of rows:  z = h W^T;  loss += log sum exp(z) - z[label];  dh = (softmax(z) - onehot) W  at once
#     kept: dh (tokens, hidden), and dW if the head is trained; z is overwritten by the next chunk's
#
# Otherwise logits take tokens x vocabulary numbers, in 16 and in 32 bits, and their gradient as many. torch computes
# the sum (``torch.nn.functional.linear_cross_entropy``); the functions here pass it a language model's hidden states.


#: Config fields by which a model alters its logits before the loss, which the sum above leaves out.
_ALTERS_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier")
#: Model types for which transformers sets such a field by default.
_BY_DEFAULT = {
    "gemma2": "final_logit_softcapping",
    "gemma3n_text": "final_logit_softcapping",
    "cohere": "logit_scale",
}


def altered(config: Mapping[str, Any]) -> str:
    """Return the field of a model's config by which it alters its logits; empty if there is none.

    >>> altered({"final_logit_softcapping": 30.0}), altered({"logits_scaling": 1.0})
    ('final_logit_softcapping', '')
    """
    stated = next((field for field in _ALTERS_LOGITS if config.get(field) not in (None, 1, 1.0)), "")
    usual = _BY_DEFAULT.get(config.get("model_type", ""), "")
    return stated or (usual if usual not in config else "")


def without_logits(model: Any) -> None:
    """Make ``model`` (transformers', or PEFT's around one) compute its loss in chunks and return hidden states (rows,
    length, hidden) in place of logits. Its parameters keep their names. In training, the loss raises ValueError if the
    model alters its logits before it. Raises ValueError (the logits are not simply a linear map of the last hidden
    states, or the loss is not computed from them)."""
    import inspect

    import torch
    from transformers.loss.loss_utils import ForCausalLMLoss

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = base.get_output_embeddings()
    if type(head) is not torch.nn.Linear:
        obstacle = "no vocabulary head" if head is None else "an adapter or another layer on its output head"
        raise ValueError(f"it has {obstacle}, but chunks need a plain linear map")
    own = "self.loss_function(" not in inspect.getsource(type(base).forward)
    if own or base.loss_function is not ForCausalLMLoss:
        raise ValueError("it computes its loss in a way of its own")
    how = altered(base.config.get_text_config().to_dict())
    if how:
        raise ValueError(f"it alters its logits ({how}) before the loss")

    def passing(hidden: Any) -> Any:
        hidden.left_by_head = hidden._version  # whatever is made of it does not have this, or another version
        hidden.float = lambda: hidden  # some ask for 32 bits, in which the loss adds up anyway
        return hidden

    # As transformers' own: some models hand all over by name, others by place.
    def loss(
        logits: Any,
        labels: Any,
        vocab_size: int | None = None,
        num_items_in_batch: Any = None,
        ignore_index: int = -100,
        shift_labels: Any = None,
        **more: Any,
    ) -> Any:
        if getattr(logits, "left_by_head", None) != logits._version:
            raise ValueError("it does something to its logits before the loss")
        del logits.float  # refers to itself
        if shift_labels is None:
            logits, shift_labels = logits[:, :-1], labels[:, 1:]
        return chunked_loss(logits, head.weight, shift_labels, head.bias, num_items_in_batch, ignore_index)

    vars(head)["forward"] = passing  # the module stays, and with it its name and hooks
    base.loss_function = loss


def chunked_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    bias: torch.Tensor | None = None,
    counted: Any = None,
    ignored: int = -100,
) -> torch.Tensor:
    """Return the mean cross entropy over labels that are not ``ignored``; with ``counted``, the sum divided by it.

    Args:
        hidden: (rows, length, hidden), at each place the state that predicts the label there.
        weight: (vocabulary, hidden). bias: (vocabulary,).
        labels: (rows, length).

    Returns:
        a scalar whose backward pass may be run once.
    """
    import torch

    half = hidden.dtype in (torch.float16, torch.bfloat16)
    options = torch.nn.LinearCrossEntropyOptions(acc_dtype=torch.float32 if half else None)
    total: torch.Tensor = torch.nn.functional.linear_cross_entropy(
        hidden.reshape(-1, hidden.shape[-1]),
        weight,
        labels.reshape(-1),
        linear_bias=bias,
        ignore_index=ignored,
        reduction="mean" if counted is None else "sum",
        options=options,
    )
    return total if counted is None else total / counted


def outside_layers(model: Any) -> set[int]:
    """Return the ``id()`` of every parameter of embeddings and output head, which Muon must not update."""
    import torch

    inner = getattr(model, "module", model)  # DDP's wrapper
    base = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    ends = [module for module in inner.modules() if isinstance(module, torch.nn.Embedding)]
    modules = [*ends, *([] if head is None else [head])]
    return {id(parameter) for module in modules for parameter in module.parameters()}


class MuonBesideAdamW:
    """Muon and AdamW as one optimizer over trained parameters of any shape. ``outside``: of :func:`outside_layers`.
    Muon updates matrices inside the layers, AdamW all other parameters. ``foreach``: whether AdamW works on lists of
    tensors; ``None``: torch chooses."""

    def __init__(
        self,
        parameters: Sequence[torch.nn.Parameter],
        outside: set[int],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
    ) -> None:
        import torch

        inside = [one for one in parameters if one.ndim == 2 and id(one) not in outside]
        rest = [one for one in parameters if one.ndim != 2 or id(one) in outside]
        same: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        self.parts: list[torch.optim.Optimizer] = []
        if inside:
            self.parts.append(torch.optim.Muon(inside, adjust_lr_fn="match_rms_adamw", **same))
        if rest:
            self.parts.append(torch.optim.AdamW(rest, foreach=foreach, **same))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups of both optimizers, to set their rates."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        """Update the parameters with both optimizers."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both optimizers."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        for part, part_state in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(part_state)


# ----------------------------------------
# Offload the tensors saved for the backward pass to main memory.
#
#     forward    a tensor that is saved is copied to pinned main memory, and the device's own may be freed
#     backward   it is copied back when the operation that saved it needs it
#
# With gradient checkpointing nothing is saved within a layer, so only each layer's input is offloaded. Copies are in
# one queue with all other work of the device, so no work hides them. torch's own ``save_on_cpu`` also copies
# parameters, which need not move. Exported scripts contain the source of these functions.


#: Bytes of the smallest tensor that is copied, as in TRL's and torchtune's offloads.
LEAST = 1024


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy in main memory, of the same shape."""
    import torch

    copy = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda)
    return copy.copy_(tensor, non_blocking=True)


def to_device(copy: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a copy on the device, of the same shape."""
    return copy.to(device, non_blocking=True)


def offloading(
    model: Any,
    leave: Callable[[torch.Tensor], Any] = to_host,
    back: Callable[[Any, torch.device], torch.Tensor] = to_device,
    least: int = LEAST,
) -> Any:
    """Return a context in which tensors saved for the backward pass, of at least ``least`` bytes and any shape, are
    copied to main memory by ``leave`` and back by ``back``; the model's parameters and buffers stay."""
    import torch

    stay = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}

    def pack(tensor: torch.Tensor) -> Any:
        if tensor.nbytes < least or tensor.untyped_storage()._cdata in stay:
            return tensor
        return tensor.device, leave(tensor)

    def unpack(packed: Any) -> torch.Tensor:
        return packed if isinstance(packed, torch.Tensor) else back(packed[1], packed[0])

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
