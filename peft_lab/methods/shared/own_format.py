"""Saving and loading for the methods that PEFT does not have: the same two files, with a ``peft_type`` of our own.

The names of the tensors to save are noted on the model when the method is applied, so that a saved adapter holds what
was trained (task head included) whatever happens to ``requires_grad`` later.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.errors import BadInput
from peft_lab.methods.base import CLASSIFYING, TaskType
from peft_lab.models.heads import in_head
from peft_lab.models.refusals import misshapen

if TYPE_CHECKING:
    import torch

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_NOTE = "_peft_lab_trained"


def train_only(model: torch.nn.Module, names: Iterable[str], task_type: TaskType) -> None:
    """Freeze all but ``names`` (and the head of a classifier), and note them for :func:`trained_state`."""
    wanted = set(names)
    for name, parameter in model.named_parameters():
        head = task_type in CLASSIFYING and in_head(name)
        parameter.requires_grad_(name in wanted or head)
        if head:
            wanted.add(name)
    setattr(model, _NOTE, tuple(name for name, _ in model.named_parameters() if name in wanted))
    allow_checkpointing(model)


def allow_checkpointing(model: Any) -> None:
    """With frozen embeddings no activation would require a gradient and reentrant checkpointing would return none."""
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        model.enable_input_require_grads()


def trained_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The noted parameters by name, detached. Each in the shape that it has in the model."""
    noted = set(getattr(model, _NOTE))
    return {name: parameter.detach() for name, parameter in model.named_parameters() if name in noted}


def write(directory: Path, config: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
    """Writes config and weights into a folder, which is made; each tensor in the shape that it has."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    tensors = {name: tensor.contiguous().clone().cpu() for name, tensor in state.items()}
    save_file(tensors, str(directory / WEIGHTS_FILE), metadata={"format": "pt"})


def read_config(directory: Path, peft_type: str) -> dict[str, Any]:
    """Raises :class:`BadInput` when the folder holds no adapter of this type."""
    config = read_any_config(directory)
    if config.get("peft_type") != peft_type:
        raise BadInput(f"This adapter is of type {config.get('peft_type')}, not {peft_type}.", "adapter")
    return config


def read_any_config(directory: Path) -> dict[str, Any]:
    """The config of an adapter of any type. Raises :class:`BadInput` when there is none."""
    path = directory / CONFIG_FILE
    if not path.is_file():
        raise BadInput(f"There is no {CONFIG_FILE} in {directory.name}.", "adapter")
    config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return config


def read_state(directory: Path) -> dict[str, torch.Tensor]:
    """The saved tensors by name, each in the shape that it was saved in."""
    from safetensors.torch import load_file

    return load_file(str(directory / WEIGHTS_FILE))


def copy_into(own: Mapping[str, torch.nn.Parameter], state: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors into the parameters of the same names.

    Raises:
        BadInput: a name or a shape that is not there.
    """
    import torch

    require_same(own, state)
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)


def require_same(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> None:
    """Raises :class:`BadInput` for a tensor of ``state`` that ``own`` has not got in the same shape."""
    for name, tensor in state.items():
        if name not in own:
            raise BadInput(f"The adapter holds '{name}', which this model does not have.", "adapter")
        if own[name].shape != tensor.shape:
            raise misshapen("The adapter", name, tensor.shape, own[name].shape)


def restore(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy a saved state into a fresh base, and note its names, frozen: loading is for use, as in PEFT.

    Each tensor has the shape of its parameter.
    """
    copy_into(dict(model.named_parameters()), state)
    model.requires_grad_(False)
    setattr(model, _NOTE, tuple(state))
    model.eval()
