"""The lab's own training step on this machine, simulated: what a run's tracked step will measure.

The loop is that of :mod:`peft_lab.runs.training`, with its own helpers where they take fake tensors:
everything that the method added in the base's precision, float32 masters, the output head only where a
completion is predicted, a fused AdamW. What a loss picks depends on the batch, so the batch says how much it
picks.
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
        from peft_lab.training.precision import Masters

        masters = Masters(stage.subject.model)
        for master in masters.parameters:
            number = stage.recorder.number(master)
            made = None if number is None else stage.recorder.trace.storages[number]
            if made is not None and made.part != "adapter" and made.part != "weights":
                made.part = "optimizer"
        optimizer = _FusedAdam(masters.parameters)
        stage.subject.model.train()
        for _ in range(2):
            _step(stage, masters, optimizer, batch)

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


def _step(stage: Stage, masters: Any, optimizer: _FusedAdam, batch: LabBatch) -> None:
    """One round of the loop in ``runs.training._learn``."""
    import torch

    recorder, subject = stage.recorder, stage.subject
    recorder.enter("zero_grad")
    inputs = {
        "input_ids": torch.zeros(batch.rows, batch.length, dtype=torch.long),
        "attention_mask": torch.ones(batch.rows, batch.length, dtype=torch.long),
    }
    if not batch.padded:
        del inputs["attention_mask"]
    recorder.enter("forward")
    loss = _loss(subject.model, inputs, batch)
    recorder.enter("backward")
    recorder.logits = subject.head is not None
    loss.backward()
    del loss
    recorder.logits = False
    for parameter in subject.model.parameters():
        number = None if parameter.grad is None else recorder.number(parameter.grad)
        if number is not None and number >= 0:
            recorder.trace.storages[number].part = "gradients"
            recorder.trace.storages[number].layer = recorder.layer_of(parameter)
    recorder.enter("optimizer")
    masters.take_gradients()
    torch.nn.utils.clip_grad_norm_(masters.parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    masters.publish()
    recorder.enter("idle")


def _loss(model: torch.nn.Module, inputs: dict[str, torch.Tensor], batch: LabBatch) -> torch.Tensor:
    """``runs.batches.loss_of`` with what it reads from the labels given."""
    import torch

    from peft_lab.training.batches import keeps_logits
    from peft_lab.training.evaluation import bare

    if not batch.kept:
        logits = model(**inputs).logits
        labels = torch.zeros(batch.rows, dtype=torch.long)
        return torch.nn.functional.cross_entropy(logits.float(), labels)
    positions = torch.arange(-batch.kept, 0)
    labels = torch.zeros(batch.rows, batch.length, dtype=torch.long)
    keep: dict[str, Any] = {"logits_to_keep": positions} if keeps_logits(bare(model)) else {}
    logits = model(**inputs, **keep).logits
    if logits.shape[1] != batch.kept:
        logits = logits[:, positions]
    targets = labels[:, : batch.kept]
    said = torch.zeros(batch.predicted, dtype=torch.long)
    picked = logits.flatten(0, 1)[said]
    return torch.nn.functional.cross_entropy(picked.float(), targets.flatten()[said])
