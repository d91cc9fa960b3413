"""bfloat16 arithmetic with float32 memory.

Multiplying in bfloat16 is twice as fast where the hardware has it, but a weight in bfloat16 forgets any update below
1/256 of itself. So the trained parameters live twice: in bfloat16 in the model, which computes, and in float32 in the
optimizer, which remembers (Micikevicius et al. 2017, arXiv 1710.03740, section 3.1). They are few, so it costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# PEFT's prompt encoders run once a step over a few tokens: they stay in float32, and PEFT casts what they make.
_KEPT = "prompt_encoder"


def cast_added(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Put what a method added to a base of ``dtype`` into that precision too, in place.

    PEFT keeps adapters in float32 beside a 16-bit base, and then casts every activation on the way in and out.
    """
    import torch

    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32 and _KEPT not in name:
            parameter.data = parameter.data.to(dtype)


def in_head(name: str) -> bool:
    """Whether a parameter belongs to a classification head, by its path."""
    return any(part in ("classifier", "score") for part in name.split("."))


class Masters:
    """The trained parameters in float32. Those that are float32 in the model are used as they are."""

    def __init__(self, model: torch.nn.Module) -> None:
        import torch

        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._low: list[torch.Tensor] = [
            parameter for parameter in trained if parameter.dtype != torch.float32
        ]
        self._full: list[torch.Tensor] = [torch.nn.Parameter(low.detach().float()) for low in self._low]
        kept = [parameter for parameter in trained if parameter.dtype == torch.float32]
        self.parameters: list[torch.Tensor] = [*kept, *self._full]
        heads = {id(parameter) for name, parameter in model.named_parameters() if in_head(name)}
        self._heads: list[torch.Tensor] = [parameter for parameter in kept if id(parameter) in heads]
        self._heads += [full for low, full in zip(self._low, self._full, strict=True) if id(low) in heads]

    def groups(self, head_rate: float | None) -> list[dict[str, Any]]:
        """The parameters for an optimizer: a task head as a group of its own with its own learning rate."""
        if head_rate is None or not self._heads:
            return [{"params": self.parameters}]
        heads = {id(parameter) for parameter in self._heads}
        others = [parameter for parameter in self.parameters if id(parameter) not in heads]
        return [{"params": others}, {"params": self._heads, "lr": head_rate}]

    def take_gradients(self) -> None:
        """Move the gradients of the last backward pass from the model to the masters."""
        for low, full in zip(self._low, self._full, strict=True):
            full.grad = None if low.grad is None else low.grad.float()
            low.grad = None

    def publish(self) -> None:
        """Round the masters into the model, after an optimizer step."""
        import torch

        if self._low:
            with torch.no_grad():
                torch._foreach_copy_(self._low, self._full)

    def restore(self) -> None:
        """Make the model's parameters the float32 masters, for saving what was learned and not its rounding."""
        for low, full in zip(self._low, self._full, strict=True):
            low.data = full.data
