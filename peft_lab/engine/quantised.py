"""4-bit and 8-bit base models in a simulation: the packed sizes, and bitsandbytes' own forward and backward.

bitsandbytes' parameter class rejects tensors without values, so a linear layer gets a plain packed parameter and a
quantisation state of such tensors; the operations are the library's (they have fake implementations).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from peft_lab.models.quantise import kept_whole
from peft_lab.models.shapes import in_head

if TYPE_CHECKING:
    import torch

BLOCK = 64  # weights per constant (bitsandbytes quantize_4bit, blocksize)
NESTED_BLOCK = 256  # constants per constant of the second level (quantize_blockwise in quantize_4bit)
_CODE_4BIT = 16
_CODE_8BIT = 256
#: Output heads stay in 16 bits (transformers' get_keys_to_not_convert)
_KEPT = ("lm_head", "score", "classifier", "embed_out")
#: Rows up to which the fused 4-bit kernel always runs on large matrices; above, the matrix is dequantised first
#: (_gemm_4bit_use_custom_cuda in bitsandbytes/backends/cuda/ops.py).
_FUSED_ROWS = 512


def quantise_meta(
    model: torch.nn.Module,
    bits: int,
    kind: str = "nf4",
    double: bool = True,
    compute: torch.dtype | None = None,
) -> None:
    """Replace the linear layers of a meta model by quantised ones, with packed sizes.

    4-bit layers compute in ``compute`` (None: the precision of their weights). Output heads stay whole, and so do
    the layers that an architecture needs whole. The model is marked ``is_loaded_in_4bit`` or ``is_loaded_in_8bit``,
    which PEFT reads.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    config: Any = model.config
    kept = (*_KEPT, *kept_whole(config.model_type))
    for name, module in list(model.named_modules()):
        for child_name, child in list(module.named_children()):
            path = f"{name}.{child_name}" if name else child_name
            whole = path.rpartition(".")[2] in kept or in_head(path)
            plain = type(child) is torch.nn.Linear or isinstance(child, Conv1D)
            if plain and not whole:
                setattr(module, child_name, _quantised(child, bits, kind, double, compute))
    setattr(model, f"is_loaded_in_{bits}bit", True)
    model.is_quantized = True  # type: ignore[assignment]
    model.quantization_method = "bitsandbytes"  # type: ignore[assignment]


def _quantised(
    linear: Any, bits: int, kind: str, double: bool, compute: torch.dtype | None
) -> torch.nn.Module:
    import torch

    # GPT-2's Conv1D stores its matrix transposed.
    sizes = (
        tuple(linear.weight.shape)
        if isinstance(linear, torch.nn.Linear)
        else tuple(linear.weight.shape)[::-1]
    )
    (out_features, in_features), dtype = sizes, linear.weight.dtype
    bias = linear.bias is not None
    new: Any
    with torch.device("meta"):
        if bits == 4:
            new = _four_bit_class()(
                in_features,
                out_features,
                bias,
                compute_dtype=compute or dtype,
                compress_statistics=double,
                quant_type=kind,
            )
            packed = torch.empty(-(-out_features * in_features // 2), 1, dtype=torch.uint8)
        else:
            new = _eight_bit_class()(in_features, out_features, bias, has_fp16_weights=False)
            packed = torch.empty(out_features, in_features, dtype=torch.int8)
        new.weight = torch.nn.Parameter(packed, requires_grad=False)
    weight = new.weight
    if bits == 4:
        weight.compress_statistics, weight.quant_type = double, kind
        weight.quant_state = None
        weight.blocksize = BLOCK
        weight.quant_storage = torch.uint8
        weight.bnb_quantized = True
    if bias:
        new.bias = linear.bias
        if bits == 4 and compute is not None:
            # The first forward pass casts it permanently.
            new.bias.data = new.bias.data.to(compute)
    new.sim_dtype = dtype
    return new


def make_states(model: torch.nn.Module) -> set[int]:
    """Give each quantised layer its constants; call this on a fake device.

    Returns the storages (``_cdata``) of the constants; each layer lists its own in ``sim_constants``.
    """
    import torch
    from bitsandbytes.functional import QuantState
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    made: list[torch.Tensor] = []
    storages: set[int] = set()

    def new(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        made.append(torch.empty(shape, dtype=dtype))
        return made[-1]

    for module in model.modules():
        if isinstance(module, Linear4bit):
            blocks = -(-module.out_features * module.in_features // BLOCK)
            weight: Any = module.weight
            common = {
                "shape": torch.Size((module.out_features, module.in_features)),
                "dtype": module.sim_dtype,
                "blocksize": BLOCK,
                "quant_type": weight.quant_type,
                "code": new(_CODE_4BIT, dtype=torch.float32),
            }
            if weight.compress_statistics:
                inner = QuantState(
                    absmax=new(-(-blocks // NESTED_BLOCK), dtype=torch.float32),
                    code=new(_CODE_8BIT, dtype=torch.float32),
                    blocksize=NESTED_BLOCK,
                    dtype=torch.float32,
                )
                state = QuantState(
                    absmax=new(blocks, dtype=torch.uint8),
                    offset=new(dtype=torch.float32),
                    state2=inner,
                    **common,
                )
            else:
                state = QuantState(absmax=new(blocks, dtype=torch.float32), **common)
            module.sim_state = state  # type: ignore[assignment]
            weight.quant_state = state
        elif isinstance(module, Linear8bitLt):
            module.state.CB = module.weight
            module.state.SCB = new(module.out_features, dtype=torch.float32)
            module.state.threshold = 0.0
            module.state.has_fp16_weights = False
        if made:
            module.sim_constants = list(made)  # type: ignore[assignment]
            storages.update(tensor.untyped_storage()._cdata for tensor in made)
            made.clear()
    return storages


def scratch() -> dict[Any, Any]:
    """Return the bytes of the matrix that 4-bit multiplication rebuilds on CUDA for many rows (its gemm_4bit)."""
    import torch

    def gemm(inputs: torch.Tensor, packed: torch.Tensor, shape: Any, *_: Any, **__: Any) -> int:
        rows = inputs.numel() // inputs.shape[-1]
        size: int = shape[0] * shape[1] * inputs.element_size()
        return size if rows > _FUSED_ROWS else 0

    return {torch.ops.bitsandbytes.gemm_4bit.default: gemm}


@cache  # one class for all layers, so that lookups by class are cached
def _four_bit_class() -> Any:
    from bitsandbytes.autograd._functions import MatMul4Bit
    from bitsandbytes.nn.modules import Linear4bit

    class SimulatedLinear4bit(Linear4bit):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            given = x.dtype
            x = x.to(self.compute_dtype)
            bias = None if self.bias is None else self.bias.to(self.compute_dtype)
            out: torch.Tensor = MatMul4Bit.apply(x, self.weight, None, bias, self.sim_state)
            return out.to(given)

    return SimulatedLinear4bit


@cache
def _eight_bit_class() -> Any:
    from bitsandbytes.autograd import _functions
    from bitsandbytes.autograd._functions import MatMul8bitLt
    from bitsandbytes.nn.modules import Linear8bitLt

    # It logs at every multiplication that it works in float16.
    _functions.logger.setLevel("ERROR")

    class SimulatedLinear8bitLt(Linear8bitLt):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = MatMul8bitLt.apply(x, self.weight, None, self.bias, self.state)
            return out

    return SimulatedLinear8bitLt
