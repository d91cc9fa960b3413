"""What a device would run where the tensors are on none: attention kernels, their scratch, workspaces.

A simulation runs on tensors of torch's meta device, so an operation that picks its kernel by device would pick a
general one. :func:`attention` makes ``scaled_dot_product_attention`` take the path of
``aten/src/ATen/native/transformers/attention.cpp`` for the device in question instead, with the same kernels (which
have fake implementations), and :func:`scratch` states the buffers that they take from the allocator.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

from peft_lab.replacing import Replacement

if TYPE_CHECKING:
    import torch

#: mem-efficient attention wants the mask's rows aligned to this many elements (preprocess_mask, mem_eff_alignment)
_MASK_ALIGNMENT = 8
#: flash attention pads the head to a multiple of this (pad_last_dim in the flash branch)
_HEAD_ALIGNMENT = 8
#: flash and mem-efficient attention take 16-bit types only / 16 and 32 bit (sdp_utils.cpp, check_dtypes)
_FLASH_MAX_HEAD = 256
#: both backwards accumulate dQ in float32 over query rows rounded up to a block of this many
_QUERY_BLOCK = 128

HOPPER, USUAL = (9, 0), (8, 9)

ATTENTION = Replacement(
    "attention",
    "torch.nn.functional",
    "scaled_dot_product_attention",
    "For tensors that are on no device torch takes the plain formula, which keeps the scores in memory.",
)


def cublas_workspace(capability: tuple[int, int]) -> int:
    """Bytes of one cuBLAS workspace (one per thread and stream; cuBLASLt shares it).

    ``parseChosenWorkspaceSize`` in ``aten/src/ATen/cuda/CublasHandlePool.cpp``: ``:4096:2:16:8`` KiB, and 32 MiB
    on Hopper; since torch 2.7 ``TORCH_CUBLASLT_UNIFIED_WORKSPACE`` is on by default.

    >>> cublas_workspace((9, 0)) // 2**20
    32
    """
    if capability == HOPPER:
        return 4096 * 8 * 1024
    return 4096 * 1024 * 2 + 16 * 1024 * 8


def stands_for(capability: tuple[int, int]) -> tuple[int, int]:
    """The compute capability whose steps take the same memory: nothing but the workspace is told by it.

    >>> stands_for((7, 5)), stands_for((9, 0))
    ((8, 9), (9, 0))
    """
    return HOPPER if capability == HOPPER else USUAL


def attention(device: str) -> AbstractContextManager[None]:
    """A context in which attention runs the kernel that ``cuda`` or ``cpu`` would choose.

    The function is replaced for everyone in this process: a torch function mode would be off while a checkpoint
    recomputes a layer inside backward. Simulations run in a process of their own.
    """
    return ATTENTION.by(_cuda_attention if device == "cuda" else _cpu_attention)


def _cuda_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Flash without a mask, mem-efficient with one, the plain formula where neither takes the inputs.

    The order is that of ``priority_order`` in ``aten/src/ATen/native/transformers/cuda/sdp_utils.cpp``.
    """
    import torch

    _check_types(query, key, value)
    aten = torch.ops.aten
    half = query.dtype in (torch.float16, torch.bfloat16)
    rank4 = query.dim() == key.dim() == value.dim() == 4
    same_head = query.shape[-1] == value.shape[-1]
    if rank4 and half and attn_mask is None and same_head and query.shape[-1] <= _FLASH_MAX_HEAD:
        head = query.shape[-1]
        padded = [_pad_head(x) for x in (query, key, value)]
        out = aten._scaled_dot_product_flash_attention(
            *padded, dropout_p, is_causal, False, scale=head**-0.5 if scale is None else scale
        )[0]
        return out[..., :head] if padded[0].shape[-1] != head else out
    if rank4 and not enable_gqa and query.dtype != torch.float64:
        bias = None if attn_mask is None else _bias(attn_mask, query, key)
        grad = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
        return aten._scaled_dot_product_efficient_attention(
            query, key, value, bias, grad, dropout_p, is_causal, scale=scale
        )[0]
    return aten._scaled_dot_product_attention_math(
        query, key, value, attn_mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
    )[0]


def _cpu_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """What this processor's torch chooses, asked with small tensors that have values."""
    import torch

    _check_types(query, key, value)
    aten = torch.ops.aten
    mask = None if attn_mask is None else _additive(attn_mask, query)
    shapes = tuple(tuple(x.shape) for x in (query, key, value))
    masked = None if mask is None else (tuple(mask.shape), mask.requires_grad)
    if _cpu_is_flash(shapes, masked, query.dtype, dropout_p, is_causal, enable_gqa):
        return aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, dropout_p, is_causal, attn_mask=mask, scale=scale
        )[0]
    return aten._scaled_dot_product_attention_math(
        query, key, value, mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
    )[0]


def _check_types(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
    """Raises RuntimeError as attention.cpp does (``validate_sdpa_input``): the fake kernels take anything."""
    if not query.dtype == key.dtype == value.dtype:
        types = " and ".join(str(x.dtype).removeprefix("torch.") for x in (query, key, value))
        raise RuntimeError(f"attention takes query, key and value of one type and was given {types}")


@cache
def _cpu_is_flash(
    shapes: tuple[tuple[int, ...], ...],
    masked: tuple[tuple[int, ...], bool] | None,
    dtype: torch.dtype,
    dropout: float,
    causal: bool,
    grouped: bool,
) -> bool:
    """``torch._fused_sdp_choice`` on the CPU: it looks at which sizes are equal, not at how large they are."""
    import torch
    from torch.nn.attention import SDPBackend

    if any(len(shape) != 4 for shape in shapes):
        return False
    sizes = sorted({size for shape in shapes for size in (shape[0], shape[2])} - {0, 1})
    small = {size: 2 + place for place, size in enumerate(sizes)} | {0: 0, 1: 1}
    inputs = [(small[rows], heads, small[length], width) for rows, heads, length, width in shapes]
    mask = None
    if masked is not None:
        *outer, length, width = masked[0]
        outer = [small[size] if place == 0 else size for place, size in enumerate(outer)]
        mask = torch.empty(
            (*outer, small[length], small[width]), dtype=dtype, device="cpu", requires_grad=masked[1]
        )
    query, key, value = (torch.empty(shape, dtype=dtype, device="cpu") for shape in inputs)
    choice = torch._fused_sdp_choice(query, key, value, mask, dropout, causal, scale=None, enable_gqa=grouped)
    return bool(choice == SDPBackend.FLASH_ATTENTION.value)


def _pad_head(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    missing = -tensor.shape[-1] % _HEAD_ALIGNMENT
    return torch.nn.functional.pad(tensor, (0, missing)) if missing else tensor


def _bias(mask: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """preprocess_mask: additive, rows aligned, expanded over the heads."""
    import torch

    mask = _additive(mask, query)
    aligned = all(stride % _MASK_ALIGNMENT == 0 for stride in mask.stride()[:-1]) and mask.stride(-1) == 1
    if not aligned:
        columns = mask.shape[-1]
        mask = torch.nn.functional.pad(mask, (0, _MASK_ALIGNMENT - columns % _MASK_ALIGNMENT))[..., :columns]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


def _additive(mask: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """convert_boolean_attn_mask"""
    import torch

    if mask.dtype != torch.bool:
        return mask
    return torch.where(mask, 0.0, torch.scalar_tensor(float("-inf"), dtype=query.dtype))


def scratch() -> dict[Any, Any]:
    """Bytes that CUDA's attention backwards take from the allocator while they run.

    mem-efficient: ``Params::workspace_size`` in ``mem_eff_attention/kernel_backward.h`` (dQ accumulates in float32
    since keys are split) and ``delta`` in ``attention_backward.cu``. flash: ``dq_accum`` and ``softmax_d`` in
    ``flash_attn/flash_api.cpp`` (mha_bwd), and with grouped queries dK and dV for every query head.
    """
    import torch

    def rows(query: torch.Tensor) -> int:
        return -(-query.shape[-2] // _QUERY_BLOCK) * _QUERY_BLOCK

    def efficient(grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, *_: Any, **__: Any) -> int:
        heads = query.shape[0] * query.shape[1]
        return heads * rows(query) * (query.shape[-1] + 1) * 4

    def flash(grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, *_: Any, **__: Any) -> int:
        heads = query.shape[0] * query.shape[1]
        total = heads * rows(query) * (-(-query.shape[-1] // 32) * 32 + 1) * 4
        if key.shape[1] != query.shape[1]:
            total += 2 * heads * key.shape[-2] * key.shape[-1] * key.element_size()
        return total

    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_efficient_attention_backward.default: efficient,
        aten._scaled_dot_product_flash_attention_backward.default: flash,
    }
