"""The question that the simulation answers: which model, adapted how, and how its step is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from peft_lab.memory.devices import Device
from peft_lab.memory.setting import Setting


@dataclass(frozen=True)
class StepRequest:
    """One training step of one of the lab's methods. Hashable, and passed whole, to other processes too.

    Attributes:
        model: of the catalogue, a Hugging Face id or a local path.
        values: the method's knobs; missing ones are at their defaults.
        dtype: of the base, or what its linear maps are packed in (:data:`peft_lab.memory.simulate.PACKED`).
        checkpointing: keep only the layers' inputs and compute the rest again in the backward pass.
    """

    model: str
    method: str
    values: Mapping[str, Any] = field(hash=False)
    setting: Setting
    dtype: str = "bfloat16"
    checkpointing: bool = False

    def at(self, **changes: Any) -> StepRequest:
        """The same step with other fields of its setting.

        >>> StepRequest("gpt2", "lora", {}, Setting(batch=4, seq=64)).at(batch=1).setting.batch
        1
        """
        return replace(self, setting=replace(self.setting, **changes))

    def on(self, device: Device) -> StepRequest:
        """The same step with the kernels of ``device``, whose memory is no limit."""
        return self.at(device=device.kind, capability=device.capability)


@dataclass(frozen=True)
class ConfigRequest:
    """One training step of any PEFT adapter config (None: full fine-tuning); all else as in :class:`StepRequest`."""

    model: str
    adapter_config: Mapping[str, Any] | None = field(hash=False)
    setting: Setting
    dtype: str = "bfloat16"
    checkpointing: bool = False
