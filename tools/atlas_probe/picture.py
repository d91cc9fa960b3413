"""ΔW of a small instance: the adapted map less the base's, read off what it does to the unit vectors."""

from __future__ import annotations

from typing import Any

from peft_lab.atlas import get_entry
from tools.atlas_probe import held as held_models

LEVELS = "jihgfedcba0ABCDEFGHIJ"  # -10 to 10 tenths of the largest entry
ALIKE = 1e-4
#: Smaller settings than the usual ones, so that the form shows on so small a matrix: by field, and by type.
SMALL: dict[str, Any] = {"r": 4, "init_r": 4, "lora_alpha": 8, "n_frequency": 40, "oft_block_size": 16}
SMALL_OF: dict[str, dict[str, Any]] = {
    "OFT": {"r": 0}, "VERA": {"r": 8}, "PVERA": {"r": 8}, "RANDLORA": {"r": 8}, "GRALORA": {"r": 8}, "MISS": {"r": 8},
    "SHIRA": {"r": 2}, "TINYLORA": {"r": 2}, "OSF": {"effective_rank": 0.9}, "C3A": {"block_size": 16},
    "ADAMSS": {"r": 16, "num_subspaces": 4}, "SUPERTUNING": {"sparsity": 0.95}, "LOKR": {"r": 2},
}  # fmt: skip


def run(name: str) -> dict[str, Any]:
    """Side, rank, share of zeros, symmetry, and the entries as letters of :data:`LEVELS`, row by row (out, in)."""
    try:
        return _measure(name)
    except Exception as error:  # noqa: BLE001  whatever PEFT raises is the answer
        if "not compiled with CUDA" in str(error):
            return {"why": "It needs a CUDA device to start, which the probe had not."}
        return {"why": " ".join(str(error).split())[:300] or type(error).__name__}


def _measure(name: str) -> dict[str, Any]:
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    entry = get_entry(name)
    own = {knob.name for knob in entry.knobs} | set(entry.of_model) | set(entry.settings)
    small = {field: value for field, value in SMALL.items() if field in own} | SMALL_OF.get(entry.type, {})
    held = held_models.hold(entry, **small)
    found = [
        module
        for path, module in held.model.named_modules()
        if isinstance(module, BaseTunerLayer) and isinstance(module.get_base_layer(), torch.nn.Linear)
        and path.endswith(("q_proj", "v_proj", "down_proj"))
    ]  # fmt: skip
    if not found:
        return {"why": "It leaves the matrices as they are: there is no ΔW."}
    layer: Any = found[0]
    side = layer.get_base_layer().in_features
    unit = torch.eye(side)[None]
    zero = torch.zeros(1, 1, side)

    def change(x: torch.Tensor) -> torch.Tensor:
        more: dict[str, Any] = {"alora_offsets": [x.shape[1]]} if name == "alora" else {}
        if entry.type == "POLY":
            more["task_ids"] = torch.zeros(1, dtype=torch.long)
        with torch.no_grad():
            result: torch.Tensor = layer(x, **more) - layer.get_base_layer()(x)
        return result

    held.logits()  # what routes by the input has to have seen one
    shift = change(zero)[0, 0]
    delta = (change(unit)[0] - shift).T
    twice = change(2 * unit + unit.roll(1, 1))[0] - shift
    linear = torch.allclose(
        twice.T, 2 * delta + delta.roll(1, 1), atol=1e-4 * float(delta.abs().max()) + 1e-7
    )
    largest = float(delta.abs().max())
    if largest < 1e-5 * float(layer.get_base_layer().weight.abs().max()):
        return {"why": "ΔW is zero: it moves the bias only.", "bias": bool(shift.abs().max() > 0)}
    values = torch.linalg.svdvals(delta.double())
    scaled = (delta / largest * 10).round().int()
    square = delta.shape[0] == delta.shape[1]
    return {
        "settings": small,
        "rows": delta.shape[0],
        "columns": delta.shape[1],
        "rank": int((values > ALIKE * values[0]).sum()),
        "zeros": round(float((delta.abs() < 1e-6 * largest).float().mean()), 4),
        "asymmetry": round(float((delta - delta.T).norm() / (2 * delta.norm())), 4) if square else None,
        "linear": linear,
        "bias": bool(shift.abs().max() > 1e-6),
        "of_weight": round(float(delta.norm() / layer.get_base_layer().weight.norm()), 4),
        "singular": [round(float(value / values[0]), 4) for value in values[:64]],
        "entries": "".join(LEVELS[int(each) + 10] for each in scaled.flatten()),
    }
