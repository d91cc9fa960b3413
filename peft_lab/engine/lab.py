"""Simulate the lab's own training step on this machine: what a run's tracked step will measure.

The step is the run's own (:func:`peft_lab.training.step.train_step`), with all parameters that the method added in the
base's precision, float32 masters and a fused AdamW. The positions that a loss picks depend on values, so the batch
gives their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from peft_lab.core.errors import BadInput
from peft_lab.core.later import torch
from peft_lab.engine.request import Simulation, StepRequest, StepSetting
from peft_lab.engine.running import Stage
from peft_lab.engine.simulate import blueprint_of, refusing, simulate_blueprint
from peft_lab.engine.step import BlockwiseAdam

if TYPE_CHECKING:
    from peft_lab.training.batches import Picked


@dataclass(frozen=True)
class LabBatch(StepSetting):
    """The sizes of one batch of a run: whether a row is shorter than the longest (``padded``), at how many positions
    the head is applied (``kept``: from the first that predicts a completion to the last), how many tokens the loss
    counts over all rows (``predicted``; both 0 when classifying rows), whether the model is an encoder-decoder
    (``apart``: ``seq`` is the encoder's, ``kept`` the decoder's), and transformers' attention ``implementation``."""

    padded: bool = True
    device: str = "cpu"
    kept: int = 0
    predicted: int = 0
    apart: bool = False
    implementation: str | None = None

    @classmethod
    def of(
        cls, size: Mapping[str, Any], device: str, attention: str | None = None, tags: int = 0
    ) -> LabBatch:
        """Return the batch whose size a run's events recorded (:func:`peft_lab.training.batches.size_of`). ``tags``:
        labels of a task that tags tokens, else 0."""
        picked: dict[str, Any] = {name: size[name] for name in ("padded", "kept", "predicted")}
        apart = bool(size.get("apart", False))  # absent from runs made before there were such models
        length = 1 if "image" in size else size["length"]  # the model decides the length of images
        picked |= {"device": device, "implementation": attention, "apart": apart, "tags": tags}
        return cls(size["rows"], length, **picked)

    def check(self) -> None:
        """Check the sizes. Raises BadInput if one is out of range or they contradict each other."""
        super().check()
        if self.kept < 0 or (self.kept > self.seq and not self.apart):
            raise BadInput(
                (f"A row of {self.seq:,} tokens cannot have {self.kept:,} positions that need logits."),
                "kept",
            )
        if not 0 <= self.predicted <= self.batch * self.kept:
            raise BadInput(
                f"There are more predicted tokens ({self.predicted:,}) than positions.", "predicted"
            )


def simulate_lab(request: StepRequest) -> Simulation:
    """Simulate the tracked step of a run on this machine; the request's setting is a :class:`LabBatch`. Raises
    BadInput, SimulationError: as :func:`peft_lab.engine.simulate.simulate`."""
    from peft_lab.methods import get_method
    from peft_lab.models.catalogue import resolve
    from peft_lab.models.images import size_of

    entry, batch = resolve(request.model), request.setting
    assert isinstance(batch, LabBatch)
    blueprint = blueprint_of(request)
    inner = blueprint.method

    def applied(base: torch.nn.Module, depth: int) -> torch.nn.Module:
        from peft_lab.training.step import cast_added

        if batch.implementation is not None:
            base.set_attn_implementation(batch.implementation)  # type: ignore[operator]
        adapted = base if inner is None else inner(base, depth)  # type: ignore[operator]
        cast_added(adapted, blueprint.dtype)
        return adapted

    def schedule(stage: Stage) -> None:
        from peft_lab.training.batches import keeps_logits, loss_at
        from peft_lab.training.step import Masters, train_step

        masters = Masters(stage.subject.model)
        for master in masters.parameters:
            made = stage.recorder.storage(master)
            if made is not None and made.part != "adapter" and made.part != "weights":
                made.part = "optimizer"
        optimizer = BlockwiseAdam(
            masters.parameters, bits=32, paged=False, counters=True
        )  # as torch's fused AdamW
        model = stage.subject.model.train()
        inputs, asked = _inputs(batch, size_of(entry.config) if entry.kind == "vision" else None)
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

    with refusing(entry, get_method(request.method)):
        # Its model is not the blueprint's, so it has a name of its own among the models that are copied.
        own = replace(blueprint, method=applied, source=f"{blueprint.source} {batch.implementation}")
        return simulate_blueprint(own, batch, request.model, request.method, schedule)


def _inputs(
    batch: LabBatch, image: tuple[int, int, int] | None
) -> tuple[dict[str, torch.Tensor], Picked | None]:
    """Return the batch's tensors, and the positions its loss picks. ``image``: channels, height, width of images."""
    from peft_lab.training.batches import Picked

    if image is not None:
        labels = torch.zeros(batch.batch, dtype=torch.long)
        return {"pixel_values": torch.zeros(batch.batch, *image), "labels": labels}, None
    size = (batch.batch, batch.seq)
    inputs = {"input_ids": torch.zeros(size, dtype=torch.long)}
    if batch.padded:
        inputs["attention_mask"] = torch.ones(size, dtype=torch.long)
    if not batch.kept:
        return {**inputs, "labels": torch.zeros(batch.batch, dtype=torch.long)}, None
    if batch.apart:
        inputs["decoder_input_ids"] = torch.zeros(batch.batch, batch.kept, dtype=torch.long)
        inputs["labels"] = inputs["decoder_input_ids"].clone()
    else:
        inputs["labels"] = torch.zeros(size, dtype=torch.long)
    tokens = torch.zeros(batch.predicted, dtype=torch.long)
    return inputs, Picked(torch.arange(-batch.kept, 0), tokens, tokens.clone())
