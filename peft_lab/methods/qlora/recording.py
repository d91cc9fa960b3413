"""Record a QLoRA run: LoRA's records, the effect of rounding the base, and the result of each way of merging.

The adapter was trained on the rounded weights. Merging it into the weights before rounding, or rounding the sum again,
gives a model other than the trained one; only merging into the dequantised weights gives the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from peft_lab.core.later import torch
from peft_lab.methods.lora import recording as lora
from peft_lab.methods.recording.recorder import ADAPTER, FreshBase, Inputs
from peft_lab.models import quantise
from peft_lab.models.meta import clean_path
from peft_lab.training.batches import writes_at


class RunRecorder(lora.RunRecorder):
    """Record what LoRA records, the rounding of the base, and every way of merging."""

    def finish(self, inputs: Inputs, fresh_base: FreshBase) -> dict[str, Any]:
        """Return LoRA's records with ``rounding`` and ``merges``."""
        return super().finish(inputs, fresh_base) | {
            "rounding": rounding(self.model, inputs, fresh_base),
            "merges": merges(self.model, inputs, fresh_base),
        }

    def _merge(self, inputs: Inputs) -> list[dict[str, Any]]:
        return []


def merges(model: Any, inputs: Inputs, fresh_base: FreshBase) -> list[dict[str, Any]]:
    """Return one row for every way of merging.

    Args:
        model: the trained model, in evaluation mode; not changed.
        fresh_base: makes the base in its own precision, before rounding.

    Returns:
        rows of ``way``, ``outputs``: the distance of the outputs from the trained model's over the distance between
        the trained model and its base (0: the same, 1: off by as much as training changed), and ``weights``: the same
        for the adapted matrices, over the norm of the correction.
    """
    with torch.no_grad():
        trained = _outputs(model, inputs)
        with model.disable_adapter():
            effect = float((_outputs(model, inputs) - trained).norm())
        expanded = {path: lora.base_weight(module) for path, module in lora.layers(model)}
        wanted = {path: expanded[path] + _delta(module) for path, module in lora.layers(model)}
        correction = sum(float((wanted[path] - expanded[path]).norm()) ** 2 for path in wanted) ** 0.5
        rows: list[dict[str, Any]] = []
        for way, make in ways(model, fresh_base):
            merged = make()
            moved = {path: _weight(merged.get_submodule(path)) for path in wanted}
            lost = sum(float((moved[path] - wanted[path]).norm()) ** 2 for path in wanted) ** 0.5
            apart = float((_outputs(merged, inputs) - trained).norm())
            rows.append({"way": way, "outputs": apart / effect, "weights": lost / correction})
            del merged, moved
        return rows


def rounding(model: Any, inputs: Inputs, fresh_base: FreshBase) -> dict[str, Any]:
    """Measure how storing the base in few bits changes its outputs, before any adapter.

    Returns:
        ``bits`` per stored weight. ``outputs``: norm of the difference between the outputs of the rounded base and
        those of the base in its own precision, over the norm of the latter (0: none); ``training``: the same for the
        rounded base with and without the adapter, over the same norm.
    """
    with torch.no_grad():
        plain = _outputs(fresh_base().eval(), inputs)
        trained = _outputs(model, inputs)
        with model.disable_adapter():
            rounded = _outputs(model, inputs)
    norm = float(plain.norm())
    return {
        "bits": _bits(model),
        "outputs": float((rounded - plain).norm()) / norm,
        "training": float((trained - rounded).norm()) / norm,
    }


def ways(model: Any, fresh_base: FreshBase) -> Iterator[tuple[str, Callable[[], torch.nn.Module]]]:
    """Yield every way of merging: its name and a function that makes the merged model; arguments as :func:`merges`."""
    yield "expanded", lambda: _into(_expanded(model, fresh_base()), model)
    yield "fresh", lambda: _into(fresh_base(), model)
    yield "rounded again", lambda: copy.deepcopy(model).merge_and_unload()


def moved(model: Any, fresh_base: FreshBase) -> tuple[float, float]:
    """Return the norm of the correction and of the rounding of the adapted matrices, each over the weights' norm.
    ``model``: trained, with its adapter and a base in few bits. ``fresh_base``: as :func:`merges`."""
    base = fresh_base()
    corrections, roundings, weights = 0.0, 0.0, 0.0
    for path, module in lora.layers(model):
        weight = _weight(base.get_submodule(path))
        corrections += float(_delta(module).norm()) ** 2
        roundings += float((lora.base_weight(module) - weight).norm()) ** 2
        weights += float(weight.norm()) ** 2
    return (corrections / weights) ** 0.5, (roundings / weights) ** 0.5


def _bits(model: Any) -> int:
    """Return the number of bits in which the base stores its linear maps."""
    return 8 if getattr(model, "is_loaded_in_8bit", False) else 4


def _into(base: Any, model: Any) -> torch.nn.Module:
    """Return ``base`` with the trained adapter merged into it."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config = copy.deepcopy(model.peft_config[ADAPTER])
    config.inference_mode = True
    other: Any = get_peft_model(base, config)
    set_peft_model_state_dict(other, get_peft_model_state_dict(model, save_embedding_layers=False))
    merged: torch.nn.Module = other.merge_and_unload().eval()
    return merged


def _expanded(model: Any, base: Any) -> Any:
    """Return ``base`` with the dequantised values of the linear maps that the trained model stores in few bits."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    for path, module in model.named_modules():
        if isinstance(module, Linear4bit | Linear8bitLt):
            place = base.get_submodule(clean_path(path))
            found = _weight(module)
            place.weight.copy_(found.T if _transposed(place) else found)
    return base


def _weight(module: Any) -> torch.Tensor:
    """Return the matrix as (outputs, inputs) in float32, dequantised if it is stored in few bits."""
    weight = quantise.expanded(module).detach().float()
    return weight.T if _transposed(module) else weight


def _transposed(module: Any) -> bool:
    """Return whether the matrix is stored as (inputs, outputs), as by GPT-2's ``Conv1D``."""
    return type(module).__name__ == "Conv1D"


def _delta(module: Any) -> torch.Tensor:
    a, b, scale = lora.change(module, None)
    return scale * (b @ a)


def _outputs(model: Any, inputs: Inputs) -> torch.Tensor:
    """Return the logits in float32, of real tokens only."""
    logits: torch.Tensor = model(**inputs).logits.float()
    return logits[writes_at(model, inputs).bool()] if logits.dim() == 3 else logits
