"""Describe the work of each operation of a traced step: the kind of kernel, its arithmetic, its bytes.

A trace's storages give the memory of a step (:mod:`peft_lab.engine.account`), this its work; how long that takes on a
device is computed by :mod:`peft_lab.engine.timing`. Operations of equal kind and size are counted, stretch by stretch,
so that a step is a few hundred numbers whatever its depth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import log2, prod
from pathlib import Path
from typing import Any

from peft_lab.core.content import read_entry
from peft_lab.core.later import torch


@dataclass(frozen=True)
class _Operations:
    """What ``operations.yaml`` states: the kinds with their descriptions, and torch's names by what they do."""

    kinds: Mapping[str, str]
    no_kernel: frozenset[str]
    gathers: frozenset[str]
    scatters: frozenset[str]
    out_of_place: frozenset[str]
    products: frozenset[str]
    factors: tuple[str, ...]
    copies: frozenset[str]
    writes_only: frozenset[str]


_STATED = read_entry(Path(__file__).with_name("operations.yaml"), _Operations, {frozenset[str]: frozenset})
#: Kinds of operations, each with its description.
KINDS = _STATED.kinds


@dataclass(frozen=True, slots=True)
class Op:
    """An operation: its ``kind`` (:data:`KINDS`), multiplications and additions, bytes read and written (each operand
    once), and the ``size`` of a product (batch, rows, columns, inner) or a decomposition (batch, columns in
    sequence)."""

    kind: str
    flops: int
    nbytes: int
    size: tuple[int, ...] = ()


#: An operation that runs no kernel.
NOTHING = Op("view", 0, 0)


@dataclass
class Stretch:
    """Consecutive operations of one phase and one layer (None: outside the layers), repeated ``times`` in a row."""

    phase: str
    layer: int | None
    ops: Counter[Op] = field(default_factory=Counter)
    times: int = 1


#: Phases of a training step that do work.
_OF_A_STEP = frozenset(["forward", "backward", "optimizer"])
#: Sweeps of Jacobi's method over all columns ("six to ten": Golub and Van Loan, Matrix Computations).
_SWEEPS = 8


def operations(
    func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any
) -> Iterable[tuple[Op, Any]]:
    """Yield an operation's work and the tensor whose layer each part belongs to (None: the current layer). A kernel
    over a list of tensors is one ``view`` (the cost of launching it) and an ``each`` for every tensor."""
    if is_over_lists(func, args):
        yield NOTHING, None
        yield from _each(_name(func), args, kwargs, result)
    else:
        yield operation(func, args, kwargs, result), None


def is_over_lists(func: Any, args: Sequence[Any]) -> bool:
    """Return whether an operation is one kernel over lists of tensors."""
    return bool(args) and isinstance(args[0], (list, tuple)) and _name(func).startswith("_f")


def operation(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Op:
    """Return the work of an operation that is not over lists."""
    name = _name(func)
    view = name in _STATED.no_kernel or func.is_view
    return NOTHING if view else _single(func, name, args, kwargs, result)


@cache
def _name(func: Any) -> str:
    name: str = func.__name__
    return name.partition(".")[0]


def _each(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Iterable[tuple[Op, Any]]:
    """Yield the parts of a kernel over lists: per place, the bytes read in all lists and the bytes written."""
    lists = [a for a in (*args, *kwargs.values()) if isinstance(a, (list, tuple)) and a and _is_tensor(a[0])]
    made = result if isinstance(result, (list, tuple)) else []
    for place, tensor in enumerate(lists[0]):
        parts = [each[place] for each in lists if place < len(each)]
        read = sum(map(bytes_of, parts))
        if name.startswith("_fused"):
            written = sum(bytes_of(each) for each in parts) - bytes_of(parts[1])  # all but the gradient
        else:
            written = bytes_of(made[place]) if place < len(made) else bytes_of(tensor)
        yield Op("each", 0, read + written), tensor


def _single(func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Op:
    read = list(_tensors((*args, *kwargs.values())))
    written = list(_tensors(result))
    moved = sum(map(bytes_of, read)) + sum(map(bytes_of, written))
    if name in _STATED.products:
        left, right = (args[1], args[2]) if name in ("addmm", "baddbmm") else (args[0], args[1])
        batch = left.shape[0] if left.dim() == 3 else 1
        size = (batch, left.shape[-2], right.shape[-1], left.shape[-1])
        # A bias is a vector broadcast over the rows; bytes_of counts it once.
        return Op("matmul16" if left.element_size() <= 2 else "matmul32", 2 * prod(size), moved, size)
    if name == "_grouped_mm":
        return _grouped(args[0], args[1], read, written)
    if "attention" in name and ("flash" in name or "efficient" in name):
        return _attention(name, args, moved)
    if name in _STATED.copies:  # a tensor with values becomes one without: it comes from the host (fake.py)
        places = {tensor.is_meta for tensor in (*read, *written) if tensor.numel() > 1}
        if len(places) > 1:
            return Op("host", 0, max(map(bytes_of, read)))
    if name in _STATED.gathers:
        return Op("gather", 0, 2 * sum(map(bytes_of, written)))
    if name in _STATED.scatters:
        picked = sum(bytes_of(each) for each in read[1:])
        whole = 2 * bytes_of(read[0]) if name in _STATED.out_of_place else 0
        return Op("gather", 0, 2 * picked + whole)
    if name == "embedding_dense_backward":
        return Op("gather", 0, moved + sum(map(bytes_of, written)))
    if name.startswith(_STATED.factors):
        matrix = next((each for each in read if each.dim() >= 2), None)
        if matrix is not None:
            width = min(matrix.shape[-2:])
            batch = prod(matrix.shape[:-2])
            sweeps = _SWEEPS if any(part in name for part in ("svd", "eig", "pinv")) else 1
            flops = sweeps * batch * 2 * prod(matrix.shape[-2:]) * width
            return Op("factor", flops, moved, (batch, sweeps * width))
    if name.startswith("_fft"):
        count = max(each.numel() for each in (*read, *written))
        dims = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else [-1]
        width = max((each.shape[-1] for each in (*read, *written) if each.dim()), default=1)
        # Every dimension is a pass of its own over the whole.
        return Op("transform", int(5 * count * len(dims) * log2(max(2, width))), moved * len(dims))
    if func.namespace == "bitsandbytes":
        return _bitsandbytes(name, read, written, moved)
    if name in _STATED.writes_only:
        moved -= bytes_of(written[0]) if written else 0
    return Op("stream", 0, moved)


def _grouped(left: Any, right: Any, read: list[torch.Tensor], written: list[torch.Tensor]) -> Op:
    """Return the work of the experts' products as one kernel, each expert's rows by its own matrix. Experts without
    rows are not read; because routing depends on values, rows are taken to reach as many experts as they can."""
    rows, inner, out = left.shape[-2], left.shape[-1], right.shape[-1]
    batch = left.shape[0] if left.dim() == 3 else 1
    stack = right if right.dim() == 3 else written[0]  # rows come together in the gradient of a stack
    used = min(stack.shape[0], rows) if right.dim() == 3 else stack.shape[0]
    moved = sum(map(bytes_of, (*read, *written))) - bytes_of(stack) + bytes_of(stack) * used // stack.shape[0]
    size = (batch, rows, out, inner)
    return Op("matmul16" if left.element_size() <= 2 else "matmul32", 2 * prod(size), moved, size)


def _attention(name: str, args: Sequence[Any], moved: int) -> Op:
    """Return the work of attention over all pairs: two products forward, five backward (one is recomputed)."""
    query, key = (args[1], args[2]) if "backward" in name else (args[0], args[1])
    batch, heads, length, width = query.shape
    products = 5 if "backward" in name else 2
    return Op("attention", products * 2 * batch * heads * length * key.shape[-2] * width, moved)


def _bitsandbytes(name: str, read: list[torch.Tensor], written: list[torch.Tensor], moved: int) -> Op:
    if ("gemm" in name or "matmul" in name or "linear" in name) and read and written:
        inner = read[0].shape[-1]
        out = written[0]
        size = (1, out.numel() // out.shape[-1], out.shape[-1], inner)
        return Op("matmul16", 2 * prod(size), moved, size)
    return Op("dequantise", 0, moved)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "untyped_storage")


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    if _is_tensor(value):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)


def bytes_of(tensor: torch.Tensor) -> int:
    """Return the bytes that a tensor occupies in memory; broadcast dimensions count once."""
    stored = prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return stored * tensor.element_size()


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a finished step as plain data: operations and their counts, repeated ``times`` in a row."""

    phase: str
    times: int
    ops: tuple[tuple[Op, int], ...]


#: The work of a step, in order.
Work = tuple[Piece, ...]


def steps_of(stretches: Iterable[Stretch]) -> list[Work]:
    """Return the work of each step of a trace. Work before the first forward pass (an evaluation) belongs to none."""
    steps: list[list[Piece]] = []
    before = ""
    for stretch in stretches:
        if stretch.phase == "forward" and before != "forward":
            steps.append([])
        before = stretch.phase
        if steps and stretch.phase in _OF_A_STEP:
            steps[-1].append(Piece(stretch.phase, stretch.times, tuple(stretch.ops.items())))
    return [tuple(step) for step in steps]


def copied(work: Work, phases: Sequence[str] = ("forward", "backward", "optimizer")) -> int:
    """Return the bytes that a step copies to pinned main memory and back, both directions together."""
    return sum(
        op.nbytes * count * piece.times
        for piece in work
        for op, count in piece.ops
        if op.kind == "offload" and piece.phase in phases
    )


def left(work: Work) -> int:
    """Return the bytes that a step stores in main memory for its backward pass, all present when the forward ends."""
    return copied(work, ("forward",))
