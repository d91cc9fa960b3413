"""Turning a model without values (meta device) into one of fake tensors that believe they are on a device.

Fake tensors of the device are "cpu" ones here. A tensor with values beside a base without (what PEFT left on the CPU
when it moved the adapter to the base's device) is on the host in a real run: its twin is a fake tensor on "meta", which
costs the device nothing and has to be copied over before use, as on the real machine.

Views and shared storages stay what they were: a slice that keeps a whole matrix alive on the real device (as PSoft's
singular vectors do) keeps it alive here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Small integer tensors with values (sizes, token ids) keep them: code reads them to know shapes.
_KEEPS_VALUES = 64
_CONTAINERS = (dict, list, tuple)


class Faker:
    """Makes each tensor's fake twin once. Use inside a FakeTensorMode."""

    def __init__(self) -> None:
        self._twins: dict[int, torch.Tensor] = {}
        self._storages: dict[int, torch.Tensor] = {}
        # The originals stay referenced, so that no id is given twice.
        self._originals: list[Any] = []

    def model(self, model: torch.nn.Module) -> None:
        """Replace every parameter, buffer and tensor attribute of ``model`` and its submodules in place."""
        for module in model.modules():
            for table in (module._parameters, module._buffers):
                for name, tensor in table.items():
                    if tensor is not None:
                        table[name] = self.tensor(tensor)  # type: ignore[assignment]
            for name, value in list(vars(module).items()):
                if name in ("_parameters", "_buffers", "_modules") or name.endswith("_hooks"):
                    continue
                if holds_tensor(value):
                    module.__dict__[name] = self.value(value)

    def value(self, value: Any) -> Any:
        """The twin of a tensor or of a plain container of tensors; dictionaries change in place."""
        import torch

        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if isinstance(value, dict):
            for key in value:
                if holds_tensor(value[key]):
                    value[key] = self.value(value[key])
            return value
        if type(value) in (list, tuple):
            return type(value)(self.value(item) for item in value)
        return value

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        import torch

        twin = self._twins.get(id(tensor))
        if twin is not None:
            return twin
        if tensor.device.type == "cpu" and not tensor.is_floating_point() and tensor.numel() <= _KEEPS_VALUES:
            return tensor
        storage = tensor.untyped_storage()
        base = self._storages.get(storage._cdata)
        if base is None:
            base = torch.empty(
                storage.nbytes(), dtype=torch.uint8, device="cpu" if tensor.is_meta else "meta"
            )
            self._storages[storage._cdata] = base
        twin = torch.empty(0, dtype=tensor.dtype, device=base.device).set_(
            base.untyped_storage(),
            tensor.storage_offset(),
            tensor.shape,
            tensor.stride(),
        )
        if isinstance(tensor, torch.nn.Parameter):
            twin = torch.nn.Parameter(twin, requires_grad=tensor.requires_grad)
            # Hooks (OSF projects gradients in one) and notes that libraries leave on a parameter.
            twin._backward_hooks = tensor._backward_hooks
            twin.__dict__.update(tensor.__dict__)
        self._twins[id(tensor)] = twin
        self._originals.extend((tensor, storage))
        return twin


def holds_tensor(value: Any) -> bool:
    """Whether a value is a tensor or a plain container with one inside."""
    return next(tensors_held(value), None) is not None


def tensors_held(value: Any, depth: int = 3) -> Iterator[torch.Tensor]:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, _CONTAINERS) and depth:
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_held(item, depth - 1)
