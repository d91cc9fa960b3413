"""The lab's own training step on this machine, simulated: what a run's tracked step will measure.

The step is the run's own (:func:`peft_lab.training.step.train_step`), with all that the method added in the base's
precision, float32 masters and a fused AdamW. What a loss picks depends on values, so the batch says how much it picks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from peft_lab.errors import BadInput
from peft_lab.memory.result import Simulation
from peft_lab.memory.running import Stage
from peft_lab.memory.setting import Setting
from peft_lab.memory.simulate import blueprint_of, simulate_blueprint

if TYPE_CHECKING:
    import torch

    from peft_lab.training.batches import Picked


@dataclass(frozen=True)
class LabBatch:
    """A batch of a run.

    Attributes:
        rows, length: its size; padded: whether a row is shorter than the longest.
        kept: positions at which the head is applied (from the first that predicts a completion to the last).
        predicted: tokens that the loss counts, over all rows. Both are 0 when classifying.
        attention: which of transformers' implementations computes it; ``None``: its own choice.
    """

    rows: int
    length: int
    kept: int = 0
    predicted: int = 0
    padded: bool = True
    attention: str | None = None

    def check(self) -> None:
        """Raises BadInput for numbers that contradict each other."""
        if not 0 <= self.kept <= self.length:
            raise BadInput(f"{self.kept:,} positions cannot be kept of a row of {self.length:,}.", "kept")
        if not 0 <= self.predicted <= self.rows * self.kept:
            raise BadInput(
                f"{self.predicted:,} predicted tokens are more than there are positions.", "predicted"
            )


def simulate_lab(
    model: str, method: str, values: Mapping[str, Any], batch: LabBatch, dtype: str, device: str = "cpu"
) -> Simulation:
    """The tracked step of a run of ``method`` on ``model`` with ``batch``, on this machine.

    Raises:
        BadInput, SimulationError: as :func:`peft_lab.memory.simulate.simulate`.
    """
    batch.check()
    setting = Setting(batch.rows, batch.length, padded=batch.padded, device=device)
    blueprint, name, slug = blueprint_of(model, method, values, dtype)
    inner = blueprint.method

    def applied(base: torch.nn.Module, depth: int) -> torch.nn.Module:
        from peft_lab.training.precision import cast_added

        if batch.attention is not None:
            base.set_attn_implementation(batch.attention)  # type: ignore[operator]
        adapted = base if inner is None else inner(base, depth)  # type: ignore[operator]
        cast_added(adapted, blueprint.dtype)
        return adapted

    def schedule(stage: Stage) -> None:
        from peft_lab.training.batches import keeps_logits, loss_at
        from peft_lab.training.precision import Masters
        from peft_lab.training.step import train_step

        masters = Masters(stage.subject.model)
        for master in masters.parameters:
            number = stage.recorder.number(master)
            made = None if number is None else stage.recorder.trace.storages[number]
            if made is not None and made.part != "adapter" and made.part != "weights":
                made.part = "optimizer"
        optimizer = _FusedAdam(masters.parameters)
        model = stage.subject.model.train()
        inputs, asked = _inputs(batch)
        keep = asked is not None and keeps_logits(model)
        for _ in range(2):
            train_step(
                model,
                inputs,
                lambda model, batch: loss_at(model, batch, asked, keep),
                masters,
                optimizer,
                clip=1.0,
                phase=stage.phase,
            )
            stage.recorder.enter("idle")

    return simulate_blueprint(replace(blueprint, method=applied), setting, name, slug, schedule)


class _FusedAdam:
    """torch's fused AdamW: moments and a counter for each parameter, updated in place without temporaries."""

    def __init__(self, parameters: list[Any]) -> None:
        self.parameters = parameters
        self.states: list[list[torch.Tensor]] = []

    def step(self) -> None:
        import torch

        if not self.states:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    counter = parameter.detach().new_zeros((), dtype=torch.float32)
                    moments = [torch.zeros_like(parameter, requires_grad=False) for _ in range(2)]
                    self.states.append([counter, *moments])

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


def _inputs(batch: LabBatch) -> tuple[dict[str, torch.Tensor], Picked | None]:
    """The batch's tensors, and what its labels would pick."""
    import torch

    from peft_lab.training.batches import Picked

    size = (batch.rows, batch.length)
    inputs = {"input_ids": torch.zeros(size, dtype=torch.long)}
    if batch.padded:
        inputs["attention_mask"] = torch.ones(size, dtype=torch.long)
    if not batch.kept:
        return {**inputs, "labels": torch.zeros(batch.rows, dtype=torch.long)}, None
    inputs["labels"] = torch.zeros(size, dtype=torch.long)
    tokens = torch.zeros(batch.predicted, dtype=torch.long)
    return inputs, Picked(torch.arange(-batch.kept, 0), tokens, tokens.clone())
