"""Muon as torch has it: for the matrices of hidden layers, beside AdamW for all else. Written scripts hold this source.

    B <- momentum of the gradients        O = five Newton-Schulz steps of B in bfloat16, nearly orthogonal
    W <- W - rate · 0.2 √max(m, n) · O    W (m, n)

The factor ("match_rms_adamw", Liu et al. 2025, arXiv 2502.16982) makes an update as large as AdamW's, so that AdamW's
rate serves both. torch: "other parameters, such as bias, and embedding, should be optimized by a standard method".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def outside_layers(model: Any) -> set[int]:
    """Identities of the parameters of embeddings and of the output head, which Muon is not for."""
    import torch

    inner = getattr(model, "module", model)  # DDP's wrapper
    base = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    ends = [module for module in inner.modules() if isinstance(module, torch.nn.Embedding)]
    found = [*ends, *([] if head is None else [head])]
    return {id(parameter) for module in found for parameter in module.parameters()}


class MuonBesideAdamW:
    """Both as one optimizer over trained parameters of any shape. ``outside``: of :func:`outside_layers`.

    ``foreach``: whether AdamW works on lists of tensors; ``None``: as torch chooses.
    """

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
        """Those of both, to set their rates."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self) -> None:
        """Lets all gradients go."""
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        """An update of each."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Of both, to be kept."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What :meth:`state_dict` gave."""
        for part, kept in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(kept)


# ----------------------------------------
# What the backward pass needs again waits in main memory meanwhile.
#
#     forward    a tensor that is saved is copied to pinned main memory, and the device's own may go
#     backward   it is copied back when the operation that saved it asks for it
#
# With gradient checkpointing nothing is saved within a layer, so that what waits is each layer's input. Copies stand
# in line with all other work of the device: nothing hides them. torch's own ``save_on_cpu`` does the same with
# parameters too, which need not move. Written scripts hold these functions as their source.


#: Bytes of the smallest tensor that is worth a copy, as TRL's and torchtune's offloads have it.
LEAST = 1024


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in main memory, of the same shape."""
    import torch

    kept = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda)
    return kept.copy_(tensor, non_blocking=True)


def to_device(kept: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The copy back where it was, of the same shape."""
    return kept.to(device, non_blocking=True)


def offloading(
    model: Any,
    leave: Callable[[torch.Tensor], Any] = to_host,
    back: Callable[[Any, torch.device], torch.Tensor] = to_device,
    least: int = LEAST,
) -> Any:
    """A context in which what is saved for the backward pass waits in main memory.

    Args:
        model: whose parameters and buffers stay where they are.
        leave: copies a tensor of any shape away. back: copies it back.
        least: bytes of the smallest tensor that is copied.
    """
    import torch

    stay = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}

    def pack(tensor: torch.Tensor) -> Any:
        if tensor.nbytes < least or tensor.untyped_storage()._cdata in stay:
            return tensor
        return tensor.device, leave(tensor)

    def unpack(kept: Any) -> torch.Tensor:
        return kept if isinstance(kept, torch.Tensor) else back(kept[1], kept[0])

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
