"""What all methods share that are PEFT's own: apply, save, load and state are the library's calls."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.methods.base import MethodSpec, TaskType
from peft_lab.methods.knobs import Values
from peft_lab.shapes import ModelShape

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig


class PeftMethod(MethodSpec):
    """A method applied by ``peft.get_peft_model`` with the config that :meth:`config` makes."""

    @abstractmethod
    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> PeftConfig:
        """The PEFT config of complete and checked values."""

    def apply(self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType) -> torch.nn.Module:
        from peft import get_peft_model

        peft_model: Any = get_peft_model(model, self.config(shape, values, task_type))  # type: ignore[arg-type]
        return peft_model

    def save(self, model: torch.nn.Module, directory: Path) -> None:
        model.save_pretrained(str(directory), safe_serialization=True)  # type: ignore[operator]

    def load(self, model: torch.nn.Module, directory: Path) -> torch.nn.Module:
        from peft import PeftModel

        loaded: Any = PeftModel.from_pretrained(model, str(directory))  # type: ignore[arg-type]
        return loaded

    def state(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        from peft import get_peft_model_state_dict

        return dict(get_peft_model_state_dict(model, save_embedding_layers=False))
