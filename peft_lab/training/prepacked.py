"""Multiply faster by frozen weights on a processor: store each once more in the layout of its matrix products.

oneDNN reorders a bfloat16 matrix before every product with it. A frozen weight never changes, so it is reordered once
for the forward pass (x W^T) and once for the gradient of the input (g W), and every product is the same to the bit. The
two copies take as much memory as two of the weights, so only a model that is small beside the free memory gets them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from peft_lab.core import machine

if TYPE_CHECKING:
    import torch

#: Rows of a typical product, for which oneDNN chooses the layout.
ROWS = 512
#: Share of the free memory that the copies may take.
MOST = 0.125


def pack_frozen(model: torch.nn.Module) -> Callable[[], None]:
    """Reorder the frozen linear maps that have no bias, and let them multiply by the copies.

    Frozen weights must keep their values until the returned function is called, which releases the copies. Does nothing
    where products are not oneDNN's in bfloat16, or where memory is short.
    """
    import torch

    frozen = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear)
        and type(module) is torch.nn.Linear
        and module.bias is None
        and not module.weight.requires_grad
        and module.weight.dtype is torch.bfloat16
        and module.weight.device.type == "cpu"
        and "forward" not in vars(module)
    ]
    size = 2 * sum(module.weight.nbytes for module in frozen)
    if not _reorders() or size > MOST * machine.free_memory():
        return lambda: None
    product = _product()
    for module in frozen:
        weight = module.weight.detach()
        vars(module)["forward"] = product(_reordered(weight), _reordered(weight.t().contiguous()))

    def release() -> None:
        for module in frozen:
            vars(module).pop("forward", None)

    return release


def _reorders() -> bool:
    """Return whether this build of torch has oneDNN's products with reordered matrices, and the processor bfloat16."""
    import torch

    names = ("_reorder_linear_weight", "_linear_pointwise")
    return (
        machine.in_use().computes_bfloat16()
        and bool(torch.backends.mkldnn.is_available())
        and all(hasattr(torch.ops.mkldnn, name) for name in names)
    )


def _reordered(weight: torch.Tensor) -> torch.Tensor:
    """Return a matrix (outputs, inputs) in oneDNN's layout."""
    import torch

    return torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)


def _product() -> Callable[..., Any]:
    """Return a function of both reordered copies that returns the linear map."""
    import torch

    def linear(x: torch.Tensor, packed: torch.Tensor) -> Any:
        return torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, there: torch.Tensor, back: torch.Tensor) -> Any:
            ctx.back = back
            return linear(x, there)

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> Any:
            return linear(grads[0], ctx.back), None, None

    multiplied: Callable[..., Any] = Product.apply

    def mapping(there: torch.Tensor, back: torch.Tensor) -> Callable[[torch.Tensor], Any]:
        def forward(x: torch.Tensor) -> Any:
            needs = torch.is_grad_enabled() and x.requires_grad
            return multiplied(x, there, back) if needs else linear(x, there)

        return forward

    return mapping
