"""Any PEFT ``adapter_config.json`` on any model without weights, so that whatever PEFT can express can be counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peft_lab import meta
from peft_lab.errors import BadInput
from peft_lab.methods.base import plain_task
from peft_lab.models import ModelEntry

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig


def parse(entry: ModelEntry, content: Mapping[str, Any]) -> PeftConfig:
    """The config object of a dictionary; a missing task type becomes the model's own.

    Raises:
        BadInput: no or an unknown ``peft_type``, or fields that PEFT rejects.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig

    kind = content.get("peft_type")
    if kind not in set(PEFT_TYPE_TO_CONFIG_MAPPING):
        raise BadInput(f"This is no PEFT adapter config: its peft_type is {kind!r}.", "adapter_config")
    try:
        config = PeftConfig.from_peft_type(**{**content, "inference_mode": False})
    except (TypeError, ValueError, KeyError) as error:
        raise BadInput(f"PEFT does not accept this {kind} config: {error}", "adapter_config") from error
    config.task_type = config.task_type or plain_task(entry.kind)
    return config


def apply(entry: ModelEntry, content: Mapping[str, Any]) -> torch.nn.Module:
    """The adapted model on the meta device.

    Raises:
        BadInput: PEFT refuses the config for this model; the message is PEFT's.
    """
    from peft import get_peft_model

    config = parse(entry, content)
    base = meta.build(meta.make_config(entry.config), entry.kind)
    try:
        adapted: Any = get_peft_model(base, config)  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError, RuntimeError, NotImplementedError) as error:
        raise BadInput(f"PEFT cannot apply this {config.peft_type} config to {entry.title}: {error}", "adapter_config") from error
    return adapted
