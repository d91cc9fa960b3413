"""What the backward pass needs again waits in main memory meanwhile.

    forward    a tensor that is saved is copied to pinned main memory, and the device's own may go
    backward   it is copied back when the operation that saved it asks for it

With gradient checkpointing nothing is saved within a layer, so that what waits is each layer's input. Copies stand in
line with all other work of the device: nothing hides them. torch's own ``save_on_cpu`` does the same with parameters
too, which need not move. Written scripts hold these functions as their source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

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
