"""What LoRA learnt: the correction of every adapted matrix, its singular values, and whether merging changes anything.

Works on a trained ``PeftModel`` whose layers hold ``lora_A`` and ``lora_B``; torch is imported inside.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

GRID = 48
ADAPTER = "default"


def layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Every adapted module with its path in the bare model."""
    from peft_lab.counting import clean_path

    for name, module in model.named_modules():
        if ADAPTER in getattr(module, "lora_A", {}):
            yield clean_path(name), module


def gradients(model: torch.nn.Module) -> dict[str, dict[str, float]]:
    """Norms of the gradients that A and B hold right now: at step 0 that of A is zero because B is (section 4.1)."""
    rows = {}
    for path, module in layers(model):
        a, b = module.lora_A[ADAPTER].weight.grad, module.lora_B[ADAPTER].weight.grad
        if a is not None and b is not None:
            rows[path] = {"A": float(a.float().norm()), "B": float(b.float().norm())}
    return rows


def singular_values(a: torch.Tensor, b: torch.Tensor, scale: float) -> list[float]:
    """Singular values of ``scale * b @ a`` through two thin QR factorisations.

    Args:
        a: (r, d_in). b: (d_out, r).

    Returns:
        min(r, d_in, d_out) values, falling. No d_out x d_in matrix is decomposed.
    """
    import torch

    right = torch.linalg.qr(a.float().T).R
    left = torch.linalg.qr(b.float()).R
    values: list[float] = (torch.linalg.svdvals(left @ right.T) * abs(scale)).tolist()
    return values


def effective_rank(values: list[float]) -> float:
    """exp of the entropy of the normalised singular values (Roy and Vetterli 2007): r when all are equal, 1
    when one rules."""
    import math

    total = sum(values)
    shares = [value / total for value in values if value > 0] if total > 0 else []
    return math.exp(-sum(share * math.log(share) for share in shares)) if shares else 0.0


def grid(delta: torch.Tensor, size: int = GRID) -> list[list[float]]:
    """``delta`` shrunk to at most size x size cells; each keeps the entry of its patch that is largest in magnitude."""
    import torch

    rows, columns = (min(size, n) for n in delta.shape)
    flat = delta.float()[None, None]
    high = torch.nn.functional.adaptive_max_pool2d(flat, (rows, columns))[0, 0]
    low = -torch.nn.functional.adaptive_max_pool2d(-flat, (rows, columns))[0, 0]
    strongest = torch.where(high.abs() >= low.abs(), high, low)
    cells: list[list[float]] = [[float(f"{value:.3g}") for value in row] for row in strongest.tolist()]
    return cells


def corrections(model: torch.nn.Module) -> list[dict[str, Any]]:
    """For every adapted matrix: norms of ΔW and W, their ratio, singular values, effective rank and a heat map
    of ΔW."""
    import torch

    rows = []
    with torch.no_grad():
        for path, module in layers(model):
            a, b = module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight
            scale = float(module.scaling[ADAPTER])
            values = singular_values(a, b, scale)
            delta = scale * (b.float() @ a.float())
            weight = base_weight(module)
            norm, base = float(delta.norm()), float(weight.norm())
            rows.append(
                {
                    "module": path,
                    "shape": list(delta.shape),
                    "rank": int(a.shape[0]),
                    "scale": scale,
                    "norm": norm,
                    "base_norm": base,
                    "ratio": norm / base if base else 0.0,
                    "singular_values": values,
                    "effective_rank": effective_rank(values),
                    "grid": grid(delta),
                }
            )
    return rows


def base_weight(module: Any) -> torch.Tensor:
    """The frozen matrix of an adapted module in float32, expanded when it is stored in four bits."""
    from peft.utils.integrations import dequantize_module_weight

    weight: torch.Tensor = dequantize_module_weight(module.get_base_layer())
    return weight.detach().float()


def merge_check(
    model: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
) -> list[dict[str, Any]]:
    """Outputs with the adapter beside the weights against outputs with it merged into them, for each dtype.

    Works on copies: the given model is left as it is.

    Returns:
        one row per dtype: largest absolute difference of the logits, the logits' own largest magnitude, their ratio.
    """
    import torch

    rows = []
    for name in dtypes:
        dtype = getattr(torch, name)
        unmerged = copy.deepcopy(model).to(dtype).eval()
        with torch.no_grad():
            before = unmerged(**inputs).logits.float()
            merged = unmerged.merge_and_unload()  # type: ignore[operator]
            after = merged.eval()(**inputs).logits.float()
        difference, magnitude = float((after - before).abs().max()), float(before.abs().max())
        relative = difference / magnitude
        rows.append(
            {"dtype": name, "max_difference": difference, "max_logit": magnitude, "relative": relative}
        )
    return rows
