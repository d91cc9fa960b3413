"""Small pictures of tensors: a few hundred cells in eight bits. Torch is imported inside."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

THIN, LONG, SQUARE = (
    16,
    24,
    20,
)  # cells along a rank or a list of tokens, along a width, along each side of ΔW
SEEN = 1024  # rows and columns of a ΔW that its picture is taken of


def picture(tensor: torch.Tensor, rows: int, columns: int) -> dict[str, Any]:
    """A matrix (or one vector, as a row) as at most ``rows`` x ``columns`` cells.

    Returns:
        ``shape``, ``scale`` and ``data`` as :mod:`peft_lab.trajectory.format` says.
    """
    import torch

    matrix = torch.atleast_2d(tensor.detach().float()).cpu()
    height, width = min(rows, matrix.shape[0]), min(columns, matrix.shape[1])
    pool = torch.nn.functional.adaptive_max_pool2d
    high = pool(matrix[None], (height, width))[0]
    low = -pool(-matrix[None], (height, width))[0]
    cells = torch.where(high.abs() >= low.abs(), high, low)
    scale = float(cells.abs().max())
    whole = (cells * (127 / scale)).round() if scale > 0 else torch.zeros_like(cells)
    data = base64.b64encode(whole.to(torch.int8).numpy().tobytes()).decode("ascii")
    return {"shape": [height, width], "scale": float(f"{scale:.4g}"), "data": data}


def product(a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """``scale * b @ a`` at no more than ``SEEN`` evenly spaced rows and columns.

    Args:
        a: (r, d_in). b: (d_out, r).

    Returns:
        (min(SEEN, d_out), min(SEEN, d_in)) in float32.
    """
    rows = b.detach().float()[:: -(-len(b) // SEEN)]
    columns = a.detach().float()[:, :: -(-a.shape[1] // SEEN)]
    return scale * (rows @ columns)
