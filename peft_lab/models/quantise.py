"""Store a frozen base in 4 or 8 bits: every linear map but the output layer becomes bitsandbytes' ``Linear4bit`` or
``Linear8bitLt``.

transformers does this while loading; here a model already in memory is converted, map by map, so that a run, a test and
a reload share one way. GPT-2's ``Conv1D`` stores its matrix transposed, so it is transposed first, as in transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from peft_lab.core.later import torch
from peft_lab.models.shapes import MATRIX_TYPES, ModelShape, ModuleGroup, in_head


@dataclass(frozen=True)
class Quantization:
    """How the frozen base is stored. ``bits`` 4 or 8; ``kind`` nf4, fp4 or int8."""

    bits: int
    kind: Literal["nf4", "fp4", "int8"]
    double: bool
    compute_dtype: str


#: Eight bits: 255 even steps and one scale per row (Dettmers et al. 2022, arXiv 2208.07339, section 3).
INT8 = Quantization(8, "int8", False, "float16")
#: Inputs above this magnitude are multiplied unrounded; the value of the paper and of ``llm_int8_threshold``.
OUTLIERS = 6.0
_OUTPUTS = ("lm_head", "cls.predictions.decoder")
# T5's feed-forward part checks the type of this map's weight and fails if it is packed; transformers skips it too.
_KEPT: Mapping[str, tuple[str, ...]] = {"t5": ("wo",), "mt5": ("wo",), "umt5": ("wo",)}


def quantised(shape: ModelShape) -> tuple[ModuleGroup, ...]:
    """Return the linear maps to store in few bits: all but the output layer and those an architecture needs whole.

    As in transformers, subclasses of ``Linear`` stay (Falcon's, Llama 4's router): replacing the class loses what it
    does beyond multiplying. Stacked experts are not linear maps and stay too.
    """
    kept = kept_whole(shape.model_type)
    return tuple(
        group
        for group in shape.matrices
        if group.type in MATRIX_TYPES and group.path.rpartition(".")[2] not in kept
    )


def kept_whole(model_type: str) -> tuple[str, ...]:
    """Return the last path segments of linear maps that an architecture needs unquantised, output layers aside."""
    return _KEPT.get(model_type, ())


def needs_quantising(model: torch.nn.Module) -> bool:
    """Return False for models already quantised, and for meta and fake ones, which have no values."""
    from torch._subclasses.fake_tensor import FakeTensor

    first = next(model.parameters())
    stored = any(getattr(model, f"is_loaded_in_{bits}bit", False) for bits in (4, 8))
    return not (stored or first.is_meta or isinstance(first, FakeTensor))


def quantise(model: Any, how: Quantization) -> None:
    """Replace the linear maps in place and mark the model as transformers does, so that PEFT treats it as quantised."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kept = kept_whole(model.config.model_type)
    paths = [
        path
        for path, module in model.named_modules()
        if (type(module) is nn.Linear or isinstance(module, Conv1D))
        and path not in _OUTPUTS
        and path.rpartition(".")[2] not in kept
        and not in_head(path)
    ]
    for path in paths:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, _stored(model.get_submodule(path), how))
    setattr(model, f"is_loaded_in_{how.bits}bit", True)
    model.is_quantized = True
    model.config.quantization_config = settings(how)
    model.quantization_method = model.config.quantization_config.quant_method
    settle(model)


def settle(model: Any) -> None:
    """Keep bitsandbytes from changing a 4-bit model while it is used, whoever quantised it.

    The first forward pass would cast every bias to the compute type; here it is done at once. On CPUs with AVX512-BF16
    the first evaluation would repack the weights permanently, which rounds the block constants, fails on some shapes,
    makes a later merge wrong, and blocks gradients when training resumes; so it is switched off.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
            if module.bias is not None and module.compute_dtype is not None:
                module.bias.data = module.bias.data.to(module.compute_dtype)


def settings(how: Quantization, skipped: Sequence[str] | None = None) -> Any:
    """Return the choice as transformers' ``BitsAndBytesConfig``. ``skipped``: modules that stay whole."""
    from transformers import BitsAndBytesConfig

    if how.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=how.kind,
        bnb_4bit_use_double_quant=how.double,
        bnb_4bit_compute_dtype=getattr(torch, how.compute_dtype),
        llm_int8_skip_modules=skipped,
    )


def read_back(model: torch.nn.Module) -> Quantization | None:
    """Return how a model is quantised, from the note transformers leaves on its config; ``None`` if it is not."""
    noted = getattr(model.config, "quantization_config", None)
    if noted is None:
        return None
    values = noted if isinstance(noted, dict) else noted.to_dict()
    if values.get("load_in_8bit"):
        return INT8
    return Quantization(
        bits=4,
        kind=values["bnb_4bit_quant_type"],
        double=values["bnb_4bit_use_double_quant"],
        compute_dtype=str(values["bnb_4bit_compute_dtype"]).removeprefix("torch."),
    )


def expanded(module: Any) -> torch.Tensor:
    """Return a linear map's matrix, dequantised if stored in few bits, in the module's own layout.

    Of shape (d_out, d_in), transposed where the module stores it so (GPT-2).
    PEFT's ``dequantize_module_weight`` moves an 8-bit matrix on a CPU, which loses its scales after first use.
    """
    from peft.utils.integrations import dequantize_bnb_weight

    weight: torch.Tensor = module.weight
    if type(weight).__name__ not in ("Params4bit", "Int8Params"):
        return weight
    rebuilt: torch.Tensor = dequantize_bnb_weight(module.weight, state=getattr(module, "state", None))
    return rebuilt


def _stored(old: Any, how: Quantization) -> torch.nn.Module:
    """Return a linear map with its weights in few bits, keeping bias and training mode."""
    from bitsandbytes.nn.modules import Int8Params, Linear4bit, Linear8bitLt, Params4bit
    from torch import nn

    matrix = old.weight.data if isinstance(old, nn.Linear) else old.weight.data.T.contiguous()
    outputs, inputs = matrix.shape
    new: Any
    packed: Any
    with torch.device("meta"):
        if how.bits == 8:
            whole: dict[str, Any] = {"has_fp16_weights": False, "threshold": OUTLIERS}
            new = Linear8bitLt(inputs, outputs, bias=old.bias is not None, **whole)
        else:
            few: dict[str, Any] = {"compress_statistics": how.double, "quant_type": how.kind}
            computed = getattr(torch, how.compute_dtype)
            new = Linear4bit(inputs, outputs, bias=old.bias is not None, compute_dtype=computed, **few)
    if how.bits == 8:
        packed = Int8Params(matrix, requires_grad=False, has_fp16_weights=False)
    else:
        packed = Params4bit(matrix, requires_grad=False, module=new, **few)
    new.weight = packed.to(matrix.device)
    if old.bias is not None:
        new.bias = nn.Parameter(old.bias.data, requires_grad=False)
    new.train(old.training)
    return cast(nn.Module, new)
