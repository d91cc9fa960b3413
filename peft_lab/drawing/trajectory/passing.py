"""Pass one example through the current model, and measure the batch's gradient in its stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_lab.drawing.trajectory.format import Answer, Budget, Example
from peft_lab.methods.recording.recorder import Watched, copied, restored

if TYPE_CHECKING:
    import torch


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode without gradients; afterwards restore each module's mode."""
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
    """Run one row through the model, so that every part records its share.

    Args:
        inputs: ids and mask of shape (1, length), without padding.

    Returns:
        the residual stream below the first layer and after each, of shape (length, hidden) in float32; empty for a
        model whose layers are not one stack.
    """
    length = inputs["input_ids"].shape[1]
    heard: dict[int, torch.Tensor] = {}

    def keep(number: int, hidden: torch.Tensor) -> None:
        heard[number] = hidden[0, -length:].float()  # virtual tokens precede the example's own

    handles = [handle for part in parts for handle in part.listen()] + _listen(layers, keep)
    try:
        model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [heard[number] for number in sorted(heard)]


@contextmanager
def gradients(layers: Sequence[torch.nn.Module]) -> Iterator[dict[int, float]]:
    """Yield the norms of the loss's gradient by the stream below the first layer (0) and after each layer.

    A backward pass inside the context fills them; positions that no gradient reaches are left out.
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
    """Call ``hear`` with the number and the stream, of shape (rows, length, hidden), below and after the layers."""
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


# ----------------------------------------
# The model's answers to the example. Writing one takes longer than a step, so it is put off: the state's trained
# numbers are kept, and restored for a moment when there is time.


GUESSED = 8  # assumed ratio of the times of writing an answer and reading, before one was written
WAITING = 12  # maximum number of states whose numbers are kept
KEPT_NUMBERS = 16_000_000  # maximum of trained numbers for that; a larger model answers at once or not at all


@dataclass(frozen=True)
class Asked:
    """The example as the model reads it, ids and mask of shape (1, length), how it is asked and scored, and
    whether its answer is written token by token."""

    example: Example
    inputs: Mapping[str, torch.Tensor]
    answer: Callable[[Any], str]
    score: Callable[[str], float]
    writes: bool


class Answering:
    """Asks one model for its answers, within the budget."""

    def __init__(self, model: torch.nn.Module, asked: Asked, budget: Budget) -> None:
        self.model, self.asked, self.budget = model, asked, budget
        self._trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self._holds = sum(parameter.numel() for parameter in self._trained.values()) <= KEPT_NUMBERS
        self._waiting: dict[int, dict[str, torch.Tensor]] = {}
        self._given: dict[int, Answer] = {}
        self._cost = 0.0

    def answers(self) -> list[Answer]:
        """Return the answers that were given, by state."""
        return [self._given[step] for step in sorted(self._given)]

    def wants(self, step: int) -> None:
        """Request an answer at the model's present state, ``step``."""
        if not self._holds:
            if step and self.budget.allows(self._cost):
                self._ask(step)
            return
        self._waiting[step] = copied(self._trained)
        if len(self._waiting) > WAITING:
            del self._waiting[sorted(self._waiting)[1]]  # the first state is the reference of all others

    def catch_up(self, passing: float = 0.0, last: bool = False) -> None:
        """Answer waiting states within the budget, the first one, then the latest; with ``last`` the latest one
        in any case, as it is what was learned.

        Args:
            passing: seconds that the model takes to read the example, from which the first answer's are estimated.
            last: no step follows; the other waiting states are dropped.
        """
        self._cost = self._cost or passing * (GUESSED if self.asked.writes else 1)
        while self._waiting:
            step = max(self._waiting)
            if self.budget.allows(self._cost):
                step = 0 if 0 in self._waiting else step
            elif not last or step < max(self._given, default=0):
                break
            with restored(self._trained, self._waiting.pop(step)):
                self._ask(step)
        if last:
            self._waiting.clear()

    def _ask(self, step: int) -> None:
        start = time.perf_counter()
        with self.budget.counted(), evaluating(self.model):
            text = self.asked.answer(self.model)
            self._given[step] = Answer(step, text, self.asked.score(text))
        self._cost = time.perf_counter() - start
