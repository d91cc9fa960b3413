"""Small pictures of tensors: a few hundred cells in eight bits. Torch is imported inside."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_lab.models.meta import pattern
from peft_lab.models.module_tree import clean_path
from peft_lab.models.shapes import ModelShape, in_head

if TYPE_CHECKING:
    import torch

THIN, LONG, SQUARE = (
    16,
    24,
    20,
)  # cells along a rank or a list of tokens, along a width, along each side of ΔW
SEEN = 1024  # rows and columns sampled from a ΔW for its picture


def tensor_picture(tensor: torch.Tensor, rows: int, columns: int) -> dict[str, Any]:
    """Return a matrix (or one vector, as a row) as at most ``rows`` x ``columns`` cells.

    Returns:
        ``shape``, ``scale`` and ``data`` as defined in :mod:`peft_lab.drawing.trajectory.format`.
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


def product_picture(a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """Return ``scale * b @ a`` at no more than ``SEEN`` evenly spaced rows and columns.

    Args:
        a: (r, d_in). b: (d_out, r).

    Returns:
        (min(SEEN, d_out), min(SEEN, d_in)) in float32.
    """
    rows = b.detach().float()[:: -(-len(b) // SEEN)]
    columns = a.detach().float()[:, :: -(-a.shape[1] // SEEN)]
    return scale * (rows @ columns)


# ----------------------------------------
# One trained part of a model while it learns: its contribution, its gradient, its distance from the start.
#
# A method names its parts by ``watched(model, shape, values)`` in its ``recording``, which returns a
# :class:`Watching`; by default every module that trains is a part.


KEPT_NUMBERS = 8_000_000  # trained numbers of a model's own modules up to which a copy of the start is held


class Watched:
    """A trained part. ``path``: its module in the bare model; ``shape``: (outputs, inputs), or that of what is trained.

    Attributes:
        trained: its trained parameters.
        share: what it added to the latest forward pass, as defined in :mod:`peft_lab.drawing.trajectory.format`;
        ``None``: unknown.
    """

    kind = "trainable"

    def __init__(
        self,
        path: str,
        slot: str,
        shape: Sequence[int],
        trained: Sequence[torch.Tensor],
        rank: int | None = None,
    ) -> None:
        self.path, self.slot, self.shape, self.rank = path, slot, tuple(shape), rank
        self.trained = list(trained)
        self.share: float | None = None

    @property
    def layer(self) -> int | None:
        """The number of its layer; ``None`` outside the layers."""
        return pattern(self.path)[1]

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""
        return sum(parameter.numel() for parameter in self.trained)

    def listen(self) -> Sequence[Any]:
        """Return hooks that record ``share`` in the next forward pass; the caller removes them."""
        return ()

    def gradient(self) -> float | None:
        """Return the norm of its parameters' current gradients; ``None`` if there are none."""
        found = [parameter.grad for parameter in self.trained if parameter.grad is not None]
        return math.hypot(*(float(each.float().norm()) for each in found)) if found else None

    def change(self) -> float | None:
        """Return its distance from its start, relative to the size of what it acts on."""
        return None

    def spectrum(self) -> list[float]:
        """Return the singular values of ΔW, descending."""
        return []

    def changed(self) -> tuple[float | None, list[float]]:
        """Return :meth:`change` and :meth:`spectrum`; a part may derive one from the other."""
        return self.change(), self.spectrum()

    def tensors(self) -> dict[str, dict[str, Any]]:
        """Return pictures of its tensors, by name."""
        return {}


class Kept(Watched):
    """A part that keeps a copy of its start: the change is ‖p − p₀‖/‖p₀‖ (‖p‖ if p₀ is 0)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._start = [part.clone() for part in self.now()]

    def now(self) -> list[torch.Tensor]:
        """Return its current tensors, in float32 and in the shapes that are trained."""
        return [parameter.detach().float() for parameter in self.trained]

    def change(self) -> float | None:
        now = self.now()
        moved = math.hypot(*(float((a - b).norm()) for a, b in zip(now, self._start, strict=True)))
        size = math.hypot(*(float(part.norm()) for part in self._start))
        return moved / size if size else moved


class Trained(Kept):
    """A module of the model itself that is trained."""


@dataclass(frozen=True)
class Watching:
    """All parts of a method on a model.

    Attributes:
        attention: for methods whose tokens are watched: given the model and one row of inputs, returns the share of
            every head's attention on them, by layer and head.
    """

    parts: Sequence[Watched]
    attention: Callable[[Any, Mapping[str, torch.Tensor]], list[list[float]]] | None = None


def slot_of(path: str, shape: ModelShape) -> str:
    """Return a module's place in its block, by its path: ``q``, ``down``, ``norm`` ..."""
    collapsed = pattern(path)[0]
    hits = [g for g in shape.groups if collapsed == g.path or collapsed.endswith(f".{g.path}")]
    if not hits:
        return "other"
    group = max(hits, key=lambda each: len(each.path))
    if group.role:
        return group.role
    if group.is_norm:
        return "norm"
    return "embedding" if group.type == "Embedding" else "other"


def every_module(model: torch.nn.Module, shape: ModelShape) -> Watching:
    """Watch every module that has trained parameters of its own, as one part each; a task head is left out."""
    found = list(trained_modules(model, shape))
    amount = sum(parameter.numel() for *_, own in found for parameter in own)
    kind = Trained if amount <= KEPT_NUMBERS else Watched
    return Watching([kind(*each) for each in found])


def trained_modules(
    model: torch.nn.Module, shape: ModelShape
) -> Iterator[tuple[str, str, tuple[int, ...], list[torch.Tensor]]]:
    """Yield path, slot, shape of the largest parameter, and parameters of each module that trains."""
    for name, module in model.named_modules():
        own = {key: p for key, p in module.named_parameters(recurse=False) if p.requires_grad}
        if own and not in_head(name):
            path = clean_path(name)
            largest = max(own.values(), key=lambda parameter: parameter.numel())
            yield path, slot_of(path, shape), tuple(largest.shape), list(own.values())


def row(tensor: torch.Tensor) -> dict[str, Any]:
    """Return the picture of one vector, which has one dimension."""
    return tensor_picture(tensor, 1, LONG * 2)
