"""Record a run of a method: the parts that the drawing follows, and data of its own picture, such as intruders.

A method's ``recording`` declares both in one class, ``RunRecorder``, a :class:`Recorder`. Torch is imported inside.
"""

from __future__ import annotations

import base64
import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods import module_of
from peft_lab.methods.base import MethodSpec
from peft_lab.models.meta import clean_path, pattern_of
from peft_lab.models.shapes import ModelShape, in_head

Inputs = Mapping[str, "torch.Tensor"]  #: rows as the model reads them, padded on the right
FreshBase = Callable[[], "torch.nn.Module"]  #: makes the base as it was before the method was applied
ADAPTER = "default"  # PEFT's name of the only adapter

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


def row(tensor: torch.Tensor) -> dict[str, Any]:
    """Return the picture of one vector, which has one dimension."""
    return tensor_picture(tensor, 1, LONG * 2)


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
        """Return the number of its layer; ``None`` outside the layers."""
        return pattern_of(self.path)[1]

    @property
    def parameters(self) -> int:
        """Return the number of trained parameters."""
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


class WatchedFromStart(Watched):
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


def slot_of(path: str, shape: ModelShape) -> str:
    """Return a module's place in its block, by its path: ``q``, ``down``, ``norm`` ..."""
    collapsed = pattern_of(path)[0]
    hits = [g for g in shape.groups if collapsed == g.path or collapsed.endswith(f".{g.path}")]
    if not hits:
        return "other"
    group = max(hits, key=lambda each: len(each.path))
    if group.role:
        return group.role
    if group.is_norm:
        return "norm"
    return "embedding" if group.type == "Embedding" else "other"


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


class Recorder:
    """Follow every module that trains, and record no picture of the method's own. Subclasses override what they need.

    The model given to :meth:`__init__` is trained in place. Attributes that start with ``_`` are saved with the state
    of a run that may resume: plain values and tensors in lists and dicts.

    Attributes:
        rows: how many held-out rows :meth:`finish` gets, at most those the run is scored on.
        sees: whether the rows may be images; pictures that show tokens do not support them.
    """

    rows: ClassVar[int] = 4
    sees: ClassVar[bool] = False

    def __init__(self, model: torch.nn.Module, shape: ModelShape, values: Values) -> None:
        self.model: Any = model
        self.shape = shape
        self.values = values
        self._kept: list[tuple[int, Any]] = []

    @cached_property
    def parts(self) -> Sequence[Watched]:
        """Return the parts that the drawing follows. Read it before the first step: parts compare with their start."""
        return self.watched()

    def watched(self) -> Sequence[Watched]:
        """Return one part for each module with trained parameters of its own; a task head is left out."""
        found = list(trained_modules(self.model, self.shape))
        amount = sum(parameter.numel() for *_, own in found for parameter in own)
        kind = WatchedFromStart if amount <= KEPT_NUMBERS else Watched
        return [kind(*each) for each in found]

    def attention(self, inputs: Inputs) -> list[list[float]]:
        """Return the share of every head's attention on trained tokens, by layer and head; empty if there are none.
        ``inputs``: one row, without padding."""
        return []

    def after_backward(self, step: int) -> None:
        """Observe a step (from 0) after its backward pass, with gradients in place and before the update."""

    def now(self) -> Any:
        """Return the data of a snapshot of the present state, tensors in their own shapes; ``None`` for no data."""

    def snapshot(self, step: int) -> None:
        """Record a snapshot before training (0), at some steps and after the last; ``step``: updates made so far."""
        state = self.now()
        if state is not None:
            self._kept.append((step, state))

    def finish(self, inputs: Inputs, fresh_base: FreshBase) -> dict[str, Any]:
        """Return the data of the method's own picture. Called once, with the trained model in eval mode.

        Args:
            inputs: the first ``rows`` held-out rows (input_ids, attention_mask), or pixel_values.

        Returns:
            what to store, by name: JSON-able values go to ``insight.json``, numpy arrays to ``insight.npz``.
        """
        return {}


def start(method: MethodSpec, model: torch.nn.Module, shape: ModelShape, values: Values) -> Recorder:
    """Return the recorder for a method's run, given an adapted model before training."""
    module, name = method.recorder(values)
    found = module_of("peft_lab.methods", module)
    kind: Callable[..., Recorder] = Recorder if found is None else getattr(found, name)
    return kind(model, shape, values)


def copied(trained: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return copies of some parameters by name, each of its own shape."""
    return {name: parameter.detach().clone() for name, parameter in trained.items()}


@contextmanager
def restored(trained: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Give some parameters the values of another state, of the same names and shapes, until the block is left."""
    present = copied({name: trained[name] for name in state})
    try:
        with torch.no_grad():
            for name, tensor in state.items():
                trained[name].copy_(tensor)
        yield
    finally:
        with torch.no_grad():
            for name, tensor in present.items():
                trained[name].copy_(tensor)


def merge_check(
    model: torch.nn.Module, inputs: Inputs, layers: Callable[[Any], Iterator[tuple[str, Any]]]
) -> list[dict[str, Any]]:
    """Merge a copy of a PEFT model in float32 and in bfloat16 and unmerge it again; the given model is not changed.

    Args:
        inputs: ids and mask of shape (rows, length), or pixel_values.
        layers: yields the adapted modules of a model, each with its path.

    Returns:
        one row per type: the largest difference of the logits after merging and after unmerging, the logits' own
        largest magnitude, the first over that, and the share of W's entries that differ after unmerging.
    """
    rows = []
    for name in ("float32", "bfloat16"):
        tried: Any = copy.deepcopy(model).to(getattr(torch, name)).eval()
        # PEFT warns that IA³'s division is not exact, which is what is measured here.
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            before = tried(**inputs).logits.float()
            tried.merge_adapter()
            moved = float((tried(**inputs).logits.float() - before).abs().max())
            tried.unmerge_adapter()
            back = float((tried(**inputs).logits.float() - before).abs().max())
        entries = changed = 0
        for (_, module), (_, original) in zip(layers(tried), layers(model), strict=True):
            now = module.get_base_layer().weight
            entries += now.numel()
            changed += int((now != original.get_base_layer().weight.to(now.dtype)).sum())
        most = float(before.abs().max())
        rows.append(
            {
                "dtype": name,
                "max_difference": moved,
                "max_logit": most,
                "relative": moved / most if most else moved,  # for a model whose logits are all zero
                "unmerged_difference": back,
                "changed_share": changed / entries,
            }
        )
    return rows


# Shuttleworth et al. 2024, arXiv 2410.21228. The number of vectors examined and the cosine threshold are the defaults
# of PEFT's ``reduce_intruder_dimension``, which also compares left singular vectors only.


STRONGEST, INTRUDER_THRESHOLD = 10, 0.5


@dataclass(frozen=True)
class Intruders:
    """The strongest singular vectors of a tuned matrix compared with the pretrained ones.

    Attributes:
        cosines: absolute cosines by tuned, then by pretrained vector, of the strongest of each.
        nearest: for each tuned vector, the largest absolute cosine with any pretrained vector, strong or not.
        tuned, pretrained: singular values, descending, as many as there are cosines.
    """

    cosines: tuple[tuple[float, ...], ...]
    nearest: tuple[float, ...]
    tuned: tuple[float, ...]
    pretrained: tuple[float, ...]

    @property
    def found(self) -> tuple[int, ...]:
        """Return the numbers, from 1, of the tuned vectors that count as intruders."""
        return tuple(number for number, cosine in enumerate(self.nearest, 1) if cosine < INTRUDER_THRESHOLD)


def compare_singular_vectors(
    weight: torch.Tensor, change: torch.Tensor, strongest: int = STRONGEST
) -> Intruders:
    """Compare the left singular vectors of W + ΔW with those of W.

    Args:
        weight, change: W and ΔW, both (d_out, d_in), of any floating-point type.
        strongest: how many of the largest singular values to examine, at most min(d_out, d_in).
    """
    before, old, _ = torch.linalg.svd(weight.float(), full_matrices=False)
    after, new, _ = torch.linalg.svd(weight.float() + change.float(), full_matrices=False)
    cosines = (after[:, :strongest].T @ before).abs()
    return Intruders(
        cosines=tuple(map(tuple, cosines[:, :strongest].tolist())),
        nearest=tuple(cosines.max(dim=1).values.tolist()),
        tuned=tuple(new[:strongest].tolist()),
        pretrained=tuple(old[:strongest].tolist()),
    )
