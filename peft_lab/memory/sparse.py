"""Sparse matrices in a simulation: fake tensors have none, so dense operations of the same memory stand in.

A coordinate matrix holds its indices in 64 bits and its values; adding it to a dense matrix or making it dense
costs one dense result, and the gradient of its values is gathered from the dense gradient, as in
``aten/src/ATen/native/sparse/cuda/SparseCUDATensorMath.cu`` and ``sparse_constructor_values_backward``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peft_lab.replacing import Replacement

if TYPE_CHECKING:
    import torch

SPARSE_MATRIX = Replacement(
    "sparse matrix",
    "torch",
    "sparse_coo_tensor",
    "Tensors without values have no coalesce and no dense sum in torch's sparse layout.",
)
SPARSE_PRODUCT = Replacement(
    "sparse product", "torch.sparse", "mm", "It takes torch's own sparse matrices only, not their stand-in."
)


class Coordinates:
    """What code asks of ``torch.sparse_coo_tensor``'s result in SHiRA and FRoD."""

    def __init__(self, indices: torch.Tensor, values: torch.Tensor, size: Sequence[int]) -> None:
        import torch

        self.indices = indices.to(torch.int64)
        self.values = values
        self.shape = tuple(size)

    def _nnz(self) -> int:
        return self.values.shape[0]

    def coalesce(self) -> Coordinates:
        """A copy of indices (dimensions, entries) and values (entries)."""
        return Coordinates(self.indices.clone(), self.values.clone(), self.shape)

    def to_dense(self) -> torch.Tensor:
        """The whole tensor, of the shape that was asked for, with zeros elsewhere."""
        import torch

        return torch.zeros(self.shape, dtype=self.values.dtype) + self

    def __radd__(self, dense: torch.Tensor) -> torch.Tensor:
        return dense.index_put(
            (self.indices[0], self.indices[1]), self.values.to(dense.dtype), accumulate=True
        )


@contextmanager
def sparse_as_dense() -> Iterator[None]:
    """``torch.sparse_coo_tensor`` and ``torch.sparse.mm`` by their stand-ins."""
    import torch

    def build(indices: Any, values: Any, size: Any, **_: Any) -> Coordinates:
        return Coordinates(indices, values, size)

    def multiply(left: Coordinates, right: torch.Tensor) -> torch.Tensor:
        rows = torch.zeros(left.shape[0], right.shape[1], dtype=right.dtype)
        return rows.index_add(0, left.indices[0], right[left.indices[1]] * left.values[:, None])

    with SPARSE_MATRIX.by(build), SPARSE_PRODUCT.by(multiply):
        yield
