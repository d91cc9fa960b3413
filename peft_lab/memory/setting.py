"""How a step is simulated: its sizes, its optimizer, whose kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from peft_lab.errors import BadInput
from peft_lab.memory import optimizers

if TYPE_CHECKING:
    import torch

#: Larger requests are taken for slips of the keyboard.
_MOST_ROWS, _MOST_TOKENS = 65_536, 4_194_304
#: Of all rows together: far above any step. At eight times as many torch cannot count an attention matrix.
_MOST_IN_A_STEP = 2**27
#: Every token of a generation is a pass of its own: so many are simulated in a minute or two.
_MOST_NEW = 4096
PRECISIONS = ("bfloat16", "float16", "float32")
#: How the cross entropy is taken: from all logits at once, or a few rows of them at a time (training/chunked.py).
LOSSES = ("whole", "chunked")


@dataclass(frozen=True)
class Setting:
    """How the model is trained.

    Attributes:
        batch: rows. seq: tokens a row.
        padded: rows of unequal length, so that attention gets a mask; else all rows are full and it gets none.
        optimizer: one of :data:`optimizers.OPTIMIZERS`.
        generate: rows and new tokens of a generation after the step.
        device: ``cuda`` or ``cpu``: which kernels run and how the optimizer goes through its tensors.
        capability: compute capability of the GPU (8, 9 for the L40S), for the size of workspaces.
        capacity: device memory in bytes, None for no limit.
        loss: one of :data:`LOSSES`.
        packed: several rows lie end to end in each of ``seq`` tokens, and attention is told where they end.
        offload: what the backward pass needs waits in main memory (training/offload.py).
    """

    batch: int
    seq: int
    padded: bool = False
    optimizer: str = "adamw"
    generate: tuple[int, int] | None = None
    device: str = "cuda"
    capability: tuple[int, int] = (8, 9)
    capacity: int | None = None
    loss: str = "whole"
    packed: bool = False
    offload: bool = False

    def check(self) -> None:
        """Raises BadInput for sizes that cannot be meant."""
        sizes = [("batch", self.batch, _MOST_ROWS), ("seq", self.seq, _MOST_TOKENS)]
        if self.generate is not None:
            sizes += [
                ("generate", self.generate[0], _MOST_ROWS),
                ("generate", self.generate[1], _MOST_NEW),
            ]
        for name, value, most in sizes:
            if not 1 <= value <= most:
                raise BadInput(
                    f"{value:,} is not a usable value for {name}: choose from 1 to {most:,}.", name
                )
        rows, new = self.generate or (0, 0)
        tokens = max(self.batch * self.seq, rows * (self.seq + new))
        if tokens > _MOST_IN_A_STEP:
            raise BadInput(
                f"{tokens:,} tokens in all rows together are too many: choose at most {_MOST_IN_A_STEP:,}.",
                "batch" if self.batch * self.seq == tokens else "generate",
            )
        if self.optimizer not in optimizers.OPTIMIZERS:
            raise BadInput(
                f"There is no optimizer called '{self.optimizer}'. Known: {', '.join(optimizers.OPTIMIZERS)}.",
                "optimizer",
            )
        if self.loss not in LOSSES:
            raise BadInput(f"There is no loss called '{self.loss}'. Known: {', '.join(LOSSES)}.", "loss")
        if self.packed and (self.padded or self.generate is not None):
            other = "padding" if self.padded else "a generation"
            raise BadInput(f"Packed rows are full and kept in no cache: leave {other} out.", "packed")
        if self.loss == "chunked" and self.generate is not None:
            raise BadInput(
                "A model with a chunked loss has no logits to generate from: leave one of them out.", "loss"
            )


def torch_dtype(name: str) -> torch.dtype:
    """Raises BadInput for a name that is no precision a model is trained in."""
    import torch

    if name not in PRECISIONS:
        raise BadInput(f"'{name}' is not a precision to train in. Known: {', '.join(PRECISIONS)}.", "dtype")
    found: torch.dtype = getattr(torch, name)
    return found


def with_size(setting: Setting, batch: int | None = None, seq: int | None = None) -> Setting:
    """The same setting with another batch or length."""
    return replace(setting, batch=batch or setting.batch, seq=seq or setting.seq)
