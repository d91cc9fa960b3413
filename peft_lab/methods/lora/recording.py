"""Record a LoRA run: the gradients of A and B at step 0, how every ΔW grows, and what merging changes.

Works on a ``PeftModel`` whose layers hold ``lora_A`` and ``lora_B``; torch is imported inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods.recording.recorder import (
    ADAPTER,
    LONG,
    SQUARE,
    THIN,
    FreshBase,
    Inputs,
    Recorder,
    Watched,
    WatchedFromStart,
    merge_check,
    product_picture,
    slot_of,
    tensor_picture,
    trained_modules,
)
from peft_lab.models import quantise
from peft_lab.models.meta import clean_path
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import numpy as np

GRID = 32  # cells along each side of a heat map


def layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield every adapted linear map with its path in the bare model. Stacks of experts are left out: A and B hold
    as many corrections as there are experts."""
    for name, module in model.named_modules():
        if ADAPTER in getattr(module, "lora_A", {}) and not hasattr(module, "parameter_name"):
            yield clean_path(name), module


def singular_values(a: torch.Tensor, b: torch.Tensor, scale: float) -> list[float]:
    """Return the singular values of ``scale * b @ a``, by two thin QR factorisations.

    Args:
        a: (r, d_in). b: (d_out, r).

    Returns:
        min(r, d_in, d_out) values, descending. No d_out x d_in matrix is decomposed.
    """
    if not bool(b.any()):  # before the first step, so as not to delay it
        return [0.0] * min(*a.shape, b.shape[0])
    right = torch.linalg.qr(a.float().T).R
    left = torch.linalg.qr(b.float()).R
    values: list[float] = (torch.linalg.svdvals(left @ right.T) * abs(scale)).tolist()
    return values


def effective_rank(values: list[float]) -> float:
    """Return exp of the entropy of the normalised singular values (Roy and Vetterli 2007): r if all are equal, 1
    if a single one dominates.

    >>> effective_rank([1.0, 1.0, 0.0]), effective_rank([5.0, 0.0, 0.0])
    (2.0, 1.0)
    """
    total = sum(values)
    shares = [value / total for value in values if value > 0] if total > 0 else []
    return math.exp(-sum(share * math.log(share) for share in shares)) if shares else 0.0


def grid(a: torch.Tensor, b: torch.Tensor, scale: float, size: int = GRID) -> torch.Tensor:
    """Return ``scale * b @ a`` as at most size x size cells, each the root mean square of its entries.

    A cell's sum of squares is the inner product of two r x r Gram matrices, of its rows of b and its columns of a, so
    no d_out x d_in matrix is made.

    Returns:
        (min(size, d_out), min(size, d_in)) in float32.
    """
    if not bool(b.any()):
        return torch.zeros(min(size, b.shape[0]), min(size, a.shape[1]), device=b.device)
    left, tall = _grams(b.float(), size)
    right, wide = _grams(a.float().T, size)
    mean = left @ right.T / (tall[:, None] * wide[None, :])
    return torch.sqrt(mean.clamp_min(0)) * abs(scale)


def _grams(matrix: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the Gram matrices (bins, r*r) of nearly equal bins of a d x r matrix's rows, and each bin's row count."""
    parts = torch.tensor_split(matrix, min(size, matrix.shape[0]))
    grams = torch.stack([(part.T @ part).flatten() for part in parts])
    return grams, torch.tensor([float(len(part)) for part in parts], device=matrix.device)


Factors = tuple["torch.Tensor", "torch.Tensor"]


def change(module: Any, start: Factors | None) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return A, B and scale whose product training added to W: BA, less the BA it started from (PiSSA). A has the shape
    (r, d_in), B (d_out, r)."""
    a, b = (matrix[ADAPTER].weight.detach().float() for matrix in (module.lora_A, module.lora_B))
    if start is not None:
        a, b = torch.cat([a, start[0]]), torch.cat([b, -start[1]], dim=1)
    return a, b, float(module.scaling[ADAPTER])


def corrections(model: torch.nn.Module, starts: Mapping[str, Factors] | None = None) -> list[dict[str, Any]]:
    """Return for every adapted matrix: norms of ΔW and pretrained W, their ratio, singular values, effective rank."""
    rows = []
    with torch.no_grad():
        for path, module in layers(model):
            start = (starts or {}).get(path)
            a, b, scale = change(module, start)
            values = singular_values(a, b, scale)
            weight = base_weight(module)
            if start is not None:
                moved = scale * (start[1] @ start[0])
                weight = weight + (moved.T if weight.shape != moved.shape else moved)
            norm, base = sum(value**2 for value in values) ** 0.5, float(weight.norm())
            rows.append(
                {
                    "module": path,
                    "shape": [int(b.shape[0]), int(a.shape[1])],
                    "rank": int(module.r[ADAPTER]),
                    "scale": scale,
                    "norm": norm,
                    "base_norm": base,
                    "ratio": norm / base if base else 0.0,
                    "singular_values": values,
                    "effective_rank": effective_rank(values),
                }
            )
    return rows


def base_weight(module: Any) -> torch.Tensor:
    """Return the frozen matrix of an adapted module in float32, dequantised if it is stored in few bits. Of the
    module's own shape, (d_out, d_in) for most."""
    return quantise.expanded(module.get_base_layer()).detach().float()


class LowRank(Watched):
    """One matrix with its A and B. With DoRA ``change`` and ``spectrum`` are those of BA alone."""

    kind = "low_rank"

    def __init__(self, path: str, slot: str, module: Any, start: Factors | None) -> None:
        a, b, _ = change(module, None)
        own = [p for name, p in module.named_parameters() if "lora_" in name and p.requires_grad]
        super().__init__(path, slot, (b.shape[0], a.shape[1]), own, int(module.r[ADAPTER]))
        self._module, self._begun = module, start
        self._dora = ADAPTER in (getattr(module, "lora_magnitude_vector", None) or {})
        self._weight: float | None = None

    def listen(self) -> Sequence[Any]:
        frozen: list[torch.Tensor] = []

        def keep(_: Any, args: Any, output: torch.Tensor) -> None:
            frozen.append(output.float())

        def compare(_: Any, args: tuple[Any, ...], output: torch.Tensor) -> None:
            base = frozen[-1]
            if self._dora:
                added = output.float() - base
            else:
                a, b, scale = change(self._module, None)
                added = scale * (args[0].float() @ a.T @ b.T)
            self.share = float(added.norm() / base.norm())

        return (
            self._module.get_base_layer().register_forward_hook(keep),
            self._module.register_forward_hook(compare),
        )

    def change(self) -> float:
        return self.changed()[0]

    def changed(self) -> tuple[float, list[float]]:
        values = self.spectrum()
        size = math.hypot(*values)
        if not size:  # before the first step, so the norm of W is not needed
            return 0.0, values
        if self._weight is None:
            self._weight = float(base_weight(self._module).norm())
        return size / self._weight, values

    def spectrum(self) -> list[float]:
        return singular_values(*change(self._module, self._begun))

    def tensors(self) -> dict[str, dict[str, Any]]:
        a, b, _ = change(self._module, None)
        moved = product_picture(*change(self._module, self._begun))
        return {
            "A": tensor_picture(a, THIN, LONG),
            "B": tensor_picture(b, LONG, THIN),
            "ΔW": tensor_picture(moved, SQUARE, SQUARE),
        }


class RunRecorder(Recorder):
    """Record the first gradients of A and B and the growth of every ΔW, and test merging at the end."""

    sees = True

    def __init__(self, model: torch.nn.Module, shape: ModelShape, values: Values) -> None:
        super().__init__(model, shape, values)
        self._gradients: dict[str, Any] = {}
        self._growth: list[dict[str, Any]] = []
        self._grids: list[list[torch.Tensor]] = []
        #: Float32 copies of A and B of every matrix whose correction is not zero before training (PiSSA's).
        self._starts: dict[str, Factors] = {}
        for path, module in layers(model):
            a, b, _ = change(module, None)
            if bool(b.any()):
                self._starts[path] = (a.clone(), b.clone())

    def watched(self) -> Sequence[Watched]:
        """Return every adapted matrix, and whatever else trains beside them (biases)."""
        found: list[Watched] = [
            LowRank(path, slot_of(path, self.shape), module, self._starts.get(path))
            for path, module in layers(self.model)
        ]
        known = {id(parameter) for part in found for parameter in part.trained}
        for path, slot, sides, own in trained_modules(self.model, self.shape):
            rest = [parameter for parameter in own if id(parameter) not in known]
            if rest:
                found.append(WatchedFromStart(path, slot, sides, rest))
        return found

    def after_backward(self, step: int) -> None:
        if step:
            return
        for path, module in layers(self.model):  # A's gradient is zero because B is (section 4.1)
            a, b = module.lora_A[ADAPTER].weight.grad, module.lora_B[ADAPTER].weight.grad
            if a is not None and b is not None:
                self._gradients[path] = {"A": float(a.float().norm()), "B": float(b.float().norm())}

    def snapshot(self, step: int) -> None:
        """Record every ΔW's singular values, their norm and effective rank, and a heat map, without forming ΔW."""
        singular, grids = {}, []
        with torch.no_grad():
            for path, module in layers(self.model):
                factors = change(module, self._starts.get(path))
                singular[path] = [float(f"{value:.4g}") for value in singular_values(*factors)]
                grids.append(grid(*factors))
        norms = {path: sum(value**2 for value in values) ** 0.5 for path, values in singular.items()}
        ranks = {path: effective_rank(values) for path, values in singular.items()}
        row = {"step": step, "norms": norms, "singular_values": singular, "effective_ranks": ranks}
        self._growth.append(row)
        self._grids.append(grids)

    def finish(self, inputs: Inputs, fresh_base: FreshBase) -> dict[str, Any]:
        largest = max(float(cells.max()) for grids in self._grids for cells in grids) or 1.0
        return {
            "step0_gradients": self._gradients,
            "growth": self._growth,
            "corrections": corrections(self.model, self._starts),
            "grids": self._stacked(largest),
            "largest_cell": largest,
            "merge": self._merge(inputs),
        }

    def _stacked(self, largest: float) -> np.ndarray[Any, Any]:
        """Return (snapshots, modules, GRID, GRID) in float16 as shares of the largest cell; NaN pads small matrices."""
        shape = (len(self._grids), len(self._grids[0]), GRID, GRID)
        stacked = torch.full(shape, float("nan"))
        for time, grids in enumerate(self._grids):
            for number, cells in enumerate(grids):
                stacked[time, number, : cells.shape[0], : cells.shape[1]] = cells / largest
        stored: np.ndarray[Any, Any] = stacked.half().numpy()
        return stored

    def _merge(self, inputs: Inputs) -> list[dict[str, Any]]:
        return merge_check(self.model, inputs, layers)
