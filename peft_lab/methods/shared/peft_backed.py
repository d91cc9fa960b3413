"""What all methods share that are PEFT's own: apply, save, load and state are the library's calls."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.errors import Unsupported
from peft_lab.methods.base import MethodSpec, TaskType
from peft_lab.methods.knobs import Values
from peft_lab.models.heads import HEADS
from peft_lab.models.loading import no_pickles
from peft_lab.models.refusals import REFUSALS, fitting_shapes, reason
from peft_lab.models.shapes import ModelShape
from peft_lab.models.shapes_only import shapes_only

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig


class PeftMethod(MethodSpec):
    """A method applied by ``peft.get_peft_model`` with the config that :meth:`config` makes."""

    @abstractmethod
    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> PeftConfig:
        """The PEFT config of complete and checked values."""

    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        config = config_of(self, shape, values, task_type)
        assert config is not None  # these are PEFT's
        return wrap(model, config)

    def save(self, model: torch.nn.Module, directory: Path) -> None:
        model.save_pretrained(str(directory), safe_serialization=True)  # type: ignore[operator]
        # A form to be filled in, with a path of this machine. The card of a run is written by peft_lab/export.
        (directory / "README.md").unlink(missing_ok=True)

    def load(self, model: torch.nn.Module, directory: Path) -> torch.nn.Module:
        from peft import PeftModel

        with no_pickles(), fitting_shapes():
            loaded: Any = PeftModel.from_pretrained(model, str(directory))
        return loaded

    def state(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        from peft import get_peft_model_state_dict

        with shapes_only() if on_meta(model) else nullcontext():
            return dict(get_peft_model_state_dict(model, save_embedding_layers=False))


def config_of(
    method: MethodSpec, shape: ModelShape, values: Values, task_type: TaskType
) -> PeftConfig | None:
    """A method's PEFT config for the task, ``None`` where PEFT does not have the method. PEFT has no type for images:
    a config has none then and names the head to be saved, as PEFT's own guide to image classification does."""
    if task_type != "IMAGE_CLS":
        return method.config(shape, values, task_type)
    config = method.config(shape, values, "SEQ_CLS")
    if config is not None:
        config.task_type = None
        config.modules_to_save = [HEADS[0]]  # type: ignore[attr-defined]
    return config


def wrap(model: Any, config: PeftConfig) -> torch.nn.Module:
    """``get_peft_model``; on a meta model nothing is created on the CPU first.

    Raises:
        Unsupported: PEFT refuses these settings on this model, with PEFT's reason.
    """
    from peft import get_peft_model

    with shapes_only() if on_meta(model) else nullcontext():
        try:
            peft_model: Any = get_peft_model(model, config)
        except REFUSALS as error:
            kind = getattr(config.peft_type, "value", config.peft_type)
            architecture = model.config.model_type
            raise Unsupported(
                f"PEFT cannot put {kind} with these settings on a '{architecture}' model: {reason(error)}"
            ) from error
    return peft_model


def on_meta(model: torch.nn.Module) -> bool:
    """Whether a model has shapes only and no values."""
    return next(model.parameters()).is_meta
