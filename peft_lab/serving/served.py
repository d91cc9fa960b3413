"""One base with an adapter for each domain: bottleneck adapters and LoRA behind the same few calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.methods import get_method
from peft_lab.methods.adapters.spec import Adapters
from peft_lab.models.loading import no_pickles
from peft_lab.models.refusals import fitting_shapes
from peft_lab.runs import kept, store

if TYPE_CHECKING:
    import torch

    from peft_lab.models.loading import Base

Batch = dict[str, "torch.Tensor"]


class Served(ABC):
    """One base with an adapter for each domain."""

    def __init__(self, runs: Mapping[str, str]) -> None:
        from peft_lab.runs.course import fresh_base
        from peft_lab.training.precision import cast_added

        self.runs = {name: store.get(identity) for name, identity in runs.items()}
        spec = next(iter(self.runs.values())).spec
        self.base: Base = fresh_base(spec, spec.task_object())
        self.model: Any = self.attach(self.base.model)
        cast_added(self.model, self.base.dtype)
        self.model.eval()

    @abstractmethod
    def attach(self, base: torch.nn.Module) -> torch.nn.Module:
        """Load every run's adapter under its domain's name."""

    @abstractmethod
    def use(self, name: str) -> None:
        """Answer all rows of the next batches with this adapter."""

    @abstractmethod
    def bare(self, batch: Batch) -> torch.Tensor:
        """Logits without any adapter."""

    @abstractmethod
    def mixed(self, batch: Batch, names: Sequence[str]) -> torch.Tensor:
        """Logits of a batch whose rows ask for different adapters."""

    def answer(self, batch: Batch) -> torch.Tensor:
        logits: torch.Tensor = self.model(**batch).logits
        return logits

    @property
    def stored_bytes(self) -> int:
        return sum((run.adapter / "adapter_model.safetensors").stat().st_size for run in self.runs.values())


class ServedAdapters(Served):
    def attach(self, base: torch.nn.Module) -> torch.nn.Module:
        for name, run in self.runs.items():
            _adapters().load(base, kept.adapter(run.folder), name)
        return base

    def use(self, name: str) -> None:
        _adapters().set_active(self.model, name)

    def bare(self, batch: Batch) -> torch.Tensor:
        _adapters().set_active(self.model, None)
        return self.answer(batch)

    def mixed(self, batch: Batch, names: Sequence[str]) -> torch.Tensor:
        _adapters().set_active(self.model, list(names))
        return self.answer(batch)


class ServedLora(Served):
    def attach(self, base: torch.nn.Module) -> torch.nn.Module:
        from peft import PeftModel

        (first, run), *others = self.runs.items()
        with no_pickles(), fitting_shapes():
            model: Any = PeftModel.from_pretrained(base, str(kept.adapter(run.folder)), adapter_name=first)
            for name, other in others:
                model.load_adapter(str(kept.adapter(other.folder)), adapter_name=name)
        return model

    def use(self, name: str) -> None:
        self.model.set_adapter(name, inference_mode=True)

    def bare(self, batch: Batch) -> torch.Tensor:
        with self.model.disable_adapter():
            return self.answer(batch)

    def mixed(self, batch: Batch, names: Sequence[str]) -> torch.Tensor:
        logits: torch.Tensor = self.model(**batch, adapter_names=list(names)).logits
        return logits

    def merge_and_unmerge(self) -> None:
        """Fold the active adapter into the weights and take it out again: what a switch costs when they are merged."""
        self.model.merge_adapter()
        self.model.unmerge_adapter()


def _adapters() -> Adapters:
    method = get_method("adapters")
    assert isinstance(method, Adapters)
    return method
