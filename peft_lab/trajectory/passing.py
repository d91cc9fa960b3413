"""One example through the model as it is, and the batch's gradient through its stream. Torch is imported inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peft_lab.trajectory.watched import Watched

if TYPE_CHECKING:
    import torch


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """The model in evaluation mode and without gradients; afterwards every module is in the mode that it was in."""
    import torch

    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in before:
            module.training = training


def example(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    parts: Sequence[Watched],
    layers: Sequence[torch.nn.Module],
) -> list[torch.Tensor]:
    """Run one row through the model, so that every part notes its share.

    Args:
        inputs: ids and mask of shape (1, length), without padding.

    Returns:
        the residual stream below the first layer and after each, of shape (length, hidden) in float32; empty for a
        model whose layers are not one stack.
    """
    length = inputs["input_ids"].shape[1]
    heard: dict[int, torch.Tensor] = {}

    def keep(number: int, hidden: torch.Tensor) -> None:
        heard[number] = hidden[0, -length:].float()  # virtual tokens stand before the example's own

    handles = [handle for part in parts for handle in part.listen()] + _listen(layers, keep)
    try:
        model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [heard[number] for number in sorted(heard)]


@contextmanager
def gradients(layers: Sequence[torch.nn.Module]) -> Iterator[dict[int, float]]:
    """Norms of the loss's gradient by the stream below the first layer (0) and after each, of a backward pass inside.

    What no gradient reaches is left out.
    """
    norms: dict[int, float] = {}
    hooks: list[Any] = []

    def watch(number: int, hidden: torch.Tensor) -> None:
        if hidden.requires_grad:
            hooks.append(
                hidden.register_hook(lambda grad: norms.update({number: float(grad.float().norm())}))
            )

    handles = _listen(layers, watch)
    try:
        yield norms
    finally:
        for handle in handles + hooks:
            handle.remove()


def _listen(layers: Sequence[torch.nn.Module], hear: Callable[[int, torch.Tensor], None]) -> list[Any]:
    """Have ``hear`` told of the stream by number, of shape (rows, length, hidden)."""
    if not layers:
        return []

    def below(_: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        hear(0, args[0] if args else options["hidden_states"])

    handles: list[Any] = [layers[0].register_forward_pre_hook(below, with_kwargs=True)]
    for number, layer in enumerate(layers, start=1):

        def after(_: Any, args: Any, output: Any, number: int = number) -> None:
            hear(number, output[0] if isinstance(output, tuple) else output)

        handles.append(layer.register_forward_hook(after))
    return handles
