"""Run the kernels of a given device on tensors that are on no device: attention, its scratch memory, workspaces.

A simulation runs on tensors of torch's meta device, for which an operation that picks its kernel by device would pick a
generic one. :func:`attention` makes ``scaled_dot_product_attention`` take the path of
``aten/src/ATen/native/transformers/attention.cpp`` for the simulated device instead, with the same kernels (which
have fake implementations), and :func:`scratch` gives the buffers that they take from the allocator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from peft_lab.core.content import read_entries
from peft_lab.core.errors import Replacement
from peft_lab.core.later import torch

if TYPE_CHECKING:
    from peft_lab.engine.work import Op

#: mem-efficient attention needs the mask's rows aligned to this many elements (preprocess_mask, mem_eff_alignment)
_MASK_ALIGNMENT = 8
#: flash attention pads the head to a multiple of this (pad_last_dim in the flash branch)
_HEAD_ALIGNMENT = 8
#: the widest head that flash attention takes; it takes 16-bit types only, mem-efficient 16 and 32 bits (sdp_utils.cpp)
_FLASH_MAX_HEAD = 256
#: both backwards accumulate dQ in float32 over query rows rounded up to a block of this many
_QUERY_BLOCK = 128

USUAL = (8, 9)
#: Bytes of a workspace where PyTorch takes another than the usual: Hopper, and AMD's MI300X (gfx942) as ROCm names it.
WORKSPACES = {(9, 0): 32 * 2**20, (9, 4): 128 * 2**20}

#: Functions of libraries that simulations replace, by name.
REPLACED = {one.name: one for one in read_entries(Path(__file__).with_name("replacements.yaml"), Replacement)}
ATTENTION = REPLACED["attention"]
DROPOUT = REPLACED["dropout"]


def cublas_workspace(capability: tuple[int, int]) -> int:
    """Return the bytes of one cuBLAS workspace (one per thread and stream; cuBLASLt shares it):
    ``parseChosenWorkspaceSize`` in ``aten/src/ATen/cuda/CublasHandlePool.cpp``, ``:4096:2:16:8`` KiB, 32 MiB on
    Hopper, 128 MiB on gfx94x; since torch 2.7 ``TORCH_CUBLASLT_UNIFIED_WORKSPACE`` is on by default."""
    return WORKSPACES.get(capability, 4096 * 1024 * 2 + 16 * 1024 * 8)


def stands_for(capability: tuple[int, int]) -> tuple[int, int]:
    """Return the capability that represents all with equal workspaces, the only memory it affects."""
    return capability if capability in WORKSPACES else USUAL


def attention(device: str) -> AbstractContextManager[None]:
    """Return a context in which attention runs the kernel that ``cuda`` or ``cpu`` would choose. The function is
    replaced for the whole process: a function mode would be off while a checkpoint recomputes a layer inside
    backward."""
    return ATTENTION.by(_cuda_attention if device == "cuda" else _cpu_attention)


def dropout(device: str) -> AbstractContextManager[None]:
    """Return a context in which dropout keeps for the backward pass what it does on ``cuda`` or ``cpu``."""
    return DROPOUT.by(_cuda_dropout if device == "cuda" else DROPOUT.original())


def _cuda_dropout(
    input: torch.Tensor,  # noqa: A002  torch's name
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> torch.Tensor:
    """Run the fused kernel, which keeps a mask of one byte per number (``native_dropout_cuda`` in
    ``aten/src/ATen/native/cuda/Dropout.cu``; taken by ``is_fused_kernel_acceptable`` in ``native/Dropout.cpp``)."""
    if inplace or not training or not 0 < p < 1:
        return (torch.dropout_ if inplace else torch.dropout)(input, p, training)

    class Dropout(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, hidden: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(torch.empty_like(hidden, dtype=torch.bool))
            return hidden.clone()

        @staticmethod
        def backward(ctx: Any, outer: torch.Tensor) -> torch.Tensor:
            return outer * ctx.saved_tensors[0]

    return Dropout.apply(input)  # type: ignore[no-untyped-call]


def _same_types(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
    """Return torch's operations. Raise RuntimeError for mixed types as attention.cpp does (``validate_sdpa_input``):
    fake kernels accept them."""
    if not query.dtype == key.dtype == value.dtype:
        types = " and ".join(str(x.dtype).removeprefix("torch.") for x in (query, key, value))
        raise RuntimeError(f"attention takes query, key and value of one type and was given {types}")
    return torch.ops.aten


def _cuda_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Run flash without a mask, mem-efficient with one, the plain formula if neither takes the inputs.

    The order is that of ``priority_order`` in ``aten/src/ATen/native/transformers/cuda/sdp_utils.cpp``.
    """
    aten = _same_types(query, key, value)
    half = query.dtype in (torch.float16, torch.bfloat16)
    rank4 = query.dim() == key.dim() == value.dim() == 4
    head = query.shape[-1]
    if rank4 and half and attn_mask is None and head == value.shape[-1] and head <= _FLASH_MAX_HEAD:
        missing = -head % _HEAD_ALIGNMENT
        pad = torch.nn.functional.pad
        padded = [pad(x, (0, missing)) if missing else x for x in (query, key, value)]
        out = aten._scaled_dot_product_flash_attention(
            *padded, dropout_p, is_causal, False, scale=head**-0.5 if scale is None else scale
        )[0]
        return out[..., :head] if missing else out
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
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Run the kernel that this processor's torch chooses for small tensors with values."""
    aten = _same_types(query, key, value)
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


@cache
def _cpu_is_flash(
    shapes: tuple[tuple[int, ...], ...],
    masked: tuple[tuple[int, ...], bool] | None,
    dtype: torch.dtype,
    dropout: float,
    causal: bool,
    grouped: bool,
) -> bool:
    """Return whether ``torch._fused_sdp_choice`` picks flash on the CPU; it depends on which sizes are equal only."""
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


def _bias(mask: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Return the mask as ``preprocess_mask`` makes it: additive, rows aligned, expanded over the heads."""
    mask = _additive(mask, query)
    aligned = all(stride % _MASK_ALIGNMENT == 0 for stride in mask.stride()[:-1]) and mask.stride(-1) == 1
    if not aligned:
        columns = mask.shape[-1]
        mask = torch.nn.functional.pad(mask, (0, _MASK_ALIGNMENT - columns % _MASK_ALIGNMENT))[..., :columns]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


def _additive(mask: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Return the mask as additive, as ``convert_boolean_attn_mask`` does."""
    if mask.dtype != torch.bool:
        return mask
    return torch.where(mask, 0.0, torch.scalar_tensor(float("-inf"), dtype=query.dtype))


def scratch() -> dict[Any, Any]:
    """Return, by operation, functions for the bytes that CUDA's attention backwards take while they run.

    mem-efficient: ``Params::workspace_size`` in ``mem_eff_attention/kernel_backward.h`` (dQ accumulates in float32
    since keys are split) and ``delta`` in ``attention_backward.cu``. flash: ``dq_accum`` and ``softmax_d`` in
    ``flash_attn/flash_api.cpp`` (mha_bwd), and with grouped queries dK and dV for every query head.
    """

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


# ----------------------------------------
# A cache of what operations return, by the shapes of their inputs.
#
# On the meta device many operations run in Python, and a step repeats most of them layer after layer. Only
# operations that neither change nor return one of their inputs are cached, and their results are created anew each
# time. This halves the time of a simulation (bench/RESULTS.md). The work of an operation
# (:mod:`peft_lab.engine.work`) follows from the same shapes and is cached beside it.


_KEPT = 50_000  # operations; the cache is cleared when it is full


class Known:
    """A cached operation. ``make``: creates its result. ``op``: its work, once noted."""

    __slots__ = ("make", "op")

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.op: Op | None = None


_known_shapes: dict[Any, Known] = {}


class _Unknown(Exception):
    """Raised for inputs that their shapes do not identify."""


def carry_out_known(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Known | None]:
    """Return ``func(*args, **kwargs)``, from the cache if possible, and its cache entry (None if it is not cached).

    A kernel that changes lists of tensors in place runs once for each set of shapes: without values it has no effect
    but its checks, whatever the numbers among its arguments.
    """
    pure, lists = _is_pure(func)
    if not pure and not lists:
        return func(*args, **kwargs), None
    try:
        key = (func, _key(args, pure), _key(tuple(kwargs.items()), pure) if kwargs else ())
        known = _known_shapes.get(key)
    except (_Unknown, TypeError):
        return func(*args, **kwargs), None
    if known is not None:
        return known.make(), known if pure else None
    result = func(*args, **kwargs)
    # Some return an input although their schema denies it (_unsafe_view); for the same shapes they always do.
    make = None
    if not pure or not _places(result) & _places((args, tuple(kwargs.values()))):
        make = _maker(result)
    if make is None:
        return result, None
    if len(_known_shapes) >= _KEPT:
        _known_shapes.clear()
    found = _known_shapes[key] = Known(make)
    return result, found if pure else None


@cache
def _is_pure(func: Any) -> tuple[bool, bool]:
    """Return whether an operation, by its schema, only reads its inputs and returns something new, and whether it
    changes tensors in lists and returns nothing."""
    schema, name = func._schema, func.__name__.partition(".")[0]
    reads = not any(each.alias_info is not None for each in (*schema.arguments, *schema.returns))
    lists = name.startswith("_foreach_") and name.endswith("_") and not schema.returns
    return bool(schema.returns) and reads, lists


def _key(value: Any, numbers: bool = True) -> Any:
    """Return a cache key of a value: tensors by shape, strides, type and offset, all else by type and value.
    ``numbers``: False keys numbers by their type alone. Raises _Unknown for other kinds of tensors."""
    if isinstance(value, torch.Tensor):
        if (type(value) is not torch.Tensor and type(value) is not torch.nn.Parameter) or not value.is_meta:
            raise _Unknown
        return value.shape, value.stride(), value.dtype, value.storage_offset()
    if isinstance(value, tuple | list):
        return tuple([_key(each, numbers) for each in value])
    return (type(value), value) if numbers or not isinstance(value, int | float) else type(value)


def _maker(result: Any) -> Callable[[], Any] | None:
    """Return a function that computes the same result again; ``None`` if it might differ."""
    if result is None:
        return lambda: None
    if isinstance(result, torch.Tensor):
        if type(result) is not torch.Tensor or not result.is_meta or result.storage_offset():
            return None
        size, stride, dtype = result.shape, result.stride(), result.dtype

        def make() -> torch.Tensor:
            return torch.empty_strided(size, stride, dtype=dtype, device="meta")

        return make if make().untyped_storage().nbytes() == result.untyped_storage().nbytes() else None
    if isinstance(result, tuple | list):
        makers = [_maker(each) for each in result]
        if any(maker is None for maker in makers) or len(_places(result)) < len(makers):
            return None
        kind = type(result)
        return lambda: kind(maker() for maker in makers if maker is not None)
    return None


def _places(value: Any) -> set[int]:
    """Return the identifiers of the storages of all tensors in a value."""
    if isinstance(value, torch.Tensor):
        return {value.untyped_storage()._cdata}
    if isinstance(value, tuple | list):
        return {place for each in value for place in _places(each)}
    return set()


# ----------------------------------------
# Sparse matrices in a simulation: fake tensors have none, so dense operations that take the same memory replace them.
#
# A coordinate matrix holds its indices in 64 bits and its values; adding it to a dense matrix or making it dense
# allocates one dense result, and the gradient of its values is gathered from the dense gradient, as in
# ``aten/src/ATen/native/sparse/cuda/SparseCUDATensorMath.cu`` and ``sparse_constructor_values_backward``.


SPARSE_MATRIX = REPLACED["sparse matrix"]
SPARSE_PRODUCT = REPLACED["sparse product"]


class Coordinates:
    """Stand-in for the result of ``torch.sparse_coo_tensor``, with what SHiRA and FRoD use of it."""

    def __init__(self, indices: torch.Tensor, values: torch.Tensor, size: Sequence[int]) -> None:
        self.indices = indices.to(torch.int64)
        self.values = values
        self.shape = tuple(size)

    def _nnz(self) -> int:
        return self.values.shape[0]

    def to_dense(self) -> torch.Tensor:
        """Return the whole tensor, of the shape given at the start, with zeros elsewhere."""
        return torch.zeros(self.shape, dtype=self.values.dtype) + self

    def coalesce(self) -> Coordinates:
        """Return a copy of the indices (dimensions, entries) and the values (entries)."""
        return Coordinates(self.indices.clone(), self.values.clone(), self.shape)

    def __radd__(self, dense: torch.Tensor) -> torch.Tensor:
        return dense.index_put(
            (self.indices[0], self.indices[1]), self.values.to(dense.dtype), accumulate=True
        )


@contextmanager
def sparse_as_dense() -> Iterator[None]:
    """Replace ``torch.sparse_coo_tensor`` and ``torch.sparse.mm`` by their stand-ins."""

    def build(indices: Any, values: Any, size: Any, **_: Any) -> Coordinates:
        return Coordinates(indices, values, size)

    def multiply(left: Coordinates, right: torch.Tensor) -> torch.Tensor:
        rows = torch.zeros(left.shape[0], right.shape[1], dtype=right.dtype)
        return rows.index_add(0, left.indices[0], right[left.indices[1]] * left.values[:, None])

    with SPARSE_MATRIX.by(build), SPARSE_PRODUCT.by(multiply):
        yield


# ----------------------------------------
# torch's cross entropy in chunks (:mod:`peft_lab.training.optimizers`), made visible to a simulation.
#
# torch hides its loop in one operation, whose implementation without values creates the results but no intermediate
# buffers. Here the loop itself runs, with the buffers and kernels that the simulated device would use.


LOOP = REPLACED["chunked loop"]
BUFFERS = REPLACED["chunk buffers"]
SIZES = REPLACED["chunk sizes"]


@contextmanager
def chunks_visible(device: str) -> Iterator[None]:
    """Run the chunked loss as a loop while steps are simulated on ``device``, ``cuda`` or ``cpu``. Raises PeftLabError:
    the installed torch has no such loss."""
    from torch.nn.modules import linear_cross_entropy as own

    build: Any = BUFFERS.original()
    accumulate: Any = own._linear_cross_entropy_batch_chunked_accumulator
    adjust: Any = SIZES.original()

    class Named(str):
        """Where tensors without values are created, under the name of the device that it represents."""

        type = device

    class Loop(torch.autograd.Function):
        setup_context = staticmethod(own._linear_cross_entropy_batch_chunked_setup_context)
        backward = staticmethod(own._linear_cross_entropy_batch_chunked_backward)

        @staticmethod
        def forward(*args: Any) -> Any:
            *inputs, _, of_input, of_weight, of_bias = args
            return accumulate(*inputs, of_input, of_weight, of_bias)

    def built(tensor: Any, *args: Any, **options: Any) -> Any:
        read = SimpleNamespace(shape=tensor.shape, dtype=tensor.dtype, device=Named("meta"))
        context = build(read, *args, **options)
        context.input = tensor
        return context

    def sized(options: Any, *args: Any, **more: Any) -> Any:
        return adjust(options, *args, **{**more, "device": torch.device(device)})

    with LOOP.by(Loop.apply), BUFFERS.by(built), SIZES.by(sized):
        yield
