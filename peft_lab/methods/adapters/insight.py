"""What adapters learnt: how much each adds to its input, and how far it is from linear.

A linear map could be merged into the frozen matrix before it, as LoRA's can. So the best linear replacement of each
adapter is fitted to real activations; its error is what merging would lose. Torch is imported inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_lab.methods.shared import bottleneck
from peft_lab.training.batches import writes_at

if TYPE_CHECKING:
    import torch

ADAPTER = "default"
AT_ONCE = 16  # rows of one forward pass
FITTED = 0.75  # share of the rows whose tokens the linear maps are fitted to; the rest tests them
ENOUGH = 2  # tokens per input of the map; with fewer, a fit is meaningless
TINY = 1e-10  # eigenvalues of the inputs' covariance below this share of the largest count as zero


@dataclass(frozen=True)
class Affine:
    """An affine map ``x @ matrix + offset``: (tokens, d_in) to (tokens, d_out), in float64 on the CPU."""

    matrix: torch.Tensor
    offset: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return _exact(x) @ self.matrix + self.offset


@contextmanager
def listening(model: torch.nn.Module) -> Iterator[dict[str, list[Any]]]:
    """Yield every adapter's inputs and outputs, by its host's path, as the model runs: pairs (rows, length, width)."""
    heard: dict[str, list[Any]] = {}
    handles = []
    for path, (module, scale) in bottleneck.modules_of(model, ADAPTER).items():
        heard[path] = []

        def note(_: Any, args: Any, output: Any, path: str = path, scale: float = scale) -> None:
            heard[path].append((args[0].detach(), output.detach() * scale))

        handles.append(module.register_forward_hook(note))
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def answers(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits of each row, float32: of the classes, or of the token after the last one.

    Of shape (rows, classes) or (rows, vocabulary).
    """
    import torch

    found: list[Any] = [None] * len(inputs["input_ids"])
    with torch.no_grad():
        for rows, chunk in _chunks(inputs):
            logits = model(**chunk).logits
            if logits.dim() == 3:
                last = writes_at(model, chunk).sum(1) - 1
                logits = logits[torch.arange(len(logits)), last]
            for row, values in zip(rows, logits.float(), strict=True):
                found[row] = values
    return torch.stack(found)


def activations(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return each adapter's input and output on the real tokens of ``inputs``: ``path: (reads, gives, rows)``, both
    (tokens, width) in float32 on the CPU, and the row index of every token (tokens,)."""
    import torch

    with listening(model) as heard:
        answers(model, inputs)
    chunks = list(_chunks(inputs))
    read = [chunk["attention_mask"].bool() for _, chunk in chunks]
    written = [writes_at(model, chunk).bool() for _, chunk in chunks]
    found: dict[str, Any] = {}
    for path, pairs in heard.items():
        masks = read if path.startswith("encoder.") else written
        sides = (
            torch.cat([pair[side][real] for pair, real in zip(pairs, masks, strict=True)]).float().cpu()
            for side in (0, 1)
        )
        rows = [
            torch.tensor(rows, device=real.device)[:, None].expand_as(real)[real]
            for (rows, _), real in zip(chunks, masks, strict=True)
        ]
        found[path] = (*sides, torch.cat(rows).cpu())
    return found


def added(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the mean over tokens of ‖output‖ / ‖input‖ of each adapter, by the host's path.

    ``inputs``: ids and mask of shape (rows, length).
    """
    return {
        path: float((gives.norm(dim=1) / reads.norm(dim=1)).mean())
        for path, (reads, gives, _) in activations(model, inputs).items()
    }


def fit(x: torch.Tensor, y: torch.Tensor) -> Affine:
    """Fit the affine map from ``x`` (tokens, d_in) to ``y`` (tokens, d_out) by least squares."""
    import torch

    x, y = _exact(x), _exact(y)
    middle_x, middle_y = x.mean(0), y.mean(0)
    centred = x - middle_x
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    inverse = torch.where(values > TINY * values[-1], 1 / values, 0.0)
    matrix = vectors @ (inverse[:, None] * (vectors.T @ (centred.T @ (y - middle_y))))
    return Affine(matrix, middle_y - middle_x @ matrix)


def missed(line: Affine, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return ‖y - line(x)‖ / ‖y - its mean‖: 0 for a linear ``y``, 1 if the line is no better than a constant.

    ``x`` of shape (tokens, d_in), ``y`` (tokens, d_out).
    """
    wanted = _exact(y)
    spread = float((wanted - wanted.mean(0)).norm())
    return float((wanted - line(x)).norm()) / spread if spread else 0.0


def fits(
    model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]
) -> dict[str, tuple[Affine, float, float]]:
    """Return, for every adapter, the best affine map in its place, that map's error on other rows, and the error of the
    same fit to the same matrices without their nonlinear function, which is what a LoRA computes.

    ``inputs``: ids and mask of shape (rows, length). Both errors are as defined by :func:`missed`.

    Empty if there are too few tokens to fit.
    """
    import torch

    heard = activations(model, inputs)
    modules = bottleneck.modules_of(model, ADAPTER)
    found = {}
    for path, (reads, gives, rows) in heard.items():
        train = rows < int(FITTED * len(inputs["input_ids"]))
        if int(train.sum()) < ENOUGH * reads.shape[1] or bool(train.all()):
            return {}
        straight, width = _without_function(modules[path][0], reads), gives.shape[1]
        both = fit(reads[train], torch.cat([gives[train], straight[train]], 1))
        line = Affine(both.matrix[:, :width], both.offset[:width])
        control = Affine(both.matrix[:, width:], both.offset[width:])
        found[path] = (
            line,
            missed(line, reads[~train], gives[~train]),
            missed(control, reads[~train], straight[~train]),
        )
    return found


def _exact(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` in float64 on the CPU; Apple's GPUs do not support it."""
    return x.cpu().double()


def _without_function(module: Any, reads: torch.Tensor) -> torch.Tensor:
    import torch

    down, up = module.down, module.up
    with torch.no_grad():
        inside = _exact(reads) @ _exact(down.weight).T + _exact(down.bias)
        return inside @ _exact(up.weight).T + _exact(up.bias)


@contextmanager
def straightened(model: torch.nn.Module, lines: Mapping[str, Affine]) -> Iterator[None]:
    """Replace every adapter by an affine map: the model that merging would leave."""
    handles = []
    for path, (module, scale) in bottleneck.modules_of(model, ADAPTER).items():

        def replace(
            _: Any, args: Any, output: Any, line: Affine = lines[path], scale: float = scale
        ) -> torch.Tensor:
            return (line(args[0]) / scale).to(output)

        handles.append(module.register_forward_hook(replace))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _chunks(inputs: Mapping[str, torch.Tensor]) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """Yield chunks of rows of similar length, cut to the chunk's longest row, with the rows' numbers."""
    lengths = inputs["attention_mask"].sum(1)
    order = lengths.argsort(stable=True).tolist()
    for first in range(0, len(order), AT_ONCE):
        rows = order[first : first + AT_ONCE]
        longest = int(lengths[rows].max())
        chunk = {name: inputs[name][rows, :longest] for name in ("input_ids", "attention_mask")}
        if "decoder_input_ids" in inputs:
            chunk["decoder_input_ids"] = inputs["decoder_input_ids"][rows]
        yield rows, chunk
