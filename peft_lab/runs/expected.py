"""What a run's measured step will take, before it is trained: the very batch that the run will track, simulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_lab import machine
from peft_lab.memory.lab import LabBatch, simulate_lab
from peft_lab.memory.request import StepRequest
from peft_lab.memory.result import Simulation
from peft_lab.models import images
from peft_lab.runs.spec import RunSpec


def step_ahead(data: Mapping[str, Any]) -> tuple[Simulation, dict[str, Any]]:
    """Simulate the step that a run of this spec will measure. Returns it and the size of its batch.

    The rows are encoded, put in order and padded as :mod:`peft_lab.runs.course` does, so that the figure before a
    run and the figure of the run are of one batch.

    Imports torch; asked in another process.

    Raises:
        BadInput, SimulationError: the step cannot be simulated. AssetError: weights or sentences are not here.
    """
    request, batch = _request(data)
    return simulate_lab(request), batch


def parts_ahead(data: Mapping[str, Any]) -> dict[str, int]:
    """Return the parts of that step's peak in bytes, by name. Imports torch. Raises as :func:`step_ahead`."""
    return dict(step_ahead(data)[0].parts)


def _request(data: Mapping[str, Any]) -> tuple[StepRequest, dict[str, Any]]:
    """What is simulated for a run of this spec, and the size of its batch."""
    from peft_lab.models import loading
    from peft_lab.models.catalogue import resolve

    spec = RunSpec.from_dict(data)
    device = machine.in_use()
    batch = tracked_batch(spec)
    attention = loading.attention_for(device.kind, spec.max_length, resolve(spec.model))
    sized = LabBatch.of(batch, device.simulated_as, attention)
    dtype = str(machine.compute_dtype()).removeprefix("torch.")
    return StepRequest(spec.model, spec.method, spec.values, sized, dtype), batch


def tracked_batch(spec: RunSpec) -> dict[str, Any]:
    """The size of the batch under the memory tracker: :func:`peft_lab.training.sizes.size_of`. Imports torch."""
    from peft_lab.models import loading
    from peft_lab.models.catalogue import resolve
    from peft_lab.runs.following import TRACKED_STEP
    from peft_lab.training import batches
    from peft_lab.training.sizes import size_of

    task, size = spec.task_object(), spec.batch
    if task.images:
        return images.size_of_batch(size, resolve(spec.model).config)
    tokenizer = loading.load_tokenizer(loading.weights_of(spec.model))
    train = task.load().train
    needed = train[: min(len(train), spec.steps * size)]
    start = loading.decoder_start(resolve(spec.model))
    rows = batches.encode(task, needed, tokenizer, spec.max_length, start)
    order = batches.plan([len(row) for row in rows], spec.steps, size, spec.seed)
    numbers = order[min(TRACKED_STEP, spec.steps - 1)]
    pad = loading.pad_token(tokenizer)
    return size_of(batches.collate([rows[number] for number in numbers], pad, "cpu"))
