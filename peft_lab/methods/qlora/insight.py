"""Ways of merging a QLoRA, each against the model that was trained: the adapter beside a base in four bits.

The adapter was trained through the rounded weights. Merging it into the weights before they were rounded, or rounding
the sum once more, gives another model than the one that was trained; only the rounded weights, expanded, give the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from peft_lab.methods.lora import insight as lora
from peft_lab.models import quantise
from peft_lab.training.batches import writes_at

if TYPE_CHECKING:
    import torch

Inputs = Mapping[str, "torch.Tensor"]


def merges(model: Any, inputs: Inputs, fresh_base: Callable[[], torch.nn.Module]) -> list[dict[str, Any]]:
    """Every way of merging.

    Args:
        model: the trained model, in evaluation mode; left as it is.
        fresh_base: makes the base in its own precision, before it was rounded.

    Returns:
        rows of ``way``, ``outputs``: the distance of the outputs from the trained model's over the distance between
        the trained model and its base (0: the same, 1: off by as much as training changed), and ``weights``: the same
        of the adapted matrices, over the norm of the correction. A way that fails has its ``problem`` instead.
    """
    import torch

    with torch.no_grad():
        trained = _outputs(model, inputs)
        with model.disable_adapter():
            effect = float((_outputs(model, inputs) - trained).norm())
        expanded = {path: lora.base_weight(module) for path, module in lora.layers(model)}
        wanted = {path: expanded[path] + _delta(module) for path, module in lora.layers(model)}
        correction = sum(float((wanted[path] - expanded[path]).norm()) ** 2 for path in wanted) ** 0.5
        rows: list[dict[str, Any]] = []
        for way, make in ways(model, inputs, fresh_base):
            try:
                merged = make()
            except (RuntimeError, ValueError) as error:  # repacking fails on some shapes
                rows.append({"way": way, "problem": str(error)})
                continue
            moved = {path: _weight(merged.get_submodule(path)) for path in wanted}
            lost = sum(float((moved[path] - wanted[path]).norm()) ** 2 for path in wanted) ** 0.5
            apart = float((_outputs(merged, inputs) - trained).norm())
            rows.append({"way": way, "outputs": apart / effect, "weights": lost / correction})
            del merged, moved
        return rows


def rounding(model: Any, inputs: Inputs, fresh_base: Callable[[], torch.nn.Module]) -> dict[str, Any]:
    """What storing the base in few bits does to what it says, before any adapter.

    Returns:
        ``bits``: of a stored weight. ``outputs``: norm of the difference between the outputs of the rounded base and
        those of the base in its own precision, over the norm of the latter (0: none); ``training``: the same for the
        rounded base with and without the adapter, over the same norm.
    """
    import torch

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


def ways(
    model: Any, inputs: Inputs, fresh_base: Callable[[], torch.nn.Module]
) -> Iterator[tuple[str, Callable[[], torch.nn.Module]]]:
    """Every way of merging by name, with what makes the merged model; arguments as :func:`merges`."""
    yield "expanded", lambda: _into(_expanded(model, fresh_base()), model)
    yield "fresh", lambda: _into(fresh_base(), model)
    yield "rounded again", lambda: copy.deepcopy(model).merge_and_unload()
    if _repacks() and _bits(model) == 4:
        yield "repacked", lambda: _evaluated(copy.deepcopy(model), inputs).merge_and_unload()


def moved(model: Any, fresh_base: Callable[[], torch.nn.Module]) -> tuple[float, float]:
    """How large the correction is, and how far rounding moved the adapted matrices; both over the weights' norm.

    ``model``: trained, its adapter beside a base in few bits. ``fresh_base``: as :func:`merges`.
    """
    base = fresh_base()
    corrections, roundings, weights = 0.0, 0.0, 0.0
    for path, module in lora.layers(model):
        weight = _weight(base.get_submodule(path))
        corrections += float(_delta(module).norm()) ** 2
        roundings += float((lora.base_weight(module) - weight).norm()) ** 2
        weights += float(weight.norm()) ** 2
    return (corrections / weights) ** 0.5, (roundings / weights) ** 0.5


def _bits(model: Any) -> int:
    """In how many bits the base stores its linear maps."""
    return 8 if getattr(model, "is_loaded_in_8bit", False) else 4


def _repacks() -> bool:
    """Whether bitsandbytes repacks four-bit weights on this processor when they are first used in an evaluation."""
    from bitsandbytes.functional import has_avx512bf16

    return bool(has_avx512bf16())


def _evaluated(model: Any, inputs: Inputs) -> Any:
    """The model after an evaluation as bitsandbytes does it when it is left alone."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = True
    model(**inputs)
    return model


def _into(base: Any, model: Any) -> torch.nn.Module:
    """The trained adapter, put beside ``base`` and merged into it."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config = copy.deepcopy(model.peft_config[lora.ADAPTER])
    config.inference_mode = True
    other: Any = get_peft_model(base, config)
    set_peft_model_state_dict(other, get_peft_model_state_dict(model, save_embedding_layers=False))
    merged: torch.nn.Module = other.merge_and_unload().eval()
    return merged


def _expanded(model: Any, base: Any) -> Any:
    """``base`` with the linear maps that the trained model stores in few bits, as they come back."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    from peft_lab.models.module_tree import clean_path

    for path, module in model.named_modules():
        if isinstance(module, Linear4bit | Linear8bitLt):
            place = base.get_submodule(clean_path(path))
            found = _weight(module)
            place.weight.copy_(found.T if _transposed(place) else found)
    return base


def _weight(module: Any) -> torch.Tensor:
    """(outputs, inputs) in float32, expanded where it is stored in few bits."""
    weight = quantise.expanded(module).detach().float()
    return weight.T if _transposed(module) else weight


def _transposed(module: Any) -> bool:
    """GPT-2's ``Conv1D`` stores (inputs, outputs)."""
    return type(module).__name__ == "Conv1D"


def _delta(module: Any) -> torch.Tensor:
    a, b, scale = lora.change(module, None)
    return scale * (b @ a)


def _outputs(model: Any, inputs: Inputs) -> torch.Tensor:
    """Logits, of real tokens alone, in float32."""
    logits: torch.Tensor = model(**inputs).logits.float()
    return logits[writes_at(model, inputs).bool()] if logits.dim() == 3 else logits
