"""What the model says to the example at its states. Writing an answer takes longer than a step, so it is put off: the
trained numbers of the state are kept, and put back for a moment when there is time for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_lab.trajectory import passing
from peft_lab.trajectory.format import Answer, Example
from peft_lab.trajectory.states import Budget

if TYPE_CHECKING:
    import torch

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
        with self.budget.counted(), passing.evaluating(self.model):
            text = self.asked.answer(self.model)
            self._given[step] = Answer(step, text, self.asked.score(text))
        self._cost = time.perf_counter() - start
