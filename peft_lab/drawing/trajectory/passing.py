"""One example through the model as it is, and the batch's gradient through its stream. Torch is imported inside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_lab.drawing.trajectory.format import Answer, Budget, Example
from peft_lab.methods.recording.parts import Watched

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


# ----------------------------------------
# What the model says to the example at its states. Writing an answer takes longer than a step, so it is put off: the
# trained numbers of the state are kept, and put back for a moment when there is time for it.


GUESSED = 8  # times that writing an answer takes as long as reading, before one was written
WAITING = 12  # states whose numbers are kept at most
KEPT_NUMBERS = 16_000_000  # trained numbers at most for that; a larger model answers at once or not at all


@dataclass(frozen=True)
class Asked:
    """The example as the model reads it, ids and mask of shape (1, length), how it is asked and judged, and whether
    its answer is written token by token."""

    example: Example
    inputs: Mapping[str, torch.Tensor]
    answer: Callable[[Any], str]
    score: Callable[[str], float]
    writes: bool


class Answering:
    """Asks one model for its answers, as far as the budget goes."""

    def __init__(self, model: torch.nn.Module, asked: Asked, budget: Budget) -> None:
        self.model, self.asked, self.budget = model, asked, budget
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._holds = sum(parameter.numel() for parameter in self._trained) <= KEPT_NUMBERS
        self._waiting: dict[int, list[torch.Tensor]] = {}
        self._given: dict[int, Answer] = {}
        self._cost = 0.0

    def answers(self) -> list[Answer]:
        """Those that were given, by state."""
        return [self._given[step] for step in sorted(self._given)]

    def wants(self, step: int) -> None:
        """The model is at this state now."""
        if not self._holds:
            if step and self.budget.allows(self._cost):
                self._ask(step)
            return
        self._waiting[step] = [parameter.detach().clone() for parameter in self._trained]
        if len(self._waiting) > WAITING:
            del self._waiting[sorted(self._waiting)[1]]  # the first state is what all others stand against

    def catch_up(self, passing: float = 0.0, last: bool = False) -> None:
        """Answer what is waiting, the first state, then the latest, while the budget allows; the very last state in
        any case, since it is what was learned.

        Args:
            passing: seconds that the model takes to read the example, from which the first answer's are guessed.
            last: no step comes after this; what is left is given up.
        """
        self._cost = self._cost or passing * (GUESSED if self.asked.writes else 1)
        while self._waiting:
            step = max(self._waiting)
            if self.budget.allows(self._cost):
                step = 0 if 0 in self._waiting else step
            elif not last or step < max(self._given, default=0):
                break
            kept = self._waiting.pop(step)
            present = [parameter.detach().clone() for parameter in self._trained]
            self._put(kept)
            try:
                self._ask(step)
            finally:
                self._put(present)
        if last:
            self._waiting.clear()

    def _put(self, numbers: list[torch.Tensor]) -> None:
        import torch

        with torch.no_grad():
            for parameter, value in zip(self._trained, numbers, strict=True):
                parameter.copy_(value)

    def _ask(self, step: int) -> None:
        start = time.perf_counter()
        with self.budget.counted(), evaluating(self.model):
            text = self.asked.answer(self.model)
            self._given[step] = Answer(step, text, self.asked.score(text))
        self._cost = time.perf_counter() - start
