"""The interface between the training loop and what a method's picture needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from peft_lab.ask.field import Values
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch


class Recorder:
    """Record nothing. Subclasses override what they need; the model given to :meth:`__init__` is trained in place.

    ``rows``: how many held-out rows :meth:`finish` gets, at most those the run is scored on. ``sees``: whether the rows
    may be images; pictures that show tokens do not support them.
    """

    rows: ClassVar[int] = 4
    sees: ClassVar[bool] = False

    def __init__(self, model: torch.nn.Module, shape: ModelShape, values: Values) -> None:
        self.model = model
        self.shape = shape
        self.values = values

    def after_backward(self, step: int) -> None:
        """Called after the backward pass of every step (from 0), with gradients in place and before the update."""

    def snapshot(self, step: int) -> None:
        """Called before training (0), at some steps and after the last; ``step`` is the number of updates made."""

    def finish(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        fresh_base: Callable[[], torch.nn.Module],
    ) -> dict[str, Any]:
        """Called once with the trained model in eval mode.

        Args:
            inputs: the first ``rows`` held-out rows (input_ids, attention_mask), padded on the right, or pixel_values.
            fresh_base: makes the base as it was before the method was applied.

        Returns:
            what to store, by name: JSON-able values go to ``insight.json``, numpy arrays to ``insight.npz``.
        """
        return {}
