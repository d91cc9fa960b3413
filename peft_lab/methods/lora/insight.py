"""What LoRA learnt: the correction of every adapted matrix, its singular values, and what merging changes.

Works on a trained ``PeftModel`` whose layers hold ``lora_A`` and ``lora_B``; torch is imported inside.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from peft_lab.models import quantise

if TYPE_CHECKING:
    import torch

GRID = 32  # cells along each side of a heat map
ADAPTER = "default"


def layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield every adapted linear map with its path in the bare model. Stacks of experts are left out: A and B hold
    as many corrections as there are experts."""
    from peft_lab.methods.counting.count import clean_path

    for name, module in model.named_modules():
        if ADAPTER in getattr(module, "lora_A", {}) and not hasattr(module, "parameter_name"):
            yield clean_path(name), module


def gradients(model: torch.nn.Module) -> dict[str, dict[str, float]]:
    """Return the norms of the current gradients of A and B; at step 0 A's is zero because B is (section 4.1)."""
    rows = {}
    for path, module in layers(model):
        a, b = module.lora_A[ADAPTER].weight.grad, module.lora_B[ADAPTER].weight.grad
        if a is not None and b is not None:
            rows[path] = {"A": float(a.float().norm()), "B": float(b.float().norm())}
    return rows


def singular_values(a: torch.Tensor, b: torch.Tensor, scale: float) -> list[float]:
    """Return the singular values of ``scale * b @ a``, by two thin QR factorisations.

    Args:
        a: (r, d_in). b: (d_out, r).

    Returns:
        min(r, d_in, d_out) values, descending. No d_out x d_in matrix is decomposed.
    """
    import torch

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
    import math

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
    import torch

    if not bool(b.any()):
        return torch.zeros(min(size, b.shape[0]), min(size, a.shape[1]), device=b.device)
    left, tall = _grams(b.float(), size)
    right, wide = _grams(a.float().T, size)
    mean = left @ right.T / (tall[:, None] * wide[None, :])
    return torch.sqrt(mean.clamp_min(0)) * abs(scale)


def _grams(matrix: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the Gram matrices (bins, r*r) of nearly equal bins of a d x r matrix's rows, and each bin's row count."""
    import torch

    parts = torch.tensor_split(matrix, min(size, matrix.shape[0]))
    grams = torch.stack([(part.T @ part).flatten() for part in parts])
    return grams, torch.tensor([float(len(part)) for part in parts], device=matrix.device)


Factors = tuple["torch.Tensor", "torch.Tensor"]


def start_factors(model: torch.nn.Module) -> dict[str, Factors]:
    """Return float32 copies of A and B of every matrix whose correction is not zero before training (PiSSA's)."""
    kept = {}
    for path, module in layers(model):
        a, b = (matrix[ADAPTER].weight.detach().float() for matrix in (module.lora_A, module.lora_B))
        if bool(b.any()):
            kept[path] = (a.clone(), b.clone())
    return kept


def change(module: Any, start: Factors | None) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return A, B and scale whose product training added to W: BA, less the BA it started from (PiSSA).

    A has the shape (r, d_in), B (d_out, r).
    """
    import torch

    a, b = (matrix[ADAPTER].weight.detach().float() for matrix in (module.lora_A, module.lora_B))
    if start is not None:
        a, b = torch.cat([a, start[0]]), torch.cat([b, -start[1]], dim=1)
    return a, b, float(module.scaling[ADAPTER])


def corrections(model: torch.nn.Module, starts: Mapping[str, Factors] | None = None) -> list[dict[str, Any]]:
    """Return for every adapted matrix: norms of ΔW and pretrained W, their ratio, singular values, effective rank."""
    import torch

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
    """Return the frozen matrix of an adapted module in float32, dequantised if it is stored in few bits.

    Of the module's own shape, (d_out, d_in) for most.
    """
    return quantise.expanded(module.get_base_layer()).detach().float()


def merge_check(
    model: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
) -> list[dict[str, Any]]:
    """Compare, for each dtype, the outputs with the adapter beside the weights with those after merging it.

    ``inputs``: ids and mask of shape (rows, length).

    Works on copies: the given model is not changed.

    Returns:
        one row per dtype: largest absolute difference of the logits after merging, the logits' own largest magnitude,
        their ratio; and after unmerging: largest difference, and the share of W's entries that differ from their
        original values.
    """
    import torch

    rows = []
    for name in dtypes:
        tried: Any = copy.deepcopy(model).to(getattr(torch, name)).eval()
        kept = {path: module.get_base_layer().weight.detach().clone() for path, module in layers(tried)}
        with torch.no_grad():
            before = tried(**inputs).logits.float()
            tried.merge_adapter()
            merged = tried(**inputs).logits.float()
            tried.unmerge_adapter()
            back = tried(**inputs).logits.float()
        magnitude = float(before.abs().max())
        difference = float((merged - before).abs().max())
        entries = sum(weight.numel() for weight in kept.values())
        changed = sum(
            int((module.get_base_layer().weight != kept[path]).sum()) for path, module in layers(tried)
        )
        rows.append(
            {
                "dtype": name,
                "max_difference": difference,
                "max_logit": magnitude,
                "relative": difference / magnitude
                if magnitude
                else difference,  # for a model whose logits are all zero
                "unmerged_difference": float((back - before).abs().max()),
                "changed_share": changed / entries,
            }
        )
    return rows
