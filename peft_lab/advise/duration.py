"""How long a training takes: its steps' work at the device's speed, as :mod:`peft_lab.engine.timing` has it.

The work is counted from the model's shape, which is instant; Plan and ``memory --gpu`` trace it instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_lab.advise import states
from peft_lab.advise.simulating import Run, Step
from peft_lab.engine.devices import THIS
from peft_lab.engine.timing import estimate, here
from peft_lab.engine.timing.kernels import SHEETS
from peft_lab.methods import get_method
from peft_lab.models.shapes import ModelShape

#: Lower and upper ratio of traced to counted step times (tests/engine/timing/test_counted.py).
COUNTED = (0.97, 1.45)


def training_seconds(
    shape: ModelShape,
    method: str,
    values: Mapping[str, Any],
    step: Step,
    length: int,
    device: str,
    devices: int,
    tokens: float,
    link: str = "",
) -> tuple[float, float] | None:
    """Return lower and upper seconds for so many tokens; ``None`` if the device's speed is unknown, and for
    mixtures of experts, whose products are not counted.

    ``length``: tokens of a row. ``link``: what connects the devices; empty: PCIe.
    """
    if device not in SHEETS and device != THIS:
        return None
    if device == THIS and here.known() is None:
        return None
    if shape.mixtures:  # a router's choices are not counted; Plan traces them
        return None
    spec = get_method(method)
    formula = spec.formula(shape, spec.complete(shape, values))
    trainable, full = formula.trainable, method == "full"
    others = (devices - 1) / devices
    once = 2 * others * trainable * states.BYTES_OF_DTYPE[step.dtype if full else "float32"]
    # whole models average gradients once per update; split ones are gathered in each pass
    gathered = 2 * shape.total if full else states.weight_bytes(shape, method, _run(step))
    sent = others * 2 * gathered + once / 2 if step.split else once / step.accumulate
    work = estimate.counted_work(
        shape,
        trainable,
        step.batch,
        length,
        adapted=0.0 if full else estimate.adapted_maps(formula),
        full=full,
        packed=method == "qlora",
        checkpointing=step.checkpointing,
        bus=2.0 * step.host,
        passes=step.accumulate,
        chunked=step.loss == "chunked",
    )
    one = estimate.seconds(work, device, devices, link or "pcie", sent)
    steps = tokens / (step.batch * length * devices)
    return one.low * COUNTED[0] * steps, one.high * COUNTED[1] * steps


def _run(step: Step) -> Run:
    return Run(step.batch, step.checkpointing, step.optimizer, step.dtype)
