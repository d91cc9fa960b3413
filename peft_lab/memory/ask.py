"""Simulations as questions to another process: JSON-able arguments in, a :class:`Simulation` out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_lab.memory.result import Simulation


def step(
    model: str,
    method: str,
    values: Mapping[str, Any],
    setting: Mapping[str, Any],
    dtype: str,
    checkpointing: bool,
) -> Simulation:
    """:func:`peft_lab.memory.simulate.simulate` with the fields of a ``Setting`` as a mapping.

    Raises:
        BadInput, SimulationError: as there.
    """
    from peft_lab.memory.setting import Setting
    from peft_lab.memory.simulate import simulate

    given = {**setting, "capability": tuple(setting.get("capability", (8, 9)))}
    return simulate(model, method, values, Setting(**given), dtype, checkpointing)
