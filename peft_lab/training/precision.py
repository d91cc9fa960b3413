"""bfloat16 arithmetic with float32 memory.

Multiplying in bfloat16 is twice as fast where the hardware has it, but a weight in bfloat16 forgets any update below
1/256 of itself. So the trained parameters live twice: in bfloat16 in the model, which computes, and in float32 in the
optimizer, which remembers (Micikevicius et al. 2017, arXiv 1710.03740, section 3.1). They are few, so it costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.models.heads import in_head

if TYPE_CHECKING:
    import torch

# PEFT's prompt encoders run once a step over a few tokens: they stay in float32, and PEFT casts what they make.
KEPT = "prompt_encoder"


def cast_added(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Put what a method added to a base of ``dtype`` into that precision too, in place.

    PEFT keeps adapters in float32 beside a 16-bit base, and then casts every activation on the way in and out.
    """
    import torch

    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32 and KEPT not in name:
            parameter.data = parameter.data.to(dtype)


class Masters:
    """The trained parameters in float32. Those that are float32 in the model are used as they are."""

    def __init__(self, model: torch.nn.Module) -> None:
        import torch

        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        low = {name: parameter for name, parameter in named.items() if parameter.dtype != torch.float32}
        full = {name: torch.nn.Parameter(parameter.detach().float()) for name, parameter in low.items()}
        self._low: list[torch.Tensor] = list(low.values())
        self._full: list[torch.Tensor] = list(full.values())
        kept = {name: parameter for name, parameter in named.items() if name not in low}
        self._named: dict[str, torch.Tensor] = {**kept, **full}

    @property
    def parameters(self) -> list[torch.Tensor]:
        """What to optimise, in float32: a copy in the shape of each parameter, or the parameter itself."""
        return list(self._named.values())

    def groups(
        self, rate: float, head_rate: float | None, factor: Callable[[str], float] = lambda name: 1.0
    ) -> list[dict[str, Any]]:
        """The parameters for an optimizer, those with the same learning rate in a group.

        Args:
            rate: of all but a task head. head_rate: of a task head; ``None``: as all others.
            factor: what a parameter's rate is multiplied by, by its name in the model; a head's is not.

        Returns:
            groups that say their rate as ``lr`` and as ``peak``, the group of the plain ``rate`` first, where there is
            one.
        """
        table: dict[tuple[bool, float], list[torch.Tensor]] = {}
        for name, parameter in self._named.items():
            head = head_rate is not None and in_head(name)
            key = (head, float(head_rate or 0.0) if head else rate * factor(name))
            table.setdefault(key, []).append(parameter)
        order = sorted(table, key=lambda key: (key[0], key[1] != rate))
        return [{"params": table[key], "lr": key[1], "peak": key[1]} for key in order]

    def state(self) -> dict[str, torch.Tensor]:
        """The parameters by their names in the model, in float32 and in the shape of each; not copies."""
        return {name: parameter.detach() for name, parameter in self._named.items()}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put back what :meth:`state` gave, in the model too.

        Args:
            state: a tensor in the shape of each parameter, by its name.

        Raises:
            KeyError: a parameter is missing.
        """
        import torch

        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(state[name])
        self.publish()

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


class InPlace:
    """The trained parameters as they are, updated in the precision in which they compute."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self.parameters = list(parameters)

    def take_gradients(self) -> None:
        """They are where they belong."""

    def publish(self) -> None:
        """There is nothing to round."""
